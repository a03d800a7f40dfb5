#!/usr/bin/env bash
# Hostile bytes. Usage: ./ci/fuzz.sh [short | long [SECONDS]]
#   short  a million mutated states of a ring, a hundred thousand handshakes, twenty thousand segments, twenty thousand connections with
#          everything that lies beside the ring; the same every time.
#          Under AddressSanitizer if there is a nightly toolchain. The default.
#   long   cargo fuzz, so many seconds (default: 300) for each target; installs cargo-fuzz when it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

triple=$(rustc -vV | sed -n 's/^host: //p')
targets=(segment handshake attach lanes)

nightly() {
    command -v rustup >/dev/null 2>&1 && rustup run nightly rustc --version >/dev/null 2>&1
}

short() {
    local toolchain=() flags="--cfg fuzzing"
    if nightly; then
        toolchain=(+nightly)
        flags+=" -Zsanitizer=address"
    else
        echo "fuzz: no nightly toolchain, so this runs without AddressSanitizer (rustup toolchain install nightly)"
    fi
    # With --target, the flags are for the program alone, not for build scripts and macros.
    RUSTFLAGS="$flags" cargo "${toolchain[@]}" build --release --no-default-features --bin states \
        --manifest-path fuzz/Cargo.toml --target "$triple" --target-dir target/fuzz
    for target in "${targets[@]}"; do
        # Each state frees all it took: a small quarantine keeps the memory in the cache.
        ASAN_OPTIONS="quarantine_size_mb=8:${ASAN_OPTIONS:-}" "target/fuzz/$triple/release/states" "$target"
    done
}

long() {
    local seconds=$1
    if ! nightly; then
        echo "fuzz: cargo fuzz needs a nightly toolchain: rustup toolchain install nightly" >&2
        exit 1
    fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        echo "fuzz: installing cargo-fuzz"
        cargo install --locked cargo-fuzz
    fi
    for target in "${targets[@]}"; do
        echo "fuzz: $target, $seconds s"
        cargo +nightly fuzz run "$target" --target-dir target/fuzz-long -- \
            -max_total_time="$seconds" -timeout=10 -max_len=8192 -print_final_stats=1
    done
}

case "${1:-short}" in
short) short ;;
long) long "${2:-300}" ;;
*)
    echo "usage: $0 [short | long [SECONDS]]" >&2
    exit 2
    ;;
esac
