#!/usr/bin/env bash
# The C interface, used and misused from C, under tools that see what a test cannot. Usage: ./ci/sanitize-c.sh [address | valgrind | thread];
# without arguments all run.
#   address   the roles of the tests and every misuse, the programs compiled with -fsanitize=address,undefined
#   valgrind  memcheck over every misuse, a stream and a hostile peer, the library as it is
#   thread    ThreadSanitizer over programs and library; needs a nightly toolchain, and says so and passes without one
# Misuse is ipc-ffi/tests/abuse.rs, roles are tests/c.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/tools.sh
. ci/tools.sh

# $1: package; then: arguments of cargo test. Fails too where a filter finds no test.
tested() {
    local log
    log=$(mktemp)
    cargo test --release "$@" 2>&1 | tee "$log" | grep -E "^test .* \.\.\. (FAILED|ignored)|^test result|panicked|ERROR|runtime error|==[0-9]+==" || true
    if ! grep -q "test result: ok. [1-9]" "$log" || grep -q "test result: FAILED\|^error" "$log"; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

address() {
    need_clang_sanitizers
    # A size that no machine has is the library's to refuse, not the allocator's to die of.
    local -x CC=clang ASAN_OPTIONS="allocator_may_return_null=1:detect_stack_use_after_return=1:${ASAN_OPTIONS:-}"
    local -x IPC_TEST_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -DCOUNT_NO_ALLOCATIONS"
    echo "sanitize-c: address and undefined behaviour"
    tested -p ipc-ffi --test abuse
    # Not those that leave a process no address space: the sanitizer needs some.
    tested -p ipc-tests --test stress --test lanes --test kill --test lanes_kill --test namespaces --test hostile --test lanes_memory \
        -- c_and with_c
}

valgrind_all() {
    need_tools valgrind
    local -x IPC_TEST_UNDER="valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect"
    echo "sanitize-c: valgrind"
    tested -p ipc-ffi --test abuse
    tested -p ipc-tests --test stress -- c_and_c::sockets_and_blocks c_and_c::a_poller_and_a_sleeper
    tested -p ipc-tests --test hostile -- with_c::arbitrary_records
}

# The programs are linked by hand: clang's own run-time library may be older than what the library needs.
thread() {
    if ! command -v rustup >/dev/null 2>&1 || ! rustup run nightly rustc --version >/dev/null 2>&1; then
        echo "sanitize-c: thread is skipped, there is no nightly toolchain (rustup toolchain install nightly)"
        return
    fi
    need_tools clang
    local triple place runtime source case scratch
    triple=$(rustc -vV | sed -n 's/^host: //p')
    runtime=$(rustc +nightly --print sysroot)/lib/rustlib/$triple/lib/librustc-nightly_rt.tsan.a
    place=${CARGO_TARGET_DIR:-target}/sanitize-thread
    echo "sanitize-c: threads"
    RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
        cargo +nightly build -q -p ipc-ffi --target "$triple" --target-dir "$place"
    mkdir -p "$place/c"
    rm -f "$place"/c/*
    cp "$place/$triple/debug/libipc.so" "$place/c/libipc.so"
    # The name that programs look for.
    ln -s libipc.so "$place/c/$(readelf -d "$place/c/libipc.so" | sed -n 's/.*soname: \[\(.*\)\]/\1/p')"
    for source in ipc-ffi/tests/abuse/*.c; do
        clang -std=c11 -g -O1 -pthread -fsanitize=thread -Iinclude -c "$source" -o "$place/c/$(basename "$source" .c).o"
    done
    # shellcheck disable=SC2016
    cc "$place"/c/*.o "$place/c/libipc.so" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -Wl,--export-dynamic \
        '-Wl,-rpath,$ORIGIN' -no-pie -lpthread -ldl -lrt -lm -lresolv -o "$place/c/abuse"
    scratch=$(mktemp -d)
    # Not the case with a forked child that goes on: the sanitizer starts a thread of its own in there, which now and then dies.
    for case in threads outlives undelivered files open callbacks; do
        echo "sanitize-c: threads: $case"
        ABUSE_DIRECTORY=$scratch "$place/c/abuse" "$case"
    done
    rm -rf "$scratch"
}

case "${1:-all}" in
address) address ;;
valgrind) valgrind_all ;;
thread) thread ;;
all)
    address
    valgrind_all
    thread
    ;;
*)
    echo "usage: $0 [address | valgrind | thread]" >&2
    exit 2
    ;;
esac
