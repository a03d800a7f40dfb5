#!/usr/bin/env bash
# C and C++ projects that use libipc: installed and found by CMake or by pkg-config, as a folder of theirs, downloaded. Each is built with
# gcc and clang, runs against the shared and the static library, in each standard that the compiler knows, and under sanitizers.
# Usage: ./ci/consumers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/tools.sh

need_tools cargo cmake make pkg-config gcc g++ clang
need_clang_sanitizers

root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/consumers
rm -rf "$work"
mkdir -p "$work"
log=$work/log
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all"
export UBSAN_OPTIONS=print_stacktrace=1

# Runs a command that is silent unless it fails.
quietly() {
    "$@" >"$log" 2>&1 && return
    cat "$log" >&2
    echo "consumers: failed: $*" >&2
    exit 1
}

# Configures, builds and tests a project. $1: its folder; $2: where to build; then: more for cmake.
project() {
    local source=$1 build=$2
    shift 2
    quietly cmake -S "$source" -B "$build" "$@"
    quietly cmake --build "$build"
    quietly ctest --test-dir "$build" -E '^ipc_rust$' --output-on-failure --no-tests=error
}

# The first of some standards that compiler $1 knows, or nothing.
standard() {
    local compiler=$1 language=$2 name
    shift 2
    for name in "$@"; do
        if "$compiler" "-std=$name" -x "$language" -fsyntax-only /dev/null 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

# What cargo builds and what CMake installs are the same files.
echo "consumers: install"
project "$root" "$work/libipc" -DCMAKE_BUILD_TYPE=Release -DIPC_CARGO_TARGET_DIR="$target"
quietly cmake --install "$work/libipc" --prefix "$work/prefix"
quietly cargo build --release -p ipc-ffi --target-dir "$target"
cmp "$target/release/libipc.so" "$work/prefix/lib/libipc.so"
cmp "$target/release/libipc.a" "$work/prefix/lib/libipc.a"
for header in include/ipc.h*; do
    cmp "$header" "$work/prefix/$header"
done

# CMake asked an empty library what a static one needs; the real one must not need more.
libs=$(cargo rustc -p ipc-ffi --lib --crate-type staticlib --target-dir "$target" -- --print native-static-libs 2>&1 |
    sed -n 's/^note: native-static-libs: //p' | sed 's/-lgcc_s //; s/ -lc$//' | tail -1)
if [ -z "$libs" ] || ! grep -qxF "Libs.private: $libs" "$work/prefix/lib/pkgconfig/ipc.pc"; then
    echo "consumers: ipc.pc does not say that libipc.a needs: $libs" >&2
    exit 1
fi

# Found where it was moved to, so that nothing in it can depend on where it was built or installed.
mv "$work/prefix" "$work/moved"

for compilers in "gcc g++" "clang clang++"; do
    read -r cc cxx <<<"$compilers"
    with=(-DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$work/moved")
    echo "consumers: $cc: find_package"
    project tests/consumers/find_package "$work/find_package-$cc" "${with[@]}" -DCMAKE_BUILD_TYPE=Release
    project tests/consumers/find_package "$work/find_package-$cc-sanitized" "${with[@]}" -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_C_FLAGS="$sanitizers" -DCMAKE_CXX_FLAGS="$sanitizers"

    for age in "c11:c++17" "c17:c++20" "c23 c2x:c++23 c++2b" "c2y:c++26 c++2c"; do
        read -r c_std <<<"$(standard "$cc" c ${age%:*})"
        read -r cxx_std <<<"$(standard "$cxx" c++ ${age#*:})"
        for sanitize in "" "$sanitizers"; do
            for language in c cpp; do
                std=$([ $language = c ] && echo "$c_std" || echo "$cxx_std")
                [ -n "$std" ] || continue
                echo "consumers: $cc: pkg-config, $std${sanitize:+, sanitized}"
                programs=("shared_$language")
                [ -n "$sanitize" ] || programs+=("static_$language")
                quietly make -C tests/consumers/pkg_config OUT="$work" PKG_CONFIG_PATH="$work/moved/lib/pkgconfig" \
                    CC="$cc" CXX="$cxx" C_STD="$std" CXX_STD="$std" SANITIZE="$sanitize" "${programs[@]}"
            done
        done
    done
done

# Debug is cargo's profile dev, and the compiler another one than before.
echo "consumers: add_subdirectory"
project tests/consumers/add_subdirectory "$work/add_subdirectory" -DCMAKE_BUILD_TYPE=Debug -DIPC_CARGO_TARGET_DIR="$target" \
    -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++

# What a download would hold: the files of the repository as they are at the moment. Built where CMake lets cargo build if it is not
# told otherwise, and without the network, since everything is here already.
echo "consumers: FetchContent"
git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read --transform 's,^,ipc/,' -czf "$work/ipc.tar.gz" -T - 2>/dev/null
project tests/consumers/fetch_content "$work/fetch_content" -DCMAKE_BUILD_TYPE=Debug -DIPC_ARCHIVE="$work/ipc.tar.gz" \
    -DIPC_CARGO="cargo;--offline;--locked"
rm -rf "$work"
echo "consumers: all passed"
