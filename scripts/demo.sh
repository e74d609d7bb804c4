#!/usr/bin/env bash
# Three nodes on this host, a few processes on two of them, and the usual tools on node 1 that
# see them all. The cluster is stopped again whatever happens.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly LAB=demo
readonly BIN=${KRG_BIN:-${CARGO_TARGET_DIR:-target}/debug}
# Namespaces and mounts need root.
as_root=()
[[ $EUID -eq 0 ]] || as_root=(sudo --)

krg() { "${as_root[@]}" "$(realpath -- "$BIN/krg")" "$@"; }
on() { krg lab exec --name "$LAB" "$@"; }
heading() { printf '\n\033[1m# %s\033[0m\n' "$*"; }

# show TITLE NODE CMD...: a command under its own name.
show() {
    local title=$1
    shift
    heading "$title"
    on "$@"
}

# start_job NODE NAME: a process with a name of its own, which nobody waits for.
start_job() {
    on "$1" -- setsid --fork bash -c "exec -a $2 sleep 3600" </dev/null >/dev/null 2>&1
    printf 'node %s: %s\n' "$1" "$2"
}

# Views are at most a moment old: read until the last of the jobs is seen.
wait_for() {
    local until=$((SECONDS + 10)) seen=""
    while [[ $seen != *"$1"* ]]; do
        ((SECONDS < until)) || {
            printf 'demo: %s did not appear within 10 s\n' "$1" >&2
            return 1
        }
        seen=$(on 1 -- krg ps -e -o args 2>/dev/null) || seen=""
    done
}

stop() {
    local status=$?
    trap - EXIT INT TERM
    heading "krg lab stop --name $LAB"
    krg lab stop --name "$LAB" || status=1
    exit "$status"
}

[[ -x $BIN/krg ]] || {
    printf 'demo: %s is missing: run make build first\n' "$BIN/krg" >&2
    exit 1
}

trap stop EXIT
trap 'exit 130' INT TERM

heading "krg lab start 3 --name $LAB"
krg lab start 3 --name "$LAB"

heading "six processes on nodes 2 and 3"
for job in ocean-model river-model cloud-model; do
    start_job 2 "$job"
done
for job in render-frame-1 render-frame-2 render-frame-3; do
    start_job 3 "$job"
done
wait_for ocean-model
wait_for render-frame-3

show "krg nodes status" 1 -- krg nodes status
show "krg cluster status" 1 -- krg cluster status
show "krg ps -e -o pid,user,psr,stat,args" 1 -- krg ps -e -o pid,user,psr,stat,args
# The second of two frames: what the cpus did is the difference of two looks.
show "krg exec -- top -b -n2 -d1 -o PID" 1 -- \
    sh -c 'krg exec -- top -b -n2 -d1 -o PID | awk "/^top/ { n++ } n == 2" | head -n 15'
show "krg exec -- free -h" 1 -- krg exec -- free -h

heading "node 3's files, on node 1; node 1 writes on node 2"
on 1 -- cat /mfs/3/etc/hostname
on 1 -- sh -c 'echo "written on $(hostname)" > /mfs/2/tmp/note'
show "cat /tmp/note, on node 2" 2 -- cat /tmp/note

pid=$(on 1 -- krg exec -- pgrep -f '^render-frame-1 ')
show "krg where $pid" 1 -- krg where "$pid"
show "krg kill $pid" 1 -- krg kill "$pid"
show "krg ps -e -o pid,user,args, those of node 3" 1 -- \
    sh -c 'krg ps -e -o pid,user,args | grep "render-[f]rame"'

# A counter that moves while it counts. Somebody presses its keys; of its screens, those are told
# on which it has come to another node.
hop() {
    heading "krg hop, with the keys 2, 3, Enter (at random until a key is pressed), x, q"
    # shellcheck disable=SC2016 # the node's shell is to expand it
    on 1 -- bash -c '
        press() { sleep "$1"; printf "$2"; }
        { press 1.5 2; press 2 3; press 2 "\r"; press 6 x; press 1 q; sleep 1; } |
            script -qec "stty rows 24 cols 80; exec krg hop" /dev/null |
            sed -u "s/\x1b\[[?0-9;]*[A-Za-z]//g; s/\r//g" |
            awk "/^ *count/ { count = \$2 }
                 /^ *node / && \$2 != node { node = \$2; print count \": on node \" node }
                 /not to node/ && \$0 != said { said = \$0; print }
                 /counted to/ { \$1 = \$1; print }"'
}
hop

# A job is saved, killed, and begins again on another node: it counts on from where it was.
saved() {
    heading "a job counts on node 1, is saved and killed there, and begins again on node 3"
    local job
    # shellcheck disable=SC2016 # the job's shell is to expand it
    job=$(on 1 -- krg run -b --name counter -- sh -c \
        'n=0; while :; do n=$((n+1)); echo $n > /var/tmp/counted; sleep 0.05; done')
    on 1 -- sh -c 'while ! grep -qs [2-9][0-9] /var/tmp/counted; do :; done'
    show "krg checkpoint $job --description demo --kill=KILL" 1 -- \
        krg checkpoint "$job" --description demo --kill=KILL
    show "krg checkpoints" 2 -- krg checkpoints
    show "cat /var/tmp/counted" 1 -- cat /var/tmp/counted
    show "krg restart $job --node 3" 1 -- krg restart "$job" --node 3
    # shellcheck disable=SC2016 # the node's shell is to expand it
    on 1 -- sh -c 'n=$(cat /var/tmp/counted); while [ "$(cat /var/tmp/counted)" = "$n" ]; do :; done'
    show "krg jobs" 1 -- krg jobs
    show "cat /var/tmp/counted" 1 -- cat /var/tmp/counted
    show "krg kill -KILL $job" 1 -- krg kill -KILL "$job"
}
saved
