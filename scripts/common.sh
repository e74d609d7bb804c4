# shellcheck shell=bash
# What the scripts that set a machine up have in common; sourced.

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# The files under /etc and /usr/sbin need root: `as_root CMD...`.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo -- "$@"
    fi
}
