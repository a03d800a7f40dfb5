#!/usr/bin/env bash
# The unit tests of ipc-core under sanitizers. Usage: ./ci/sanitize.sh [address | thread]; without arguments both run.
# Needs a nightly toolchain, and says so and passes without one.
#   address  AddressSanitizer and leak detection over rings, cells, offsets and everything that asks the system
#   thread   ThreadSanitizer over the tests that share memory between threads
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v rustup >/dev/null 2>&1 || ! rustup run nightly rustc --version >/dev/null 2>&1; then
    echo "sanitize: skipped, there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
triple=x86_64-unknown-linux-gnu
if [ "$(rustc -vV | sed -n 's/^host: //p')" != "$triple" ]; then
    echo "sanitize: skipped, this runs on $triple only"
    exit 0
fi

# $1: the sanitizer, which has a target directory of its own; $2: more compiler flags; then: test filters.
sanitized() {
    local sanitizer=$1 filter tests
    # With --target, the flags are for the tests alone, not for build scripts and macros.
    local -x RUSTFLAGS="-Zsanitizer=$1 $2"
    local cargo=(cargo +nightly test -p ipc-core --lib --target "$triple" --target-dir "target/sanitize-$sanitizer")
    shift 2
    echo "sanitize: $sanitizer: $*"
    tests=$("${cargo[@]}" -- --list)
    for filter in "$@"; do
        # A test that was renamed must not drop out unseen.
        grep -qF -- "$filter" <<<"$tests" && continue
        echo "sanitize: no test has $filter in its name" >&2
        exit 1
    done
    "${cargo[@]}" -- "$@"
}

address() {
    sanitized address "" ring:: cell:: offset:: os::
}

# What ThreadSanitizer judges are plain accesses: payloads that are copied in and out of a ring (it sees `memcpy`), and moved
# values. They are ordered by [P1]/[A1] and [P2]/[A2] alone. What it cannot judge: accesses that are all atomic never race, so a
# cell is only checked to be made of those; and it does not know fences, on which the doorbell and the cell rely. The loom
# models cover both.
#
# The standard library comes ready-made and is not instrumented (hence the flag that allows the mix), so it misses how that
# library hands values from thread to thread. The suppressions name those hand-overs and nothing of this project: none of
# their functions is ever below a test in a stack.
#   Packet, thread::Inner      the result and the name of a finished thread, freed by whoever drops the last `Arc`
#   CompletedTest, run_test    the test harness, which sends a test's result over a channel and drops the test
# The longest history: a race whose first half ThreadSanitizer cannot show any more is not reported at all.
thread() {
    mkdir -p target/sanitize-thread
    local suppressions=$PWD/target/sanitize-thread/suppressions
    cat >"$suppressions" <<'END'
race:std::thread::lifecycle::Packet
race:alloc::sync::Arc<std::thread::thread::Inner
race:test::event::CompletedTest
race:alloc::sync::Arc<std::sync::poison::mutex::Mutex<core::option::Option<test::run_test
END
    TSAN_OPTIONS="suppressions=$suppressions:history_size=7:${TSAN_OPTIONS:-}" \
        sanitized thread -Cunsafe-allow-abi-mismatch=sanitizer \
        two_threads_pass_every_message a_reader_beside_a_busy_writer readers_and_the_writer_can_move \
        forks_while_other_threads
}

case "${1:-all}" in
address) address ;;
thread) thread ;;
all)
    address
    thread
    ;;
*)
    echo "usage: $0 [address | thread]" >&2
    exit 2
    ;;
esac
