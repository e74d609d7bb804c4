#!/usr/bin/env bash
# Puts CRIU, with which processes are moved, at PREFIX/sbin/criu: CRIU of Debian's newest source,
# built with the libraries of this release. Does nothing where there is one of at least that age:
# of Debian 13 and newer the package will do.
#
#   criu.sh PREFIX
set -euo pipefail

# The oldest that will do.
readonly MIN_MAJOR=4
# Tried in this order: version of Debian's source package, release that has it, SHA-256.
readonly SOURCES=(
    "4.2.1 sid 29ec0ee09e296479fe7048c80980e8ef1d0684d0b0204c2b101dfea19f6725b9"
    "4.1.1 trixie f80a66cb3726bb2116266d4759ce3bcbfab7abdb6b6d430bf20dd41911717afe"
)
readonly BUILD_PACKAGES=(gcc libc6-dev make xz-utils pkg-config protobuf-compiler libprotobuf-dev
    libprotobuf-c-dev protobuf-c-compiler libnl-3-dev libnl-route-3-dev libnet1-dev libcap-dev
    libbsd-dev libaio-dev libgnutls28-dev libnftables-dev uuid-dev libdrm-dev python3)
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Is this a CRIU that will do? `is_new_enough FILE`
is_new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^Version: //p') || return 1
    [[ -n $version ]] && ((${version%%.*} >= MIN_MAJOR))
}

# apt-get on a list of its own: the machine's sources are not touched.
apt_source() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

# Where this machine has Debian from.
mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# Fetches the source of a version into the working directory; false if it is not to be had.
fetch() {
    local version=$1 release=$2 sum=$3 uri
    uri=$(mirror)
    [[ -n $uri ]] || die "apt knows no Debian archive: CRIU's source cannot be fetched"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb-src [signed-by=$KEYRING] $uri $release main" >"$work/sources.list"
    apt_source update || return 1
    (cd "$work" && apt_source source --tar-only --download-only "criu/$release") || return 1
    local tarball=$work/criu_$version.orig.tar.xz
    [[ -f $tarball ]] || return 1
    echo "$sum  $tarball" | sha256sum --check --quiet ||
        die "CRIU $version is not what it was: its SHA-256 is another"
}

install_build_packages() {
    local package missing=()
    for package in "${BUILD_PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    say "installing what CRIU is built with: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 install --no-install-recommends -y "${missing[@]}" >/dev/null ||
        die "apt-get could not install them: its messages are above"
}

# protoc finds its own files by /proc, and says something else when it is not there.
build() {
    local version=$1
    [[ -e /proc/self ]] || die "/proc is not mounted: CRIU cannot be built"
    say "building CRIU $version (a minute)"
    tar -C "$work" -xf "$work/criu_$version.orig.tar.xz"
    make -C "$work/criu-$version" -j"$(nproc)" criu >"$work/make.log" 2>&1 || {
        tail -n 20 "$work/make.log" >&2
        die "CRIU $version does not build here: the end of its messages is above"
    }
    install -D -m 755 "$work/criu-$version/criu/criu" "$prefix/sbin/criu"
}

prefix=${1:-}
[[ -n $prefix ]] || die "usage: criu.sh PREFIX"
for there in "$prefix/sbin/criu" "$(command -v criu || true)" /usr/sbin/criu; do
    [[ -x $there ]] && is_new_enough "$there" || continue
    exit 0
done
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
install_build_packages
for source in "${SOURCES[@]}"; do
    read -r version release sum <<<"$source"
    fetch "$version" "$release" "$sum" || continue
    build "$version"
    exit 0
done
die "no CRIU of a known SHA-256 is to be had: programs cannot be moved or saved on this machine"
