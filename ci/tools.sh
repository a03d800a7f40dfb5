# Tools from the system's packages, for the scripts here to source. Nothing happens until a function is called.
#
# Promise: a missing tool is installed where that is possible without a question (apt-get, as root or with sudo that asks for no
# password); otherwise the script ends with the command that installs it. Refusal: nothing is upgraded, no repository is added.

# Installs packages, or says that somebody else has to. $@: names of packages.
install_packages() {
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
        echo "missing: $*; installing"
        # Somebody else may be installing at the moment.
        local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
        if "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null; then
            return
        fi
    fi
    echo "missing: $*; install with: apt-get install $*" >&2
    return 1
}

# Ends the script unless all commands are there or could be installed. $@: COMMAND, or COMMAND=PACKAGE where those differ.
need_tools() {
    local tool packages=()
    for tool in "$@"; do
        command -v "${tool%%=*}" >/dev/null 2>&1 || packages+=("${tool#*=}")
    done
    [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}" || exit 1
    for tool in "$@"; do
        command -v "${tool%%=*}" >/dev/null 2>&1 && continue
        echo "missing: ${tool%%=*}, although ${tool#*=} is installed" >&2
        exit 1
    done
}

# clang is in one package, the run-time libraries of its sanitizers in another that has clang's version in its name.
need_clang_sanitizers() {
    need_tools clang
    clang_sanitizes || install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" || exit 1
    clang_sanitizes && return
    echo "missing: clang -fsanitize=address,undefined does not link" >&2
    exit 1
}

clang_sanitizes() {
    echo 'int main(void) { return 0; }' | clang -fsanitize=address,undefined -x c - -o /dev/null 2>/dev/null
}
