# Shared by deploy/quickstart and deploy/test: checks, packages, headlines. Sourced, not run.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Everything that is built lies here, outside of the source tree.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cairn/target}"
BIN="$CARGO_TARGET_DIR/release"
MIN_RUST=1.95
# RocksDB's objects and the debug information of our own crates.
MIN_FREE_GIB=6

if [ -t 1 ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; else BOLD='' PLAIN=''; fi
STEP='' STEP_START=0 RUN_START=$SECONDS

# step TEXT: ends the step before, with its duration, and begins one.
step() {
    step_done
    STEP=$1 STEP_START=$SECONDS
    printf '%s==> %s%s\n' "$BOLD" "$STEP" "$PLAIN"
}

step_done() {
    [ -z "$STEP" ] || printf '    %s: %ds\n' "$STEP" $((SECONDS - STEP_START))
    STEP=''
}

say() { printf '    %s\n' "$*"; }

# refuse REASON WHAT-TO-DO: ends the script before it has changed anything.
refuse() {
    printf '\n%s: %s\n  %s\n' "$(basename "$0")" "$1" "$2" >&2
    exit 1
}

# as_root COMMAND…: runs it as root, or fails if there is no way to.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

may_be_root() {
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null
}

check_rust() {
    command -v cargo >/dev/null || refuse "cargo is not installed (or not in PATH)" \
        "Install Rust $MIN_RUST or newer from https://rustup.rs, then run this again."
    local have
    have=$(rustc --version | awk '{print $2}')
    [ "$(printf '%s\n' "$MIN_RUST" "$have" | sort -V | head -1)" = "$MIN_RUST" ] || refuse \
        "Rust $have is too old; $MIN_RUST is needed" "Run: rustup update stable"
}

check_fuse() {
    [ -e /dev/fuse ] || { may_be_root && as_root modprobe fuse 2>/dev/null; } || true
    [ -e /dev/fuse ] || refuse "/dev/fuse is missing: this kernel or container has no FUSE" \
        "Load the module (modprobe fuse), or start the container with --device /dev/fuse --cap-add SYS_ADMIN."
    # The only test that tells: a container may show the device and forbid it.
    (exec 3<>/dev/fuse) 2>/dev/null || refuse "/dev/fuse cannot be opened by $(id -un)" \
        "Run as root, or allow it: in a container --device /dev/fuse --cap-add SYS_ADMIN."
}

check_space() {
    mkdir -p "$CARGO_TARGET_DIR"
    local free
    free=$(df --output=avail -BG "$CARGO_TARGET_DIR" | tail -1 | tr -dc 0-9)
    [ -x "$BIN/cairn-meta" ] || [ "$free" -ge $MIN_FREE_GIB ] || refuse \
        "$CARGO_TARGET_DIR has $free GiB free; the build needs $MIN_FREE_GIB" \
        "Make room, or name another folder: CARGO_TARGET_DIR=DIR $0"
}

# packages NAME…: installs the Debian packages that are missing.
packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    if [ ${#missing[@]} = 0 ]; then
        say "installed: $*"
        return
    fi
    command -v apt-get >/dev/null || refuse "these packages are missing, and there is no apt-get: ${missing[*]}" \
        "Install them (a C++ compiler, libclang, FUSE 3) in your system's way, then run this again."
    may_be_root || refuse "these packages are missing: ${missing[*]}" \
        "You are neither root nor have sudo. Let an administrator run: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# What the build itself needs: a C++ compiler for RocksDB, libclang for its bindings.
BUILD_PACKAGES=(g++ libclang-dev fuse3)
# Programs that mounted tests run: access control lists, and what copies them.
TEST_PACKAGES=(acl attr rsync)

check_machine() {
    step "checking this machine"
    [ "$(uname -s)" = Linux ] || refuse "this is $(uname -s); Cairn runs on Linux" "Use a Linux machine."
    check_rust
    check_fuse
    check_space
    say "$(rustc --version), /dev/fuse works, building in $CARGO_TARGET_DIR"
}
