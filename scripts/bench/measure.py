"""Measures one size of cluster against as many processes in one kernel, and prints the table.

    measure.py KRG CLUSTER-LAB NATIVE-LAB PROCESSES-PER-NODE

Both labs are up and full. Every figure of a line is the median of turns taken one after the
other: cluster, native, cluster, native...
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

NODES = 3
ROUNDS = 7
QUICK_ROUNDS = 15
READS = 200
# A view's values may be this old; after it, ps costs a new sample of every node.
STALE_S = 1.1
# A subscription nobody uses ends after 10 s: only then is a cluster idle.
SETTLE_S = 11.5
IDLE_S = 15.0
TOP_S = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class Node:
    """A node of a lab, with the agent in it."""

    def __init__(self, krg, lab, number):
        command = [krg, "lab", "exec", "--name", lab, str(number), "--"]
        agent = Path(__file__).with_name("agent.py").read_text(encoding="utf-8")
        self.agent = subprocess.Popen(
            [*command, "python3", "-u", "-c", agent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *request):
        print(json.dumps(request), file=self.agent.stdin, flush=True)
        line = self.agent.stdout.readline()
        if not line:
            sys.exit(f"bench: the node's agent ended at {request}")
        answer = json.loads(line)
        if "error" in answer:
            sys.exit(f"bench: {answer['error']}")
        return answer["value"]

    def close(self):
        self.agent.stdin.close()
        self.agent.wait()


class Lab:
    """The host's side of a lab: which of its processes run on which node."""

    def __init__(self, krg, name):
        out = subprocess.run(
            [krg, "lab", "status", "--name", name, "--json"], stdout=subprocess.PIPE, check=True
        )
        inits = [node["init_pid"] for node in json.loads(out.stdout)["nodes"]]
        self.namespaces = [os.readlink(f"/proc/{init}/ns/pid") for init in inits]

    def cpu_ticks(self, names):
        """Of every node: user and system time of its processes of these names."""
        sums = [0] * len(self.namespaces)
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                name = text[text.index("(") + 1 : text.rindex(")")]
                namespace = os.readlink(entry / "ns/pid") if name in names else None
            except OSError:
                continue
            if namespace in self.namespaces:
                fields = text[text.rindex(")") + 2 :].split()
                sums[self.namespaces.index(namespace)] += int(fields[11]) + int(fields[12])
        return sums

    def cpu_percent(self, names, seconds):
        """The same over so many seconds, in percent of one cpu."""
        before, begun = self.cpu_ticks(names), time.monotonic()
        time.sleep(seconds)
        after, took = self.cpu_ticks(names), time.monotonic() - begun
        return [(a - b) / TICKS / took * 100 for a, b in zip(after, before)]


def row(what, unit, native, cluster, aim="-"):
    digits = 2 if native and cluster < native else 1
    ratio = f"{cluster / native:9.{digits}f}" if native else f"{'-':>9}"
    shown = f"{native:10.2f}" if native is not None else f"{'-':>10}"
    print(f"{what:<44} {unit:<4}{shown}{cluster:10.2f}{ratio}  {aim}", flush=True)


def turns(rounds, *kinds):
    """The median of each kind of work, done in turns."""
    taken = [[kind() for kind in kinds] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken)]


def commands(one, alone):
    ps, top, view = ["ps", "aux"], ["top", "-b", "-n1"], ["krg", "exec", "--"]

    def paused(node, argv):
        def work():
            time.sleep(STALE_S / 2)
            return node.ask("run", argv) * 1e3

        return work

    cold = turns(ROUNDS, paused(one, [*view, *ps]), paused(alone, ps))
    row("ps aux", "ms", cold[1], cold[0])
    again = turns(ROUNDS, lambda: one.ask("run", [*view, *ps]) * 1e3,
                  lambda: alone.ask("run", ps) * 1e3)
    row("ps aux, again at once", "ms", again[1], again[0])
    for options, aim in [("-e", "< 0.3"), ("aux", "-")]:
        own, stock = ["krg", "ps", options], ["ps", options]
        cold = turns(ROUNDS, paused(one, own), paused(alone, stock))
        row(f"krg ps {options}", "ms", cold[1], cold[0], aim)
    cold = turns(ROUNDS, paused(one, [*view, *top]), paused(alone, top))
    row("top -b -n1", "ms", cold[1], cold[0])
    true = turns(QUICK_ROUNDS, lambda: one.ask("run", [*view, "true"]) * 1e3,
                 lambda: one.ask("run", ["true"]) * 1e3)
    row("true (krg exec -- true)", "ms", true[1], true[0])


def reads(one):
    """The node's own file against the cluster's, both on node 1."""
    for name in ["stat", "meminfo", "1/stat"]:
        cluster = f"/cluster/proc/{name}".replace("/1/", f"/{1 << 22 | 1}/")
        took = turns(
            ROUNDS,
            lambda path=cluster: one.ask("read", path, READS) * 1e6,
            lambda path=f"/proc/{name}": one.ask("read", path, READS) * 1e6,
        )
        what = name.replace("1/", "PID/")
        row(f"read of {what} (open, read, close)", "us", took[1], took[0])


def cpu(one, alone, lab, native):
    daemons = {"krgd", "krg-mount", "krg-mfs", "krg-files"}
    time.sleep(SETTLE_S)
    idle = lab.cpu_percent(daemons, IDLE_S)
    row("krgd with its processes, nobody looks, worst node", "%", None, max(idle), "< 0.5")
    # In turns, as everywhere: first the cluster, then the kernel alone.
    one.ask("start", ["krg", "exec", "--", "top", "-b", "-d1"])
    time.sleep(2)
    looked = lab.cpu_percent(daemons | {"top"}, TOP_S)
    one.ask("end")
    alone.ask("start", ["top", "-b", "-d1"])
    time.sleep(2)
    bare = native.cpu_percent({"top"}, TOP_S)
    alone.ask("end")
    row("top -d1 with all that serves it, its node", "%", bare[0], looked[0])
    row("the same, another node (worst)", "%", None, max(looked[1:]))


def main():
    krg, cluster, native, size = sys.argv[1:]
    one, alone = Node(krg, cluster, 1), Node(krg, native, 1)
    want = NODES * int(size)
    for node, argv in [(one, ["krg", "exec", "--", "ps", "aux"]), (alone, ["ps", "aux"])]:
        seen = node.ask("count", argv, "sleep 100000")
        if seen != want:
            sys.exit(f"bench: {argv} shows {seen} of {want} processes")
    title = f"{NODES} nodes x {size} processes; native: {want}"
    print(f"\n{title:<44} {'':<4}{'native':>10}{'cluster':>10}{'ratio':>9}  aim", flush=True)
    commands(one, alone)
    reads(one)
    cpu(one, alone, Lab(krg, cluster), Lab(krg, native))
    one.close()
    alone.close()


main()
