"""Moves the probe about, and has it check itself after each move: moves.py PROBE MOVES NODES SEED."""

import json, random, subprocess, sys

probe, moves, nodes, seed = sys.argv[1], *map(int, sys.argv[2:5])
chance = random.Random(seed)


def jobs():
    said = subprocess.run(["krg", "jobs", "--json"], capture_output=True, text=True, timeout=20)
    return json.loads(said.stdout)["jobs"]


name = f"probe{seed}"
job = subprocess.Popen(
    ["krg", "run", "--name", name, "--", "python3", probe],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
)


def check(n):
    job.stdin.write("check\n")
    line = job.stdout.readline()
    assert line == f"ok {n}\n", f"after {n - 1} moves: {line!r}"


check(1)
(number,) = [j["job"] for j in jobs() if j["name"] == name]
at, frozen = 1, []
for n in range(1, moves + 1):
    to = chance.choice([node for node in range(1, nodes + 1) if node != at])
    said = subprocess.run(
        ["krg", "migrate", "--json", str(number), str(to)],
        capture_output=True, text=True, timeout=60,
    )
    assert said.returncode == 0, f"move {n} from {at} to {to}: {said.stderr}"
    frozen.append(json.loads(said.stdout)["frozen_us"])
    at = to
    check(n + 1)
job.stdin.close()
assert job.stdout.read() == "whole\n"
assert job.wait(20) == 0
frozen.sort()
print("moves", moves, "frozen ms, median:", frozen[len(frozen) // 2] // 1000)
