"""The parts of jobs.py that run in the nodes.

    jobs_work.py agent PORT                       takes images and brings them back; swallows bytes
    jobs_work.py sizes CRIU ADDRESS PORT MB N     moves by krg and by hand, and the bytes alone
    jobs_work.py paces ADDRESS PORT N             what a job does at home and away
    jobs_work.py saves CRIU MB N                  saved and begun again, by krg and by CRIU alone
    jobs_work.py starts N                         how long it takes to start one
"""

import json
import os
import pty
import shutil
import socket
import statistics
import subprocess
import sys
import tty
import time
from pathlib import Path

HOLD, IMAGES = "/var/tmp/hold", Path("/tmp/images")
PIECE = 1 << 20
# Holds so many MB of what does not compress, and says so by a file.
SOURCE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t bytes = strtoul(argv[1], 0, 10) << 20, n = bytes / 8;
    unsigned long *all = malloc(bytes), x = 88172645463325252UL;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        all[i] = x;
    }
    close(open(argv[2], O_CREAT | O_WRONLY, 0644));
    for (;;) pause();
}
"""
FLAGS = ["-v0", "--shell-job", "--manage-cgroups=ignore", "--network-lock", "skip"]
# A program that does what it is told, and says how long it took, ms.
WORKER = r"""
import hashlib, os, sys, time
def compute():
    n = 0
    for i in range(3_000_000):
        n = (n * 31 + i) & 0xffffffff
    return n
