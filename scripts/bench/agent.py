"""Runs inside a node: one request a line of JSON comes in, one answer a line goes out.

It starts commands and reads files where they are, so that the way into the node is not measured.
"""

import json
import os
import signal
import subprocess
import sys
import time


def run(argv):
    """Wall time of a command, s."""
    begun = time.perf_counter()
    code = subprocess.call(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - begun
    if code != 0:
        raise RuntimeError(f"{argv} ended with {code}")
    return took


def read(path, times):
    """Wall time of open, read to the end and close, s, the mean of so many."""
    begun = time.perf_counter()
    for _ in range(times):
        fd = os.open(path, os.O_RDONLY)
        while os.read(fd, 1 << 17):
            pass
        os.close(fd)
    return (time.perf_counter() - begun) / times


def count(argv, word):
    """Lines of a command's output that hold a word."""
    out = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    return sum(word in line for line in out.stdout.decode().splitlines())


def psutil_all():
    """Wall time of one look at every process as monitoring programs take it, s."""
    import psutil  # pylint: disable=import-outside-toplevel

    begun = time.perf_counter()
    names = ["pid", "name", "cpu_percent", "memory_info"]
    seen = sum(1 for _ in psutil.process_iter(names))
    took = time.perf_counter() - begun
    if not seen:
        raise RuntimeError("psutil sees nobody")
    return took


def forget():
    """The kernel's table of names, and the inodes, are as after a start."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")


def received():
    """Bytes that came over the network."""
    with open("/proc/net/dev", encoding="ascii") as file:
        lines = (line.split(":") for line in file if ":" in line)
        return sum(int(rest.split()[0]) for name, rest in lines if name.strip() != "lo")


def rss_kib(name):
    """Memory of the largest process of a name."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
        except OSError:
            continue
        if fields["Name"].strip() == name:
            found.append(int(fields["VmRSS"].split()[0]))
    return max(found)


def listed(name, seconds):
    """Waits until the view lists a process."""
    end = time.monotonic() + seconds
    while name not in os.listdir("/cluster/proc"):
        if time.monotonic() > end:
            raise RuntimeError(f"{name} is not seen")
        time.sleep(0.02)


def passes():
    """Looks at all texts of the processes that the sampler of this node has made."""
    with open("/cluster/proc/nodes/self/passes", encoding="ascii") as file:
        return int(file.read())


background = []


def start(argv):
    """Starts a command and leaves it running, with all that it starts."""
    null = subprocess.DEVNULL
    child = subprocess.Popen(
        argv, stdin=null, stdout=null, stderr=null, start_new_session=True
    )
    background.append(child)
    return background[-1].pid


def end():
    """Ends what `start` started."""
    while background:
        child = background.pop()
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()


OPERATIONS = {
    "run": run,
    "read": read,
    "count": count,
    "start": start,
    "end": end,
    "psutil": psutil_all,
    "forget": forget,
    "received": received,
    "rss": rss_kib,
    "listed": listed,
    "passes": passes,
}

for line in sys.stdin:
    operation, *arguments = json.loads(line)
    try:
        answer = {"value": OPERATIONS[operation](*arguments)}
    except (OSError, RuntimeError, subprocess.SubprocessError) as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
end()
