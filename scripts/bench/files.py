"""Files of another node: /mfs/2 from node 1 beside sshfs, bindfs, the node's own tmpfs and raw TCP.

    files.py KRG LAB

The lab has two nodes and is up; the data are on node 2's /tmp, a tmpfs, so that no disk decides.
Every figure is the median of rounds in which all take their turns one after the other.

Streams have all processors. What is a matter of microseconds has one, and so has everybody it is
compared with: on a virtual machine it takes 50 us and more to wake a thread on another one, and
otherwise chance would decide who has to.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
# Of a stream, as the other script has it.
STREAM_MB = 1024 * 1.048576
MANY = 100_000
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
SSH_SERVER = "/usr/sbin/sshd"
# What node 1 does in one directory, and how long it took.
WORK = Path(__file__).with_name("files_work.py")
ROWS = [
    ("write_mbs", "sequential write, MB/s"),
    ("read_mbs", "sequential read, not cached, MB/s"),
    ("rand_us", "4 KiB random read, p50, us"),
    ("cold_ms", "stat walk of 10,000 files, cold, ms"),
    ("warm_ms", "stat walk, warm, ms"),
    ("create_us", "create+write+close, p50, us"),
    ("unlink_us", "unlink, p50, us"),
    ("untar_ms", "untar of 1,400 files, ms"),
    ("git_ms", "git status, cold, ms"),
]


def node(krg, lab, number, *command, **options):
    line = [krg, "lab", "exec", "--name", lab, str(number), "--", *command]
    return subprocess.run(line, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def background(krg, lab, number, *command):
    line = [krg, "lab", "exec", "--name", lab, str(number), "--", *command]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE)


def place(krg, lab, processors):
    """All processes of both nodes on these."""
    each = f"taskset -apc {processors} ${{p#/proc/}} > /dev/null 2>&1"
    line = f"for p in /proc/[0-9]*; do {each}; done"
    for number in [1, 2]:
        node(krg, lab, number, "sh", "-c", line)


def measure(krg, lab, processors, *words):
    """What the other script measures in node 1."""
    script = ["taskset", "-c", processors, "python3", str(WORK), *words]
    return json.loads(node(krg, lab, 1, *script))


def wire(krg, lab, processors, address, kind):
    """A TCP connection between the nodes, by the same program."""
    script = ["taskset", "-c", processors, "python3", str(WORK), "wire-server", "9990"]
    server = background(krg, lab, 2, *script)
    server.stdout.readline()
    figures = measure(krg, lab, processors, "wire", address, "9990", kind)
    server.stdin.close()
    server.wait()
    return figures


# An SSH server of node 2 for this, and a key that it takes.
SSHD = """
mkdir -p /run/sshd /tmp/ssh
for key in host user; do
    test -e /tmp/ssh/$key || ssh-keygen -q -t ed25519 -N "" -f /tmp/ssh/$key
done
exec /usr/sbin/sshd -D -f /dev/null -p 9992 -h /tmp/ssh/host -o PidFile=none -o UsePAM=no \\
    -o StrictModes=no -o AuthorizedKeysFile=/tmp/ssh/user.pub -o Subsystem="sftp $0"
