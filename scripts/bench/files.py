"""Files of another node: /mfs/2 from node 1 beside sshfs, bindfs, the node's own tmpfs and raw TCP.

    files.py KRG LAB

The lab has two nodes and is up; the data are on node 2's /tmp, a tmpfs, so that no disk decides.
Every figure is the median of rounds in which all take their turns one after the other.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
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


def wire(krg, lab, address):
    """A raw TCP connection between the nodes, and one inside TLS, by the same program."""
    server = background(krg, lab, 2, "python3", str(WORK), "wire-server", "9990")
    server.stdout.readline()
    figures = json.loads(node(krg, lab, 1, "python3", str(WORK), "wire", address, "9990"))
    server.stdin.close()
    server.wait()
    return figures


def main():
    krg, lab = sys.argv[1:3]
    address = node(krg, lab, 2, "sh", "-c", "getent hosts node2 | cut -d' ' -f1").strip()
    node(krg, lab, 2, "python3", str(WORK), "prepare", "/tmp/bench")
    node(krg, lab, 1, "sh", "-c", "mkdir -p /tmp/sshfs /tmp/bindfs /tmp/bench; ls /mfs/2 /mfs/1")
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
    node(krg, lab, 1, "bindfs", "/tmp/bench", "/tmp/bindfs")
    places["bindfs"] = "/tmp/bindfs"
    figures = {name: [] for name in places}
    wires = []
    for _ in range(ROUNDS):
        wires.append(wire(krg, lab, address))
        for name, at in places.items():
            said = node(krg, lab, 1, "python3", str(WORK), "all", at)
            figures[name].append(json.loads(said))
    for at in ["/tmp/sshfs", "/tmp/bindfs"]:
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
    print("\nfiles of node 2 from node 1 (sshfs without encryption; own: /mfs/1 on node 1)")
    print(f"{'':38}" + "".join(f"{name:>10}" for name in places))
    for key, words in ROWS:
        cells = "".join(f"{median(figures[name], key):>10.1f}" for name in places)
        print(f"{words:38}{cells}")
    raw, tls = median(wires, "raw_mbs"), median(wires, "tls_mbs")
    print(f"raw TCP stream {raw:.0f} MB/s, in TLS {tls:.0f} MB/s;", end=" ")
    print(f"4 KiB ping-pong {median(wires, 'ping_us'):.1f} us")
    daemons = "ps -C krg-mfs,krg-files -o comm=,rss=,cputimes="
    print("processes of node 1 then (name, KiB, CPU s):")
    print(node(krg, lab, 1, "sh", "-c", daemons), end="")


main()
