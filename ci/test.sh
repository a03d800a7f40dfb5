#!/usr/bin/env bash
# All tests of the project. Usage: ./ci/test.sh [STEP...]; without arguments every step runs.
# Installs components of Rust and, where it can without asking (tools.sh), packages that a step lacks; says exactly what to install
# where it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/tools.sh
. ci/tools.sh

need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "missing: $1; install it with: $2" >&2
    exit 1
}

component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    echo "missing: cargo $1; installing it"
    need rustup "https://rustup.rs"
    rustup component add "$2"
}

step_format() {
    component fmt rustfmt
    cargo fmt --all --check
}

step_clippy() {
    component clippy clippy
    cargo clippy --workspace --all-targets -- -D warnings
    # The command brings the feature `tokio` into the workspace.
    cargo clippy -p ipc-core --all-targets -- -D warnings
    cargo clippy -p ipc-cli --no-default-features --all-targets -- -D warnings
    cargo clippy -p ipc-core --no-default-features -- -D warnings
    cargo clippy -p ipc-core -p ipc-tests --features ipc-core/tokio,ipc-tests/tokio --all-targets -- -D warnings
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    RUSTDOCFLAGS="-D warnings" cargo doc -p ipc-core --no-deps
}

step_unit() {
    cargo test --workspace --exclude ipc-tests
    # Nobody gets a runtime who has not asked for one.
    if cargo tree -p ipc-core -e normal --prefix none | grep -q '^tokio '; then
        echo "ipc-core depends on tokio without its feature" >&2
        return 1
    fi
    cargo test -p ipc-core --features tokio --doc
    cargo test -p ipc-core --features tokio --lib tokio::
    cargo test -p ipc-core --features tokio --test tokio
}

# Two processes: kill, hostile peers, namespaces, silence. Optimised, as users run it.
step_processes() {
    need_tools unshare=util-linux c++=g++ python3 valgrind
    cargo build --release -p ipc-cli
    cargo test --release -p ipc-tests
    cargo test --release -p ipc-tests --features tokio --test tokio
}

# A filter that finds no model must not pass for a proof.
step_models() {
    LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" RUSTFLAGS="--cfg loom" \
        cargo test -p ipc-core --release --lib --target-dir target/loom models | tee target/models.log
    grep -q "test result: ok. [1-9][0-9]* passed" target/models.log
}

# Built alone, so that no other crate of the workspace switches `std` on.
step_no_std() {
    cargo build -p ipc-no-std-proof
    cargo test -p ipc-no-std-proof
}

# What compiled C programs rely on: symbols, structures, numbers.
step_abi() {
    ci/abi.sh
}

# Projects in C and C++ that find, contain or download the library.
step_consumers() {
    ci/consumers.sh
}

step_fuzz() {
    ci/fuzz.sh short
}

step_sanitize() {
    ci/sanitize.sh
    ci/sanitize-c.sh
}

# Every case of the benchmark runs; what it measures on a machine that does other things is not judged.
step_bench() {
    cargo run --release -q -p ipc-cli -- bench --rounds 1 --effort 10 --json >/dev/null
    cargo run --release -q -p ipc-cli -- bench lanes --rounds 1 --effort 1 --json >/dev/null
    cargo build --release -q -p ipc-ffi
    cargo run --release -q -p ipc-cli -- bench c --rounds 1 --effort 1 --json >/dev/null
    cargo run --release -q -p ipc-cli -- bench tokio --rounds 1 --effort 1 --json >/dev/null
    cargo bench -p ipc-core --bench parts -- --test >/dev/null
}

step_demo() {
    cargo run --release -q -p ipc-cli -- demo --seconds 1
}

need cargo "https://rustup.rs"
need_tools cc=gcc
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(format clippy docs unit no_std models processes abi consumers fuzz sanitize bench demo)
for step in "${steps[@]}"; do
    echo "== $step"
    start=$SECONDS
    "step_$step"
    echo "== $step: ok, $((SECONDS - start)) s"
done
echo "all steps passed in $SECONDS s"
