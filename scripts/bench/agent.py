"""Runs inside a node: one request a line of JSON comes in, one answer a line goes out.

It starts commands and reads files where they are, so that the way into the node is not measured.
"""

import json
import os
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


background = []


def start(argv):
    """Starts a command and leaves it running."""
    null = subprocess.DEVNULL
    background.append(subprocess.Popen(argv, stdin=null, stdout=null, stderr=null))
    return background[-1].pid


def end():
    """Ends what `start` started."""
    while background:
        child = background.pop()
        child.terminate()
        child.wait()


OPERATIONS = {"run": run, "read": read, "count": count, "start": start, "end": end}

for line in sys.stdin:
    operation, *arguments = json.loads(line)
    try:
        answer = {"value": OPERATIONS[operation](*arguments)}
    except (OSError, RuntimeError, subprocess.SubprocessError) as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
end()
