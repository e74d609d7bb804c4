#!/usr/bin/env bash
# The work of `make bench`: one table of what the cluster's /proc costs, the kernel's own /proc
# of as many processes beside it. Both are measured in the same run, in turns, so that whatever
# else this machine does meets both. With lxcfs there, its files are measured too. It takes about
# fifteen minutes.
#
#   bench.sh [SIZE...]    processes on each of the three nodes (default: 334 1667 3334)
#
# KRG_BIN names the directory of the programs (default: target/release), KRG_BENCH the tables that
# are wanted (default: "view files moving agreement").
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly CLUSTER=bench NATIVE=bench-native
readonly BIN=${KRG_BIN:-${CARGO_TARGET_DIR:-target}/release}
# Namespaces and mounts need root.
as_root=()
[[ $EUID -eq 0 ]] || as_root=(sudo --)

krg() { "${as_root[@]}" "$(realpath -- "$BIN/krg")" "$@"; }
say() { printf 'bench: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Ends what this run has started, in whatever state it is.
started=()
lxcfs_dir="" lxcfs_pid=""
stop() {
    local status=$? lab
    trap - EXIT INT TERM
    stop_lxcfs
    for lab in "${started[@]}"; do
        krg lab stop --name "$lab" >/dev/null || status=1
    done
    exit "$status"
}

[[ -x $BIN/krg && -x $BIN/krgd && -x $BIN/krg-lab ]] ||
    die "$BIN has no krg, krgd and krg-lab: run 'make release' first"
for tool in python3 ps top; do
    command -v "$tool" >/dev/null || die "$tool is missing: run 'scripts/setup.sh test' first"
done

trap stop EXIT
trap 'exit 130' INT TERM

# Mounts lxcfs somewhere, if it is there and works here.
start_lxcfs() {
    command -v lxcfs >/dev/null || return 0
    lxcfs_dir=$(mktemp -d)
    "${as_root[@]}" lxcfs --pidfile="$lxcfs_dir.pid" "$lxcfs_dir" >/dev/null 2>&1 &
    lxcfs_pid=$!
    local tries=50
    until [[ -e $lxcfs_dir/proc/meminfo ]]; do
        ((tries -= 1)) && kill -0 "$lxcfs_pid" 2>/dev/null || { stop_lxcfs; return 0; }
        sleep 0.1
    done
}

stop_lxcfs() {
    [[ -n $lxcfs_dir ]] || return 0
    kill "$lxcfs_pid" 2>/dev/null || true
    wait "$lxcfs_pid" 2>/dev/null || true
    "${as_root[@]}" umount -l "$lxcfs_dir" 2>/dev/null || true
    rm -f "$lxcfs_dir.pid"
    rmdir "$lxcfs_dir" 2>/dev/null || true
    lxcfs_dir=""
}

# start LAB NODES
start() {
    krg lab start "$2" --name "$1" >/dev/null || die "lab $1 did not start"
    started+=("$1")
}

# crowd LAB NODE COUNT: so many idle processes, which nobody waits for.
crowd() {
    # shellcheck disable=SC2016 # the node's shell is to expand it
    krg lab exec --name "$1" "$2" -- setsid --wait sh -c '
        n=0
        while [ $n -lt '"$3"' ]; do sleep 100000 & n=$((n + 1)); done' \
        </dev/null >/dev/null 2>&1
}

measure() {
    local size=$1 node
    say "3 nodes with $size processes each, and one node with $((3 * size)): starting"
    start "$CLUSTER" 3
    start "$NATIVE" 1
    for node in 1 2 3; do crowd "$CLUSTER" "$node" "$size"; done
    crowd "$NATIVE" 1 $((3 * size))
    say "measuring"
    "${as_root[@]}" python3 scripts/bench/measure.py \
        "$(realpath -- "$BIN/krg")" "$CLUSTER" "$NATIVE" "$size" ${lxcfs_dir:+"$lxcfs_dir"}
    krg lab stop --name "$CLUSTER" >/dev/null
    krg lab stop --name "$NATIVE" >/dev/null
    started=()
}

# Files of another node, sshfs and bindfs beside them.
files() {
    say "files of another node: starting"
    start "$CLUSTER" 2
    say "files of another node: measuring"
    "${as_root[@]}" python3 scripts/bench/files.py "$(realpath -- "$BIN/krg")" "$CLUSTER"
    krg lab stop --name "$CLUSTER" >/dev/null
    started=()
}

# Programs that move, CRIU by hand beside them.
moving() {
    say "programs that move: starting"
    start "$CLUSTER" 2
    say "programs that move: measuring"
    "${as_root[@]}" python3 scripts/bench/jobs.py "$(realpath -- "$BIN/krg")" "$CLUSTER"
    krg lab stop --name "$CLUSTER" >/dev/null
    started=()
}

# Agreement, krgd and etcd, on the disk that this tree is on.
agreement() {
    local work
    work=$(mktemp -d -p "$(dirname -- "$(realpath -- "$BIN")")" bench.XXXXXX)
    say "agreement on 1, 3 and 5 nodes, krgd and etcd: measuring"
    local status=0
    "${as_root[@]}" python3 scripts/bench/agreement.py "$BIN" "$work" || status=$?
    "${as_root[@]}" rm -rf --one-file-system "$work"
    ((status == 0)) || return "$status"
    say "gossip of 8 to 64 simulated nodes: measuring"
    "$(realpath -- "$BIN/examples/gossip_sim")"
}

[[ $# -gt 0 ]] && sizes=("$@") || sizes=(334 1667 3334)
printf '\n%s cpus, Linux %s, load average before: %s\n' \
    "$(nproc)" "$(uname -r)" "$(cut -d' ' -f1 /proc/loadavg)"
view() {
    start_lxcfs
    local size
    for size in "${sizes[@]}"; do
        [[ $size =~ ^[1-9][0-9]*$ ]] || die "$size is not a number of processes"
        measure "$size"
    done
}

for table in ${KRG_BENCH:-view files moving agreement}; do
    case $table in
        view | files | moving | agreement) "$table" ;;
        *) die "$table is no table of the bench" ;;
    esac
done
