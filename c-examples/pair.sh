#!/bin/sh
# Runs two commands that meet under the name $NAME, and fails if either does: pair.sh SERVER CLIENT
set -eu
FOLDER=$(mktemp -d)
NAME=$FOLDER/socket
export FOLDER NAME

sh -c "$1" &
server=$!
trap 'rm -rf "$FOLDER"; [ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
until [ -S "$NAME" ]; do
    kill -0 "$server" || exit 1
    sleep 0.05
done
sh -c "$2"
wait "$server"
server=
