#!/usr/bin/env bash
# What compiled programs rely on in libipc.so: its soname, its symbols and their parameters, every structure byte for byte, every
# enumerator and constant. Compares it with ipc-ffi/abi.txt, which is there to be read in review. Usage: ./ci/abi.sh
#   IPC_BLESS=1 ./ci/abi.sh   writes ipc-ffi/abi.txt instead
#
# Promise: the symbols are those of the library that cargo built, sizes and offsets those of the C compiler. Refusal: nothing of the
# library's insides is looked at, so that what is not in the header can change freely.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
. ci/tools.sh

need_tools cargo cc=gcc nm=binutils readelf=binutils

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
committed=ipc-ffi/abi.txt
work=$target/abi
mkdir -p "$work"

cargo build -q --release -p ipc-ffi --target-dir "$target"
library=$target/release/libipc.so

nm -D --defined-only --format=posix "$library" | awk '{ print $1 }' | sort >"$work/symbols"
if grep -v '^ipc_' "$work/symbols"; then
    echo "abi: libipc.so exports what does not begin with ipc_ (above)" >&2
    exit 1
fi

# A C program that says what the compiler makes of the header: each declaration as it is written there, and the numbers behind it.
# Without the headers of the system nothing but our declarations is left.
sed '/^#include/d' include/ipc.h | cc -std=c11 -E -P -x c - | awk '
    { text = text " " $0 }

    function last_word(words) { sub(/^.*[^A-Za-z0-9_]/, "", words); return words }
    function trimmed(words) { sub(/^ +/, "", words); sub(/ +$/, "", words); return words }

    # Of "kind name { body } name": what is between the braces.
    function body(item) { sub(/^[^{]*\{/, "", item); sub(/\}[^}]*$/, "", item); return item }

    # Fields are "type name" or "type name, name".
    function structure(item,    name, fields, names, count, named, i, n, type, field) {
        name = item
        sub(/ *\{.*/, "", name)
        name = last_word(name)
        printf "    printf(\"struct %s: %%zu bytes, aligned to %%zu\\n\", ", name
        printf "sizeof(struct %s), _Alignof(struct %s));\n", name, name
        count = split(body(item), fields, ";")
        for (i = 1; i <= count; i++) {
            named = split(trimmed(fields[i]), names, / *, */)
            for (n = 1; n <= named; n++) {
                field = last_word(names[n])
                if (n == 1) type = substr(names[1], 1, length(names[1]) - length(field))
                printf "    printf(\"struct %s %%4zu +%%zu %s%s\\n\", ", name, type, field
                printf "offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));\n", name, field, name, field
            }
        }
    }

    function enumeration(item,    name, names, count, i, enumerator) {
        name = item
        sub(/ *\{.*/, "", name)
        name = last_word(name)
        count = split(body(item), names, ",")
        for (i = 1; i <= count; i++) {
            enumerator = trimmed(names[i])
            sub(/ *=.*/, "", enumerator)
            if (enumerator != "") printf "    printf(\"enum %s %%4d %s\\n\", (int)%s);\n", name, enumerator, enumerator
        }
    }

    function prototype(kind, item,    name, parameters, result) {
        name = parameters = item
        sub(/\(.*/, "", name)
        sub(/^[^(]*\(/, "(", parameters)
        result = name
        name = last_word(name)
        sub(/[A-Za-z0-9_]+$/, "", result)
        printf "    puts(\"%s %s: %s %s\");\n", kind, name, trimmed(result), trimmed(parameters)
    }

    # How long the text between a brace and its counterpart is.
    function braced(words,    at, depth, letter) {
        for (at = 1; at <= length(words); at++) {
            letter = substr(words, at, 1)
            if (letter == "{") depth++
            if (letter == "}" && --depth == 0) return at
        }
        return length(words)
    }

    END {
        gsub(/[ \t]+/, " ", text)
        print "#include <ipc.h>\n#include <stdio.h>\nint main(void) {"
        while (match(text, /^[^;{]*(\{[^}]*\}[^;{]*)?;/)) {
            # What programs have compiled in is their own; that it is there, and what it works on, is not.
            if (match(text, /^ *static inline [^;{]*\{/)) {
                item = trimmed(substr(text, 1, RLENGTH - 1))
                prototype("inline", substr(item, 15))
                text = substr(text, RLENGTH)
                text = substr(text, braced(text) + 1)
                continue
            }
            match(text, /^[^;{]*(\{[^}]*\}[^;{]*)?;/)
            item = trimmed(substr(text, 1, RLENGTH - 1))
            text = substr(text, RLENGTH + 1)
            if (item ~ /^(typedef )?struct [^{]*\{/) structure(item)
            else if (item ~ /^enum [^{]*\{/) enumeration(item)
            else if (item ~ /^typedef /) printf "    puts(\"type %s\");\n", substr(item, 9)
            else if (item ~ /\)$/) prototype("function", item)
            else unknown = unknown item "\n"
        }
        print "}"
        if (unknown trimmed(text) != "") {
            print "abi: not understood in include/ipc.h: " unknown text > "/dev/stderr"
            exit 1
        }
    }' >"$work/abi.c"
cc -std=c11 -Iinclude -o "$work/abi" "$work/abi.c"

{
    "$work/abi"
    readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/soname \1/p'
    # Versions change with each release, and say nothing about the interface.
    sed -n '/IPC_VERSION/d; s/^#define \(IPC_[A-Z0-9_]*\) \(-\{0,1\}[0-9]*\)$/constant \1 = \2/p' include/ipc.h
} | sort >"$work/abi.txt"

sed -n 's/^function \([a-z0-9_]*\):.*/\1/p' "$work/abi.txt" >"$work/declared"
if ! diff "$work/declared" "$work/symbols"; then
    echo "abi: < is declared in include/ipc.h, > is exported by libipc.so" >&2
    exit 1
fi

if [ -n "${IPC_BLESS:-}" ]; then
    cp "$work/abi.txt" "$committed"
fi
if ! diff -u "$committed" "$work/abi.txt"; then
    cat >&2 <<'END'
abi: the interface of libipc.so is not the one in ipc-ffi/abi.txt (above; + is new).
Programs that were compiled before go on working if functions, constants or enumerators were added, or fields at the end of a structure
that begins with its size. Then, or as long as nothing was released: IPC_BLESS=1 ./ci/abi.sh. Otherwise it is another interface, and
another version in Cargo.toml, from which the soname comes.
END
    exit 1
fi
echo "abi: $(wc -l <"$work/symbols") symbols, all as in $committed"
