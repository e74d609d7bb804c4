"""Programs that move: krg migrate beside CRIU by hand over the same wire; what being away costs.

    jobs.py KRG LAB

The lab has two nodes and is up. Every figure is the median of rounds in which all take their turns
one after the other. By hand: criu dump into memory, the images over TCP, criu restore there.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

# MB, and how often.
SIZES = [(1, 15), (64, 7), (512, 3), (2048, 1)]
SAVED = [(1, 7), (64, 5), (512, 3)]
PORT = "9993"
CRIU = "/usr/local/lib/krg/criu"
WORK = Path(__file__).with_name("jobs_work.py").read_text(encoding="utf-8")
PHASES = ["ready", "dump", "send", "restore", "commit", "resume"]


def node(krg, lab, number, *words):
    line = [krg, "lab", "exec", "--name", lab, str(number), "--"]
    line += ["/usr/bin/python3", "-u", "-c", WORK, *words]
    done = subprocess.run(line, check=False, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(words)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def median(rows, key=None):
    return statistics.median(row[key] if key else row for row in rows)


def moves(krg, lab, address):
    print("\nmoving a process that holds so much, ms (by hand: CRIU alone, and the copy)")
    head = ["MB", "frozen", "total", "back", "by hand", "ratio", "TCP alone", "aim"]
    print("".join(f"{word:>11}" for word in head))
    parts = {}
    for mb, rounds in SIZES:
        words = ["sizes", CRIU, address, PORT, str(mb), str(rounds)]
        told = node(krg, lab, 1, *words)
        away, hand = median(told["away"], "frozen"), median(told["hand"], "total")
        cells = [away, median(told["away"], "total"), median(told["home"], "frozen"), hand]
        aim = "< 40, 2.5" if mb == 1 else "1"
        line = f"{mb:>11}" + "".join(f"{cell:>11.1f}" for cell in cells)
        print(f"{line}{away / hand:>11.2f}{median(told['wire']):>11.1f}{aim:>11}", flush=True)
        parts[mb] = {phase: median(told["away"], phase) for phase in PHASES}
    print("\nof it, ms" + "".join(f"{phase:>9}" for phase in PHASES))
    for mb, phases in parts.items():
        print(f"{mb:>6} MB" + "".join(f"{phases[phase]:>9.1f}" for phase in PHASES))


def paces(krg, lab, address):
    told = node(krg, lab, 1, "paces", address, PORT, "7")
    mb, lines = told["mb"], told["lines"]
    at = ["bare", "home", "away"]
    print("\nwhat a job does" + "".join(f"{word:>11}" for word in [*at, "away/bare"]))
    for what, words, key in [
        ("compute", "computing, ms", "wall"),
        ("compute", "the same, processor time, ms", "cpu"),
        ("read", f"reading a file of {mb} MB, ms", "wall"),
        ("write", f"{lines} lines to its terminal, ms", "here"),
    ]:
        cells = [median(told[f"{what} {place}"], key) for place in at]
        line = "".join(f"{cell:>11.1f}" for cell in cells)
        print(f"{words:<40}{line}{cells[2] / cells[0]:>11.2f}")
    mfs = median(told["read mfs"], "wall")
    print(f"{'a file of that size by /mfs/2, ms':<40}{mfs:>33.1f}")
    home, away = told["home_kib"], told["away_kib"]
    print(f"a holder, PSS: {home:.0f} KiB at home, {away:.0f} KiB with a guest")


def saves(krg, lab):
    print("\nsaving to disk, and beginning again, ms (by hand: CRIU alone, to the same disk)")
    head = ["MB", "saved", "by hand", "ratio", "frozen", "again", "by hand", "ratio", "aim"]
    print("".join(f"{word:>11}" for word in head))
    for mb, rounds in SAVED:
        told = node(krg, lab, 1, "saves", CRIU, str(mb), str(rounds))
        ours = [median(told["krg"], key) for key in ["save", "frozen", "again"]]
        save, again = (median(told["hand"], key) for key in ["save", "again"])
        cells = [ours[0], save, ours[0] / save, ours[1], ours[2], again, ours[2] / again]
        line = "".join(f"{cell:>11.{2 if at in (2, 6) else 1}f}" for at, cell in enumerate(cells))
        print(f"{mb:>11}{line}{'1':>11}", flush=True)


def starts(krg, lab):
    print("\nstarting one, ms")
    for line, took in node(krg, lab, 1, "starts", "15").items():
        print(f"{line:<40}{took:>11.1f}")


def main():
    krg, lab = sys.argv[1:3]
    line = [krg, "lab", "exec", "--name", lab, "2", "--", "/usr/bin/python3", "-u", "-c", WORK]
    agent = subprocess.Popen([*line, "agent", PORT], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    agent.stdout.readline()
    hosts = [krg, "lab", "exec", "--name", lab, "1", "--", "getent", "hosts", "node2"]
    address = subprocess.run(hosts, check=True, text=True, capture_output=True).stdout.split()[0]
    try:
        moves(krg, lab, address)
        paces(krg, lab, address)
    finally:
        agent.terminate()
        agent.wait()
    saves(krg, lab)
    starts(krg, lab)


main()
