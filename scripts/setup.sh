#!/usr/bin/env bash
# Prepares Debian 12 or newer. Needed beforehand: a Rust toolchain, root (or sudo) and the
# package registries. Only what is missing is installed; a second run changes nothing.
#
#   setup.sh run     what building, `make demo` and a node need; CRIU is built where the release
#                    has none that is new enough, in target/tools
#   setup.sh test    the above and the tools that the tests run on the cluster's /proc and files;
#                    those that are crates go to target/tools
#   setup.sh bench   the above and what the bench measures krg against
set -euo pipefail

readonly RUN_PACKAGES=(iproute2 procps util-linux)
readonly TEST_PACKAGES=(e2fsprogs mount psmisc htop lsof sysstat bsdextrautils tmux strace jq
    glances python3-psutil python3-numpy python3-prometheus-client ffmpeg
    prometheus-node-exporter curl openssl
    attr acl libacl1-dev rsync git sqlite3 vim-tiny stress-ng postgresql)
readonly BENCH_PACKAGES=(etcd-server etcd-client lxcfs sshfs bindfs openssh-sftp-server openssh-server
    openssh-client)
# Not in every release of every Debian-like system; a test of one of them says if it is absent.
readonly EXTRA_PACKAGES=(btop)
# Suites for file systems, from the crate registry; one of a new version replaces the old one.
readonly TEST_CRATES=(pjdfstest@0.2.2 fsx@0.3.2)
readonly POLICY=/usr/sbin/policy-rc.d

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

require_debian() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        die "this is not Debian or one of its kin (no apt-get): install the packages of the" \
            "same purpose by hand (ip, ps, unshare, a C compiler; for tests also:" \
            "${TEST_PACKAGES[*]})"
    fi
    local ID="" VERSION_ID=""
    # shellcheck source=/dev/null
    [[ ! -r /etc/os-release ]] || . /etc/os-release
    if [[ $ID == debian && -n $VERSION_ID ]] && ((${VERSION_ID%%.*} < 12)); then
        die "Debian $VERSION_ID is too old: 12 or newer is needed"
    fi
}

require_root() {
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null ||
        die "installing packages needs root: run this as root, or install sudo"
}

# Prints those of the named packages that are not installed, one a line.
missing_of() {
    local have
    have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    local package
    for package in "$@"; do
        [[ $'\n'$have$'\n' == *$'\n'"installed $package"$'\n'* ]] || printf '%s\n' "$package"
    done
}

known_to_apt() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

# Runs a command while no package may start a service, and puts things back as they were.
without_starting_services() {
    local saved=$POLICY.before-setup status=0
    # A saved one is left of a run that was killed: what stands there now is then our own.
    [[ ! -e $POLICY || -e $saved ]] || as_root mv "$POLICY" "$saved"
    # An interrupted install must not leave the policy behind either.
    trap 'restore_policy' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
    "$@" || status=$?
    restore_policy
    trap - EXIT INT TERM
    return "$status"
}

restore_policy() {
    local saved=$POLICY.before-setup
    as_root rm -f "$POLICY"
    [[ ! -e $saved ]] || as_root mv "$saved" "$POLICY"
}

# Some of the tools bring a service (an exporter, a web server): the tests start their own, so
# what this script installed is not enabled either. A service that was here before is not touched.
disable_services_of() {
    command -v systemctl >/dev/null || return 0
    local units
    units=$(dpkg-query -L "$@" |
        sed -nE 's,^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$,\2,p' | sort -u)
    [[ -n $units ]] || return 0
    say "leaving disabled: ${units//$'\n'/ }"
    # shellcheck disable=SC2086 # one word a unit
    as_root systemctl --quiet disable $units 2>/dev/null ||
        say "could not disable all of them: see systemctl list-unit-files"
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@"
}

install_packages() {
    require_root
    say "refreshing the package lists"
    apt update
    local package wanted=("${required[@]}")
    for package in "${extra[@]}"; do
        if known_to_apt "$package"; then
            wanted+=("$package")
        else
            say "$package: not in this release"
        fi
    done
    say "installing ${wanted[*]}"
    without_starting_services apt install --no-install-recommends -y "${wanted[@]}" >/dev/null ||
        die "apt-get could not install them: its messages are above"
    disable_services_of "${wanted[@]}"
}

require_rust() {
    command -v cargo >/dev/null ||
        die "no cargo in PATH: install a Rust toolchain and start again"
    [[ $mode == test ]] || return 0
    local bin
    bin=$(rustc --print sysroot)/bin
    [[ ! -x $bin/cargo-clippy || ! -x $bin/cargo-fmt ]] || return 0
    command -v rustup >/dev/null || die "cargo clippy or cargo fmt is missing: install both"
    say "adding clippy and rustfmt to the toolchain"
    rustup component add clippy rustfmt
}

# Installs the crates of the tests below the build directory, those that are not there yet.
install_crates() {
    local checkout crate name version
    checkout=$(dirname -- "${BASH_SOURCE[0]}")/..
    local -r root=${CARGO_TARGET_DIR:-$checkout/target}/tools
    for crate in "${TEST_CRATES[@]}"; do
        name=${crate%@*} version=${crate#*@}
        if [[ -x $root/bin/$name ]] && grep -qsF "\"$name $version (" "$root/.crates.toml"; then
            continue
        fi
        say "building $name $version into $root (a minute)"
        # In a folder of its own: what is built here is not touched, nor waited for.
        cargo install --quiet --locked --root "$root" --target-dir "$root/build" \
            --version "=$version" "$name" ||
            die "cargo could not install $name: its messages are above"
        rm -rf -- "$root/build"
    done
}

# CRIU moves processes; all else works without it. The tests need it.
install_criu() {
    local here
    here=$(dirname -- "${BASH_SOURCE[0]}")
    "$here/criu.sh" "${CARGO_TARGET_DIR:-$here/../target}/tools" && return
    [[ $mode == run ]] || exit 1
    say "without CRIU: jobs run where they are started, and do not move"
}

# FUSE is a module on some kernels: loading it makes /dev/fuse appear.
require_fuse() {
    [[ ! -e /dev/fuse ]] || return 0
    say "loading the fuse module"
    as_root modprobe fuse || say "no /dev/fuse on this machine: the view cannot be mounted"
}

mode=${1:-}
case $mode in
run) packages=("${RUN_PACKAGES[@]}") extras=() ;;
test) packages=("${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}") extras=("${EXTRA_PACKAGES[@]}") ;;
bench)
    packages=("${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${BENCH_PACKAGES[@]}")
    extras=("${EXTRA_PACKAGES[@]}")
    ;;
*) die "usage: setup.sh run|test|bench" ;;
esac

require_rust
require_debian
command -v cc >/dev/null || packages+=(gcc libc6-dev)
mapfile -t required < <(missing_of "${packages[@]}")
extra=()
((${#extras[@]} == 0)) || mapfile -t extra < <(missing_of "${extras[@]}")
# An extra that the present package lists do not know is not worth a refresh of its own.
if ((${#required[@]} == 0 && ${#extra[@]} > 0)); then
    known=()
    for package in "${extra[@]}"; do
        ! known_to_apt "$package" || known+=("$package")
    done
    extra=("${known[@]}")
fi

if ((${#required[@]} + ${#extra[@]} == 0)); then
    say "every package for '$mode' is installed"
else
    install_packages
fi
[[ $mode == run ]] || install_crates
install_criu
require_fuse
say "ready"