"""
SSH = "port=9992,IdentityFile=/tmp/ssh/user,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"


def cpu_s(krg, lab, number, name):
    """Processor time of the processes of this name, seconds."""
    line = f"cat $(pgrep -x {name} | sed 's#.*#/proc/&/stat#')"
    stats = node(krg, lab, number, "sh", "-c", line).splitlines()
    return sum(sum(map(int, stat.rsplit(")", 1)[1].split()[11:13])) for stat in stats) / 100


def main():
    krg, lab = sys.argv[1:3]
    address = node(krg, lab, 2, "sh", "-c", "getent hosts node2 | cut -d' ' -f1").strip()
    node(krg, lab, 2, "python3", str(WORK), "prepare", "/tmp/bench")
    made = "/tmp/sshfs /tmp/ssh-fs /tmp/bindfs /tmp/bench"
    node(krg, lab, 1, "sh", "-c", f"mkdir -p {made}; ls /mfs/2 /mfs/1")
    node(krg, lab, 1, "python3", str(WORK), "prepare", "/tmp/bench")
    places = {"mfs": "/mfs/2/tmp/bench", "own": "/mfs/1/tmp/bench", "native": "/tmp/bench"}
    others = []
    if Path(SFTP_SERVER).exists():
        script = [str(WORK), "sftp", "9991", SFTP_SERVER]
        others.append(background(krg, lab, 2, "python3", *script))
        others[-1].stdout.readline()
        mount = f"sshfs -o directport=9991,reconnect node2:/tmp/bench /tmp/sshfs"
        node(krg, lab, 1, "sh", "-c", mount)
        places["sshfs"] = "/tmp/sshfs"
    if Path(SFTP_SERVER).exists() and Path(SSH_SERVER).exists():
        others.append(background(krg, lab, 2, "sh", "-c", SSHD, SFTP_SERVER))
        node(krg, lab, 2, "sh", "-c", "until ss -ltn | grep -q :9992; do :; done")
        script = "mkdir -p /tmp/ssh; cp /mfs/2/tmp/ssh/user /tmp/ssh; chmod 600 /tmp/ssh/user"
        node(krg, lab, 1, "sh", "-c", f"{script}; sshfs -o {SSH} node2:/tmp/bench /tmp/ssh-fs")
        places["over ssh"] = "/tmp/ssh-fs"
    node(krg, lab, 1, "bindfs", "/tmp/bench", "/tmp/bindfs")
    places["bindfs"] = "/tmp/bindfs"
    figures = {name: [] for name in places}
    wires, burnt = [], []
    everywhere = f"0-{os.cpu_count() - 1}"
    daemons = [(1, "krg-mfs"), (2, "krg-files")]
    for _ in range(ROUNDS):
        place(krg, lab, "0")
        row = wire(krg, lab, "0", address, "ping")
        for name, at in places.items():
            figures[name].append(measure(krg, lab, "0", "small", at))
        place(krg, lab, everywhere)
        wires.append(row | wire(krg, lab, everywhere, address, "stream"))
        for name, at in places.items():
            before = [cpu_s(krg, lab, *daemon) for daemon in daemons]
            figures[name][-1] |= measure(krg, lab, everywhere, "stream", at)
            if name == "mfs":
                after = [cpu_s(krg, lab, *daemon) for daemon in daemons]
                burnt.append([b - a for a, b in zip(before, after)])
    for at in ["/tmp/sshfs", "/tmp/ssh-fs", "/tmp/bindfs"]:
        subprocess.run(
            [krg, "lab", "exec", "--name", lab, "1", "--", "umount", "-l", at],
            stderr=subprocess.DEVNULL,
            check=False,
        )
    for other in others:
        other.stdin.close()
        other.terminate()
        other.wait()
    median = lambda rows, key: statistics.median(row[key] for row in rows)
    print("\nfiles of node 2 from node 1 (sshfs: without encryption; over ssh: sshfs")
    print("as it comes; own: /mfs/1 on node 1)")
    print(f"{'':38}" + "".join(f"{name:>10}" for name in places))
    for key, words in ROWS:
        cells = "".join(f"{median(figures[name], key):>10.1f}" for name in places)
        print(f"{words:38}{cells}")
    raw, tls = median(wires, "raw_mbs"), median(wires, "tls_mbs")
    print(f"raw TCP stream {raw:.0f} MB/s, in TLS {tls:.0f} MB/s;", end=" ")
    print(f"4 KiB ping-pong {median(wires, 'ping_us'):.1f} us")
    written_gb = 2 * STREAM_MB / 1000
    for (number, name), spent in zip(daemons, zip(*burnt)):
        each = statistics.median(spent) / written_gb
        print(f"node {number}, {name}: {each:.2f} s of processor time for a GB")
    many = f"mkdir /tmp/many && cd /tmp/many && seq {MANY} | xargs touch"
    node(krg, lab, 2, "sh", "-c", many)
    node(krg, lab, 1, "sh", "-c", "find /mfs/2/tmp/many -links 1 | wc -l")
    print(f"then with {MANY} files of node 2 in node 1's caches (name, KiB):")
    print(node(krg, lab, 1, "sh", "-c", "ps -C krg-mfs,krg-files -o comm=,rss="), end="")


main()
