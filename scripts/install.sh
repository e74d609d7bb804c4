#!/usr/bin/env bash
# The work of `make install` and `make uninstall`.
#
#   install.sh install BUILD_DIR    from BUILD_DIR (target/release)
#   install.sh uninstall            what the list of the last install names
#
# DESTDIR, PREFIX, SYSCONFDIR and HELPERDIR come from the environment.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
SYSCONFDIR=${SYSCONFDIR:-/etc}
HELPERDIR=${HELPERDIR:-/sbin}
readonly DESTDIR PREFIX SYSCONFDIR HELPERDIR
readonly MANIFEST=$PREFIX/share/krg/installed

say() { printf 'install: %s\n' "$*"; }
die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

installed=()

# put MODE SOURCE DESTINATION
put() {
    install -D -m "$1" -- "$2" "$DESTDIR$3"
    installed+=("$3")
}

# link TARGET NAME
link() {
    mkdir -p -- "$(dirname -- "$DESTDIR$2")"
    ln -sfn -- "$1" "$DESTDIR$2"
    installed+=("$2")
}

install_binaries() {
    local name there
    for name in krg krgd krg-lab; do
        [[ -x $build/$name ]] || die "$build/$name is missing: run 'make release' first"
        put 755 "$build/$name" "$PREFIX/bin/$name"
    done
    [[ -x $build/krg-job-init ]] || die "$build/krg-job-init is missing: run 'make release' first"
    put 755 "$build/krg-job-init" "$PREFIX/lib/krg/krg-job-init"
    "$build/krg" names >"$work/names"
    # The old names (migrate, mosrun, krgadm, ...) are the same binary under another name. One
    # that an earlier package owns is not replaced.
    while read -r name; do
        case $name in
        "" | krg | ssi-*) continue ;;
        # mount(8) and umount(8) look for these in one place only.
        mount.* | umount.*)
            link "$PREFIX/bin/krg" "$HELPERDIR/$name"
            continue
            ;;
        esac
        there=$DESTDIR$PREFIX/bin/$name
        if [[ (-e $there || -L $there) && $(readlink -- "$there") != krg ]]; then
            say "$PREFIX/bin/$name belongs to something else: left as it is"
            continue
        fi
        link krg "$PREFIX/bin/$name"
    done <"$work/names"
    # These two are the lab's.
    link krg-lab "$PREFIX/bin/ssi-start"
    link krg-lab "$PREFIX/bin/ssi-stop"
}

install_documents() {
    local page
    "$build/krg" man "$work/man" >/dev/null
    for page in "$work"/man/*.[1-9]; do
        [[ -e $page ]] || die "'krg man' wrote no page"
        put 644 "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"
    done
    "$build/krg" completions bash >"$work/bash"
    "$build/krg" completions zsh >"$work/zsh"
    "$build/krg" completions fish >"$work/fish"
    put 644 "$work/bash" "$PREFIX/share/bash-completion/completions/krg"
    put 644 "$work/zsh" "$PREFIX/share/zsh/site-functions/_krg"
    put 644 "$work/fish" "$PREFIX/share/fish/vendor_completions.d/krg.fish"
    for page in LICENSE LICENSE-APACHE LICENSE-MIT packaging/krg.toml; do
        put 644 "$page" "$PREFIX/share/doc/krg/${page##*/}"
    done
}

install_service() {
    sed "s,/usr/local/bin/,$PREFIX/bin/," packaging/krgd.service >"$work/krgd.service"
    put 644 "$work/krgd.service" "$PREFIX/lib/systemd/system/krgd.service"
    # The configuration is the administrator's: neither overwritten nor in the list.
    if [[ ! -e $DESTDIR$SYSCONFDIR/krg/krg.toml ]]; then
        install -D -m 644 packaging/krg.toml "$DESTDIR$SYSCONFDIR/krg/krg.toml"
        say "wrote $SYSCONFDIR/krg/krg.toml (every setting in it is a comment yet)"
    fi
}

do_install() {
    build=$1
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    mkdir "$work/man"
    install_binaries
    install_documents
    install_service
    installed+=("$MANIFEST")
    mkdir -p -- "$(dirname -- "$DESTDIR$MANIFEST")"
    printf '%s\n' "${installed[@]}" >"$DESTDIR$MANIFEST"
    say "${#installed[@]} files below ${DESTDIR:-/}"
    [[ -n $DESTDIR || ! -d /run/systemd/system ]] ||
        say "to start the daemon: systemctl daemon-reload && systemctl enable --now krgd"
    # After an upgrade the daemon that runs is the old program, whose file is gone.
    [[ -n $DESTDIR || ! -S /run/krg/krgd.sock ]] || say "a krgd runs: systemctl restart krgd"
}

do_uninstall() {
    [[ -r $DESTDIR$MANIFEST ]] || die "no $DESTDIR$MANIFEST: nothing is installed below $PREFIX"
    if [[ -z $DESTDIR && -d /run/systemd/system ]]; then
        systemctl disable --now krgd.service 2>/dev/null || say "krgd was not enabled"
    fi
    local path count=0
    while read -r path; do
        [[ $path == /* ]] || continue
        rm -f -- "$DESTDIR$path"
        count=$((count + 1))
    done <<<"$(<"$DESTDIR$MANIFEST")"
    # The directories that are nobody else's.
    rmdir -- "$DESTDIR$PREFIX/share/krg" "$DESTDIR$PREFIX/share/doc/krg" \
        "$DESTDIR$PREFIX/lib/krg" 2>/dev/null || true
    # The state is this node's membership: nobody's to remove but the administrator's.
    say "$count files removed; $SYSCONFDIR/krg and /var/lib/krg stay"
}

case ${1:-} in
install) [[ $# -eq 2 ]] || die "usage: install.sh install BUILD_DIR" && do_install "$2" ;;
uninstall) do_uninstall ;;
*) die "usage: install.sh install BUILD_DIR | uninstall" ;;
esac
