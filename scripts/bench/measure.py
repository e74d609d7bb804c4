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
COLD_ROUNDS = 3
BIRTHS = 50
# A process that wakes so often changes what its files say in every sample.
WAKERS = "import os, time\nfor _ in range({count} - 1):\n    if os.fork() == 0: break\n" \
    "while True: time.sleep(0.4)"
TICKS = os.sysconf("SC_CLK_TCK")


class Node:
    """A node of a lab, with the agent in it."""

    def __init__(self, krg, lab, number, *session):
        command = [krg, "lab", "exec", "--name", lab, str(number), "--", *session]
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


def commands(one, inside, alone):
    """Commands in a session that is there already, beside the same on the kernel's own /proc."""

    def both(argv):
        return lambda: inside.ask("run", argv) * 1e3, lambda: alone.ask("run", argv) * 1e3

    def after(pause, work, prepare=lambda: None):
        def paused():
            time.sleep(pause)
            prepare()
            return work()

        return paused

    ps = both(["ps", "aux"])
    warm = turns(ROUNDS, *ps)
    row("ps aux, warm", "ms", warm[1], warm[0], "< 1.0")
    # Nobody has looked for so long that nothing is subscribed to, and no name is known.
    forget = lambda: alone.ask("forget")
    cold = turns(COLD_ROUNDS, after(SETTLE_S, ps[0], forget), after(0, ps[1], forget))
    row("ps aux, cold", "ms", cold[1], cold[0], "< 3")
    again = turns(ROUNDS, after(STALE_S / 2, ps[0]), after(STALE_S / 2, ps[1]))
    row("ps aux, once a second", "ms", again[1], again[0], "< 1.2")
    for argv in [["top", "-b", "-n1"], ["pgrep", "-f", "sleep"], ["pstree"]]:
        kinds = both(argv)
        took = turns(ROUNDS, after(STALE_S / 2, kinds[0]), after(STALE_S / 2, kinds[1]))
        row(" ".join(argv), "ms", took[1], took[0], "< 1.2")
    took = turns(ROUNDS, lambda: inside.ask("psutil") * 1e3, lambda: alone.ask("psutil") * 1e3)
    row("psutil's process_iter", "ms", took[1], took[0], "< 1.2")
    for options, aim in [("-e", "< 0.3"), ("aux", "-")]:
        own, stock = ["krg", "ps", options], ["ps", options]
        took = turns(
            ROUNDS,
            after(STALE_S / 2, lambda argv=own: one.ask("run", argv) * 1e3),
            after(STALE_S / 2, lambda argv=stock: alone.ask("run", argv) * 1e3),
        )
        row(f"krg ps {options} (native: ps {options})", "ms", took[1], took[0], aim)
    true = turns(QUICK_ROUNDS, lambda: one.ask("run", ["krg", "exec", "--", "true"]) * 1e3,
                 lambda: one.ask("run", ["true"]) * 1e3)
    row("true (krg exec -- true)", "ms", true[1], true[0])