def read(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while os.read(fd, 1 << 20):
        pass
    os.close(fd)
def write(lines):
    line = b"x" * 79 + b"\n"
    for _ in range(int(lines)):
        os.write(1, line)
while line := sys.stdin.readline():
    what, *rest = line.split()
    begun, cpu = time.time(), time.process_time()
    {"compute": compute, "read": read, "write": write}[what](*rest)
    print("took", 1e3 * (time.time() - begun), 1e3 * (time.process_time() - cpu), flush=True)
"""


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def read_exactly(stream, count):
    while count:
        piece = stream.read(min(count, PIECE))
        if not piece:
            raise EOFError
        count -= len(piece)
        yield piece


def agent(port):
    listener = socket.create_server(("", port))
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb", buffering=PIECE)
        for line in stream:
            ask = json.loads(line)
            if ask["do"] == "pss":
                connection.sendall(b"%d\n" % pss_kib())
                continue
            if ask["do"] == "swallow":
                for _ in read_exactly(stream, ask["bytes"]):
                    pass
            else:
                restore(stream, ask)
            connection.sendall(b"done\n")


def restore(stream, ask):
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir()
    for name, size in ask["files"]:
        with open(IMAGES / name, "wb", buffering=0) as image:
            for piece in read_exactly(stream, size):
                image.write(piece)
    pid = IMAGES / "pid"
    run(ask["criu"], "restore", "-D", str(IMAGES), "-d", "--pidfile", str(pid), *FLAGS)
    # That was all of the move; what follows is not measured.
    os.kill(int(pid.read_text()), 9)


def made(place):
    Path(place).parent.mkdir(exist_ok=True)
    run("cc", "-O2", "-x", "c", "-o", place, "-", input=SOURCE)


def until(done, what):
    end = time.monotonic() + 120
    while not done():
        if time.monotonic() > end:
            sys.exit(f"bench: {what} within 120 s: no")
        time.sleep(0.005)


def job(name):
    jobs = json.loads(run("krg", "jobs", "--json"))["jobs"]
    return next((j["job"] for j in jobs if j["name"] == name), None)


def by_krg(number, to):
    begun = time.monotonic()
    said = json.loads(run("krg", "migrate", "--json", str(number), str(to)))
    total = 1e3 * (time.monotonic() - begun)
    phases = {p["phase"]: p["us"] / 1e3 for p in said["phases"]}
    frozen = said["frozen_us"] / 1e3
    return {"frozen": frozen, "total": total, "bytes": said["image_bytes"]} | phases


def by_hand(criu, wire, mb):
    """Dump into memory, copy, bring back: what it takes with CRIU alone."""
    parent, pid = begun_by_hand(mb)
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir()
    begun = time.monotonic()
    run(criu, "dump", "-t", pid, "-D", str(IMAGES), *FLAGS)
    dumped = time.monotonic()
    files = [(image.name, image.stat().st_size) for image in IMAGES.iterdir()]
    head = json.dumps({"do": "restore", "criu": criu, "files": files})
    wire.sendall(head.encode() + b"\n")
    for name, _ in files:
        with open(IMAGES / name, "rb") as image:
            wire.sendfile(image)
    assert wire.recv(5) == b"done\n", "the other side has failed"
    ended = time.monotonic()
    parent.wait()
    shutil.rmtree(IMAGES)
    return {"total": 1e3 * (ended - begun), "dump": 1e3 * (dumped - begun)}


def by_wire(wire, count):
    piece = os.urandom(PIECE)
    begun = time.monotonic()
    wire.sendall(json.dumps({"do": "swallow", "bytes": count}).encode() + b"\n")
    while count:
        sent = min(count, PIECE)
        wire.sendall(piece[:sent])
        count -= sent
    assert wire.recv(5) == b"done\n"
    return 1e3 * (time.monotonic() - begun)


def sizes(criu, address, port, mb, rounds):
    made(HOLD)
    shutil.copy(HOLD, f"/mfs/2{HOLD}")
    wire = socket.create_connection((address, port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ready = Path("/var/tmp/by-krg")
    ready.unlink(missing_ok=True)
    run("krg", "run", "-b", "--name", "hold", HOLD, str(mb), str(ready))
    until(ready.exists, "it is ready")
    number = job("hold")
    figures = {"away": [], "home": [], "hand": [], "wire": []}
    for at in range(rounds + 1):
        turn = {"away": by_krg(number, 2), "home": by_krg(number, "home")}
        turn["hand"] = by_hand(criu, wire, mb)
        turn["wire"] = by_wire(wire, turn["away"]["bytes"])
        # The first one fills caches, CRIU's of what the kernel can among them.
        for name, figure in turn.items() if at else []:
            figures[name].append(figure)
    run("pkill", "-KILL", "-x", "hold")
    print(json.dumps(figures))


def begun_by_hand(mb):
    """A process that holds so much, in a namespace of its own: its parent, and its number."""
    ready = Path("/var/tmp/by-hand")
    ready.unlink(missing_ok=True)
    null = subprocess.DEVNULL
    words = ["unshare", "--pid", "--fork", "setsid", HOLD, str(mb), str(ready)]
    parent = subprocess.Popen(words, stdin=null, stdout=null, stderr=null)
    until(ready.exists, "it is ready")
    return parent, run("pgrep", "-P", str(parent.pid)).strip()


def timed(work):
    begun = time.monotonic()
    said = work()
    return 1e3 * (time.monotonic() - begun), said


def saved_by_hand(criu, mb):
    """To the disk that krg writes to, and to the last byte (as krg's is)."""
    images = Path("/var/chkpt/by-hand")
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    parent, pid = begun_by_hand(mb)
    dump = [criu, "dump", "--leave-running", "-t", pid, "-D", str(images), *FLAGS]
    took, _ = timed(lambda: (run(*dump), run("sync", "-f", str(images))))
    parent.kill()
    os.kill(int(pid), 9)
    parent.wait()
    held = images / "pid"
    restore = [criu, "restore", "-D", str(images), "-d", "--pidfile", str(held), *FLAGS]
    again, _ = timed(lambda: run(*restore))
    os.kill(int(held.read_text()), 9)
    shutil.rmtree(images)
    return {"save": took, "again": again}


def saved_by_krg(number):
    took, said = timed(lambda: json.loads(run("krg", "checkpoint", "--json", str(number))))
    run("krg", "kill", "-KILL", str(number))
    until(lambda: job("hold") is None, "it has ended")
    again, _ = timed(lambda: run("krg", "restart", str(number)))
    run("krg", "checkpoints", "--remove", str(number), str(said["version"]))
    return {"save": took, "again": again, "frozen": said["frozen_us"] / 1e3}


def saves(criu, mb, rounds):
    made(HOLD)
    ready = Path("/var/tmp/by-krg")
    ready.unlink(missing_ok=True)
    run("krg", "run", "-b", "--name", "hold", HOLD, str(mb), str(ready))
    until(ready.exists, "it is ready")
    figures = {"krg": [], "hand": []}
    for at in range(rounds + 1):
        turn = {"krg": saved_by_krg(job("hold")), "hand": saved_by_hand(criu, mb)}
        for name, figure in turn.items() if at else []:
            figures[name].append(figure)
    run("pkill", "-KILL", "-x", "hold")
    print(json.dumps(figures))


class Worker:
    """The program, bare or as a job, with a terminal of its own or with pipes."""

    def __init__(self, words, terminal=False):
        self.pid, self.master = pty.fork() if terminal else (0, None)
        if terminal and self.pid == 0:
            tty.setraw(0)
            os.execvp(words[0], words)
        if terminal:
            self.input = os.fdopen(os.dup(self.master), "wb", buffering=0)
            self.output = os.fdopen(self.master, "rb", buffering=1 << 16)
        else:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe)
            self.input, self.output = self.process.stdin, self.process.stdout

    def ask(self, *words):
        """How long it says that this took, and how long it was until all of it was here."""
        begun = time.monotonic()
        self.input.write(" ".join(words).encode() + b"\n")
        self.input.flush()
        while line := self.output.readline():
            at = line.find(b"took ")
            if at >= 0:
                wall, cpu = map(float, line[at:].split()[1:3])
                here = 1e3 * (time.monotonic() - begun)
                return {"wall": wall, "cpu": cpu, "here": here}
        return sys.exit(f"bench: it has ended at {words}")

    def end(self):
        self.input.close()
        if self.master is None:
            self.process.wait()
        else:
            os.kill(self.pid, 1)
            os.waitpid(self.pid, 0)


def pss_kib():
    lines = run("sh", "-c", "cat $(pgrep -x krg-job | sed 's#.*#/proc/&/smaps_rollup#')")
    return sum(int(l.split()[1]) for l in lines.splitlines() if l.startswith("Pss:"))


def paces(address, port, rounds):
    data, mb = "/var/tmp/data", 128
    with open(data, "wb") as file:
        for _ in range(mb):
            file.write(os.urandom(PIECE))
    shutil.copy(data, f"/mfs/2{data}")
    path = "/var/tmp/worker.py"
    Path(path).write_text(WORKER, encoding="utf-8")
    python = ["/usr/bin/python3", "-u", path]
    as_job = lambda name: ["krg", "run", "--name", name, "--", *python]
    both = {"bare": Worker(python), "home": Worker(as_job("home")), "away": Worker(as_job("away"))}
    shown = {
        "bare": Worker(python, terminal=True),
        "home": Worker(as_job("home-tty"), terminal=True),
        "away": Worker(as_job("away-tty"), terminal=True),
    }
    for worker in [*both.values(), *shown.values()]:
        worker.ask("compute")
    home_kib = pss_kib() / 4
    for name in ["away", "away-tty"]:
        run("krg", "migrate", str(job(name)), "2")
    wire = socket.create_connection((address, port))
    wire.sendall(b'{"do": "pss"}\n')
    figures = {"home_kib": home_kib, "away_kib": int(wire.makefile().readline()) / 2}
    for _ in range(rounds):
        for name in both:
            told = [both[name].ask("compute"), both[name].ask("read", data)]
            told.append(shown[name].ask("write", "40000"))
            for what, figure in zip(["compute", "read", "write"], told):
                figures.setdefault(f"{what} {name}", []).append(figure)
        told = both["bare"].ask("read", f"/mfs/2{data}")
        figures.setdefault("read mfs", []).append(told)
    figures["mb"], figures["lines"] = mb, 40000
    for worker in [*both.values(), *shown.values()]:
        worker.end()
    print(json.dumps(figures))


def starts(count):
    figures = {"true": [], "krg run true": []}
    if shutil.which("systemd-run") and Path("/run/systemd/system").exists():
        figures["systemd-run --wait -q true"] = []
    for _ in range(count):
        for line, told in figures.items():
            begun = time.monotonic()
            run(*line.split())
            told.append(1e3 * (time.monotonic() - begun))
    print(json.dumps({line: statistics.median(told) for line, told in figures.items()}))


def main():
    what, *rest = sys.argv[1:]
    if what == "agent":
        agent(int(rest[0]))
    elif what == "sizes":
        sizes(rest[0], rest[1], *map(int, rest[2:]))
    elif what == "saves":
        saves(rest[0], *map(int, rest[1:]))
    elif what == "paces":
        paces(rest[0], *map(int, rest[1:]))
    else:
        starts(int(rest[0]))


main()
