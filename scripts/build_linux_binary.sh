#!/usr/bin/env bash
# Builds the program for other Linux machines: one stripped x86-64 binary that needs glibc 2.17 (2012) or newer and nothing
# else. Needs Rust, Python 3 with venv, and PyPI: the C compiler and linker are Zig's (`ziglang`, `cargo-zigbuild`), in an
# environment that is thrown away. Prints the file's path, size and highest symbol version on stdout.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
glibc=2.17
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 cargo-zigbuild==0.24.1
export PATH="$work/venv/bin:$PATH"

export CARGO_PROFILE_RELEASE_STRIP=symbols
cargo zigbuild --locked --release --target "$target.$glibc" --package aloud

# The names of symbol versions stand in the file's table of strings, each between zero bytes.
python3 - "${CARGO_TARGET_DIR:-target}/$target/release/aloud" "$glibc" <<'P'
import os, re, sys
path, limit = sys.argv[1:]
number = lambda version: tuple(int(part) for part in version.split("."))
found = re.findall(rb"\0GLIBC_([0-9.]+)(?=\0)", open(path, "rb").read())
highest = max((version.decode() for version in found), key=number)
print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB, needs glibc {highest}")
if number(highest) > number(limit):
    sys.exit(f"error: {path} needs glibc {highest}, expected at most {limit}")
P