def changing(inside, alone, nodes, size):
    """ps once a second while a tenth of the processes of each node wakes up in between."""
    count = max(1, size // 10)
    for node in nodes:
        node.ask("start", ["python3", "-c", WAKERS.format(count=count)])
    alone.ask("start", ["python3", "-c", WAKERS.format(count=NODES * count)])

    def once_a_second(node):
        def work():
            time.sleep(STALE_S / 2)
            return node.ask("run", ["ps", "aux"]) * 1e3

        return work

    took = turns(ROUNDS, once_a_second(inside), once_a_second(alone))
    row("ps aux, once a second, a tenth changing", "ms", took[1], took[0], "< 1.2")
    for node in [*nodes, alone]:
        node.ask("end")


def births(nodes):
    """From the start of a process on node 3 to its being listed on node 1."""
    took = []
    for _ in range(BIRTHS):
        begun = time.monotonic()
        pid = nodes[2].ask("start", ["sleep", "1000"])
        nodes[0].ask("listed", str(3 << 22 | pid), 5)
        took.append((time.monotonic() - begun) * 1e3)
        nodes[2].ask("end")
    row("birth on node 3 to the list on node 1, p99", "ms", None, max(took), "< 1100")


def reads(one, lxcfs):
    """The node's own file against the cluster's, both on node 1, and lxcfs's on the host."""
    for name, aim in [("stat", "< 3.5"), ("meminfo", "< 3.5"), ("1/stat", "< 1.0")]:
        cluster = f"/cluster/proc/{name}".replace("/1/", f"/{1 << 22 | 1}/")
        kinds = [
            lambda path=cluster: one.ask("read", path, READS) * 1e6,
            lambda path=f"/proc/{name}": one.ask("read", path, READS) * 1e6,
        ]
        beside = lxcfs / "proc" / name if lxcfs else None
        if beside and beside.is_file():
            kinds.append(lambda path=beside: read(path) * 1e6)
        took = turns(ROUNDS, *kinds)
        what = name.replace("1/", "PID/")
        row(f"{what}: open, read, close", "us", took[1], took[0], aim)
        if len(took) > 2:
            row(f"{what}: the same (native: lxcfs's)", "us", took[2], took[0], "< 0.25")


def read(path):
    """As the agent does it: wall time of open, read to the end and close, s."""
    begun = time.perf_counter()
    for _ in range(READS):
        fd = os.open(path, os.O_RDONLY)
        while os.read(fd, 1 << 17):
            pass
        os.close(fd)
    return (time.perf_counter() - begun) / READS


def cpu(nodes, alone, lab, native):
    one = nodes[0]
    daemons = {"krgd", "krg-mount", "krg-mfs", "krg-files"}
    time.sleep(SETTLE_S)
    passes = lambda: sum(node.ask("passes") for node in nodes)
    before = passes()
    idle = lab.cpu_percent(daemons, IDLE_S)
    row("passes of the samplers, nobody looks", "", None, passes() - before, "0")
    row("krgd with its processes, nobody looks, worst node", "%", None, max(idle), "-")
    quiet = one.ask("received")
    time.sleep(TOP_S)
    quiet = one.ask("received") - quiet
    # In turns, as everywhere: first the cluster, then the kernel alone.
    one.ask("start", ["krg", "exec", "--", "top", "-b", "-d1"])
    time.sleep(4)
    bytes_before = one.ask("received")
    looked = lab.cpu_percent(daemons | {"top"}, TOP_S)
    kib_s = (one.ask("received") - bytes_before - quiet) / TOP_S / 1e3
    one.ask("end")
    alone.ask("start", ["top", "-b", "-d1"])
    time.sleep(2)
    bare = native.cpu_percent({"top"}, TOP_S)
    alone.ask("end")
    row("top -d1 with all that serves it, its node", "%", bare[0], looked[0])
    row("the same, another node (worst)", "%", None, max(looked[1:]), "< 5")
    row("received by a viewer, quiet processes", "kB/s", None, kib_s, "< 20")
    row("memory of the viewer's process", "MB", None, one.ask("rss", "krg-mount") / 1024, "< 60")


def main():
    krg, cluster, native, size = sys.argv[1:5]
    lxcfs = Path(sys.argv[5]) if len(sys.argv) > 5 else None
    nodes = [Node(krg, cluster, number) for number in range(1, NODES + 1)]
    one, alone = nodes[0], Node(krg, native, 1)
    want = NODES * int(size)
    for node, argv in [(one, ["krg", "exec", "--", "ps", "aux"]), (alone, ["ps", "aux"])]:
        seen = node.ask("count", argv, "sleep 100000")
        if seen != want:
            sys.exit(f"bench: {argv} shows {seen} of {want} processes")
    title = f"{NODES} nodes x {size} processes; native: {want}"
    print(f"\n{title:<44} {'':<4}{'native':>10}{'cluster':>10}{'ratio':>9}  aim", flush=True)
    inside = Node(krg, cluster, 1, "krg", "exec", "--")
    commands(one, inside, alone)
    changing(inside, alone, nodes, int(size))
    births(nodes)
    reads(one, lxcfs)
    inside.close()
    cpu(nodes, alone, Lab(krg, cluster), Lab(krg, native))
    for node in [*nodes, alone]:
        node.close()


main()
