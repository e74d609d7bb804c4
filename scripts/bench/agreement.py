"""Measures what it costs to agree: krgd and etcd on as many nodes, on the same disk, in one run.

    agreement.py BIN-DIR WORK-DIR

All nodes are processes of this machine on its loopback. Each line is measured for krgd and for
etcd one after the other, with a plain fdatasync of the same disk beside them. Needs root (krgd).
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

NODES = (1, 3, 5)
WRITERS = (1, 16, 256)
SECONDS = 4
KRG_PORT = 17600
ETCD_PORT = 23790
START_MAX_S = 30


def started(process):
    """However the measurement ends, this process does not outlive it."""

    def end():
        process.terminate()
        process.wait()

    atexit.register(end)
    return process


def until(done, what):
    """Waits for something that no event tells of."""
    end = time.monotonic() + START_MAX_S
    while time.monotonic() < end:
        value = done()
        if value:
            return value
        time.sleep(0.02)
    return sys.exit(f"bench: {what} within {START_MAX_S} s: no")


class Load:
    """The program that writes and takes the time."""

    def __init__(self, bin_dir):
        self.program = bin_dir / "krg-load"

    def run(self, kind, target, writers, seconds=SECONDS):
        command = [self.program, kind, str(target), str(writers), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"bench: {kind}: {done.stderr.strip()}")
        return json.loads(done.stdout)


class Krg:
    """A cluster of krgds."""

    def __init__(self, bin_dir, directory, nodes):
        self.bin, self.dir = bin_dir, directory
        self.daemons = {}
        for node in range(1, nodes + 1):
            self.start(node)
        tokens = []
        if nodes > 1:
            made = self.krg(1, "cluster", "token", "create", "--count", str(nodes - 1))
            tokens = made.split()
        self.join_s = []
        for node, token in zip(range(2, nodes + 1), tokens):
            begun = time.monotonic()
            self.krg(node, "join", f"127.0.0.1:{KRG_PORT + 1}", "--token", token)
            until(lambda n=node: self.knows(n), f"node {node} has its copy")
            self.join_s.append(time.monotonic() - begun)
        voters = 5 if nodes >= 5 else 3 if nodes >= 3 else 1
        until(lambda: self.voters() == voters, f"{voters} voters")

    def start(self, node):
        place = self.dir / f"node{node}"
        place.mkdir(parents=True, exist_ok=True)
        config = place / "krg.toml"
        config.write_text(
            f'node_id = {node}\ncluster = "bench"\nlisten = "127.0.0.1:{KRG_PORT + node}"\n'
            f'run_dir = "{place}/run"\nstate_dir = "{place}/state"\n[view]\nmount = ""\n'
            '[mfs]\nmount = ""\n',
            encoding="utf-8",
        )
        log = (place / "log").open("ab")
        command = [self.bin / "krgd", "--config", str(config)]
        self.daemons[node] = started(subprocess.Popen(command, stdout=log, stderr=log))
        until(lambda: self.socket(node).exists() and self.status(node), f"krgd {node}")

    def socket(self, node):
        return self.dir / f"node{node}" / "run" / "krgd.sock"

    def run(self, node, *command):
        env = {**os.environ, "KRG_SOCKET": str(self.socket(node))}
        command = [self.bin / "krg", *command]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def krg(self, node, *command):
        done = self.run(node, *command)
        if done.returncode != 0:
            sys.exit(f"bench: krg {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def status(self, node):
        done = self.run(node, "cluster", "status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def knows(self, node):
        status = self.status(node)
        return status and not status["stale"] and status["applied"] > 0

    def voters(self):
        status = self.status(1)
        return status and sum(r["role"] == "voter" for r in status["replicas"])

    def leader(self, among):
        for node in among:
            status = self.status(node)
            if status and status["leader"]:
                return status["leader"]
        return None

    def target(self):
        return self.socket(until(lambda: self.leader(self.daemons), "a leader"))

    def elect_s(self):
        """From the end of the leader to the next write that is done."""
        leader = until(lambda: self.leader(self.daemons), "a leader")
        others = [node for node in self.daemons if node != leader]
        self.daemons[leader].kill()
        begun = time.monotonic()
        self.daemons.pop(leader).wait()
        # What a daemon that is killed cannot undo, its next life does; this one has none.
        procfs = self.dir / f"node{leader}" / "run" / "proc"
        subprocess.run(["umount", "--lazy", procfs], check=False)
        done = lambda: self.run(others[0], "config", "set", "elected", "x").returncode == 0
        until(done, "another leader")
        return time.monotonic() - begun

    def stop(self):
        for daemon in self.daemons.values():
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            daemon.wait()


class Etcd:
    """A cluster of etcds with the settings they come with."""

    def __init__(self, directory, nodes):
        peer = lambda n: f"http://127.0.0.1:{ETCD_PORT + 100 + n}"
        self.client = lambda n: f"127.0.0.1:{ETCD_PORT + n}"
        self.nodes = range(1, nodes + 1)
        cluster = ",".join(f"n{n}={peer(n)}" for n in self.nodes)
        self.members = []
        for n in self.nodes:
            place = directory / f"etcd{n}"
            place.mkdir(parents=True, exist_ok=True)
            log = (directory / f"etcd{n}.log").open("ab")
            command = ["etcd", "--name", f"n{n}", "--data-dir", str(place)]
            command += ["--listen-client-urls", f"http://{self.client(n)}"]
            command += ["--advertise-client-urls", f"http://{self.client(n)}"]
            command += ["--listen-peer-urls", peer(n), "--initial-advertise-peer-urls", peer(n)]
            command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
            self.members.append(started(subprocess.Popen(command, stdout=log, stderr=log)))
        self.leader = until(self.find_leader, "etcd has a leader")

    def find_leader(self):
        for n in self.nodes:
            command = ["etcdctl", "--endpoints", self.client(n), "endpoint", "status", "-w", "json"]
            env = {**os.environ, "ETCDCTL_API": "3"}
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            try:
                status = json.loads(done.stdout)[0]["Status"]
            except (ValueError, IndexError, KeyError):
                continue
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return self.client(n)
        return None

    def stop(self):
        for member in self.members:
            member.terminate()
        for member in self.members:
            member.wait()


def line(name, unit, ours, theirs, aim=""):
    show = lambda v: "-" if v is None else f"{v:.2f}" if v < 100 else f"{v:.0f}"
    ratio = show(ours / theirs) if ours and theirs else "-"
    print(f"{name:<46} {unit:<5} {show(ours):>9} {show(theirs):>9} {ratio:>7}  {aim}", flush=True)


def measure(load, bin_dir, work, nodes):
    directory = work / f"{nodes}"
    directory.mkdir()
    sync = load.run("fdatasync", directory, 1, 2)
    krg = Krg(bin_dir, directory, nodes)
    ours = {w: load.run("krg", krg.target(), w) for w in WRITERS}
    read = load.run("read", krg.target(), 1, 2)
    elect_s = krg.elect_s() if nodes > 1 else None
    krg.stop()
    etcd = Etcd(directory, nodes)
    theirs = {w: load.run("etcd", etcd.leader, w) for w in WRITERS}
    etcd.stop()
    s = "" if nodes == 1 else "s"
    print(f"\n{nodes} node{s}".ljust(52) + f"{'krgd':>11} {'etcd':>9} {'ratio':>7}  aim")
    line("fdatasync of this disk, p50", "ms", sync["p50_us"] / 1e3, None)
    for share in ("p50", "p99"):
        times = [d[1][f"{share}_us"] / 1e3 for d in (ours, theirs)]
        line(f"commit, one writer, {share}", "ms", *times, "ratio < 0.5" if share == "p50" else "")
    for w in WRITERS:
        s = "" if w == 1 else "s"
        aim = "ratio > 1"
        line(f"commits a second, {w} writer{s}", "1/s", ours[w]["per_s"], theirs[w]["per_s"], aim)
    line("read of the own copy through the socket, p50", "us", read["p50_us"], None)
    if krg.join_s:
        line("join: command to own copy (worst)", "s", max(krg.join_s), None)
        line("kill -9 of the leader to the next write", "s", elect_s, None, "< 2")


def main():
    bin_dir, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    if shutil.which("etcd") is None or shutil.which("etcdctl") is None:
        sys.exit("bench: etcd and etcdctl are missing: scripts/setup.sh bench installs them")
    load = Load(bin_dir)
    for nodes in NODES:
        measure(load, bin_dir, work, nodes)


main()
