#!/bin/sh
# Two containers' worth of namespaces: each program has users, processes, System V objects, mounts and a network of its
# own, and shares nothing with the other but a folder.
#
#     ./namespaces.sh ./ping_pong ../target/release/examples/ping_pong      # a server in C, a client in Rust
#
# Exits with 77 where the system does not permit this.
set -eu
[ $# -eq 2 ] || { echo "usage: namespaces.sh SERVER CLIENT" >&2; exit 2; }

shared=$(mktemp -d)
server=
trap 'rm -rf "$shared"; [ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

# Runs a command where /mnt is the shared folder.
contained() {
    unshare --user --map-root-user --pid --fork --kill-child --ipc --mount --net \
        sh -c 'mount --bind "$0" /mnt && "$@"' "$shared" "$@"
}

if ! why=$(contained true 2>&1); then
    echo "skipped: namespaces are not permitted here: $why"
    exit 77
fi
contained "$1" server /mnt/court &
server=$!
contained "$2" client /mnt/court
wait "$server"
server=
