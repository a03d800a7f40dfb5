#!/usr/bin/env bash
# The long form of the kill tests: `kill -9` of either side at random moments, checked message by message, and the time
# until the survivor knew; then a tenth as many with megabytes on all lanes, in each mode. Usage: ./ci/kill.sh [ROUNDS], by default
# 10000 for each of the four ways to die.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds="${1:-10000}"
if [[ ! "$rounds" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 [ROUNDS]; ROUNDS is a number from 1 on, not '$rounds'" >&2
    exit 2
fi
if ! command -v cargo >/dev/null 2>&1; then
    echo "missing: cargo; install it with: https://rustup.rs" >&2
    exit 1
fi

echo "$rounds rounds for each of four ways to die; progress every 500 rounds"
IPC_KILL_ROUNDS="$rounds" cargo test --release -p ipc-tests --test kill -- killed --nocapture

lanes="$(((rounds + 9) / 10))"
echo "$lanes rounds for each of two ways to die, in each of four modes, on all lanes"
IPC_KILL_ROUNDS="$lanes" cargo test --release -p ipc-tests --test lanes_kill -- --nocapture
