"""Runs programs where they are started, and again while they are moved about: both must come to the
same end, output and files. programs.py NODES SIZE NAME...: SIZE 1 is some seconds of each."""

import hashlib, os, random, shutil, subprocess, sys, tempfile, time

NODES, SIZE, NAMES = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
# It stays on a node for so long, seconds.
STAYS = 0.2
# A program that has moved less often has shown nothing.
MOVES_MIN = 2
# These may be in the way; it runs on.
PASSES = {"sqlite": ["lock by fcntl(2)", "it has locked files of its home"]}
ENDED = ["its program has ended", "there is no job", "does not answer about", "is on its way"]

FUNCTION = "int f%d(int x) { switch (x %% 7) { case 0: return x * %d; case 1: return f%d(x - 1); " \
    "case 2: for (int i = 0; i < x; i++) x ^= i * %d; return x; default: return %d + x / 3; } }\n"


def source():
    """What keeps a compiler busy."""
    lines = ["int f0(int x) { return x; }\n"]
    lines += [FUNCTION % (n, n, n - 1, n, n) for n in range(1, 120 * SIZE)]
    last = len(lines) - 1
    return "".join(lines) + f"int main(void) {{ return f{last}({last}) & 1; }}\n"


NUMPY = f"""
import hashlib, numpy
chance = numpy.random.default_rng(7)
a = chance.standard_normal((300, 300))
total = hashlib.sha256()
for n in range({25 * SIZE}):
    a = numpy.tanh(a @ a.T / 300 + chance.standard_normal(a.shape))
    total.update(numpy.linalg.svd(a, compute_uv=False).tobytes())
    print(n, float(a.sum()))
print(total.hexdigest())
"""
NODE = f"""
const crypto = require("crypto"), fs = require("fs");
let hash = "begun", turns = 0;
function turn() {{
  for (let n = 0; n < 4000; n++) hash = crypto.createHash("sha256").update(hash).digest("hex");
  fs.appendFileSync("hashes", hash + "\\n");
  if (++turns === {100 * SIZE}) return console.log(hash);
  turns % 2 ? setTimeout(turn, 5) : Promise.resolve().then(turn);
}}
turn();
"""
SQL = """
import random, sys
part = int(sys.argv[1])
chance = random.Random(part)
print("CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v TEXT, n INTEGER); BEGIN;")
for _ in range(3000):
    n = chance.randrange(10**9)
    print(f"INSERT INTO t (v, n) VALUES ('{n:x}' || hex(zeroblob(40)), {n});")
print(f"DELETE FROM t WHERE n % 17 = {part % 17}; COMMIT;")
print("PRAGMA integrity_check; SELECT count(*), sum(n), max(k) FROM t;")
"""

SHELL = ["bash", "-o", "pipefail", "-c"]
# A line for it in an empty directory, and the files that must be the same.
PROGRAMS = {
    "pipeline": (
        f"seq {6_000_000 * SIZE} | awk '{{ s += $1 % 97; if (NR % 7 == 0) print s }}' | "
        "tee all | sort -rn | uniq | tail -n 300000 | md5sum; echo ${PIPESTATUS[*]}",
        ["all"],
    ),
    "forks": (
        f"for n in $(seq {300 * SIZE}); do (echo $(expr $n \\* 3)) & wait; done | tee all | md5sum",
        ["all"],
    ),
    "gcc": ("gcc -O2 -c big.c -o big.o && gcc big.o -o big && ./big; echo $?", ["big.o"]),
    "numpy": ("/usr/bin/python3 sums.py", []),
    "node": ("node turns.js", ["hashes"]),
    "sqlite": (
        f"for n in $(seq {25 * SIZE}); do /usr/bin/python3 sql.py $n | sqlite3 data.db || exit; "
        "done; sqlite3 data.db .dump | md5sum",
        [],
    ),
    "ffmpeg": (
        f"ffmpeg -v error -f lavfi -i testsrc2=duration={30 * SIZE}:size=640x360 -threads 2 "
        "-c:v mpeg4 -q:v 5 -flags +bitexact -fflags +bitexact film.avi",
        ["film.avi"],
    ),
    "stress-ng": (
        f"stress-ng --quiet --vm 2 --vm-bytes 32m --vm-ops {20_000 * SIZE} --vm-method all "
        "--verify --temp-path .; echo $?",
        [],
    ),
    "sort": ("sort -S 16M -T . --parallel=2 big.txt > sorted; md5sum sorted", ["sorted"]),
}


def lines_to_sort(path):
    chance = random.Random(11)
    line = lambda: b"%016x %032x\n" % (chance.getrandbits(64), chance.getrandbits(128))
    block = [line() for _ in range(2**15)]
    mib = 64 if SIZE == 1 else 1024
    with open(path, "wb") as out:
        while out.tell() < mib << 20:
            chance.shuffle(block)
            out.write(b"".join(block))


def prepared():
    work = tempfile.mkdtemp(prefix="programs", dir="/var/tmp")
    for name, text in [("sums.py", NUMPY), ("turns.js", NODE), ("sql.py", SQL)]:
        open(f"{work}/{name}", "w").write(text)
    if "gcc" in NAMES:
        open(f"{work}/big.c", "w").write(source())
    if "sort" in NAMES:
        lines_to_sort(f"{work}/big.txt")
    return work


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear(work, files):
    for name in os.listdir(work):
        if name in files or name == "data.db":
            os.unlink(f"{work}/{name}")


def told(work, files, process):
    out, err = process.communicate(timeout=600)
    return out, err, process.returncode, [digest(f"{work}/{name}") for name in files]


def short(ended):
    out, err, *rest = ended
    return out[-300:], err[-300:], *rest


def start(work, words):
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=work, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


def moved(name, work, line, files, chance):
    """Runs it while it goes from node to node; what it came to, and how often it moved."""
    tag = f"{name}-{os.getuid()}"
    process = start(work, ["krg", "run", "--name", tag, "--", *SHELL, line])
    number = None
    while number is None and process.poll() is None:
        said = subprocess.run(["krg", "jobs"], capture_output=True, text=True, timeout=30).stdout
        rows = [row.split() for row in said.splitlines()]
        number = next((row[0] for row in rows if row[1] == tag), None)
    at, moves, waited, why = 1, 0, 0, ""
    while process.poll() is None:
        time.sleep(STAYS)
        to = chance.choice([node for node in range(1, NODES + 1) if node != at])
        said = subprocess.run(
            ["krg", "migrate", number, str(to)], capture_output=True, text=True, timeout=120
        )
        why = said.stderr.strip() or why
        if said.returncode == 0:
            at, moves = to, moves + 1
        elif any(words in said.stderr for words in PASSES.get(name, [])):
            waited += 1
        elif not any(words in said.stderr for words in ENDED):
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                sys.exit(f"{name}: from {at} to {to} after {moves} moves: {said.stderr}")
    return told(work, files, process), moves, waited, why


def main():
    work, chance = prepared(), random.Random(SIZE)
    for name in NAMES:
        line, files = PROGRAMS[name]
        clear(work, files)
        begun = time.monotonic()
        plain = told(work, files, start(work, SHELL + [line]))
        plain_s = time.monotonic() - begun
        assert plain[2] == 0, f"{name} fails unmoved: {plain}"
        clear(work, files)
        begun = time.monotonic()
        ours, moves, waited, why = moved(name, work, line, files, chance)
        moved_s = time.monotonic() - begun
        assert ours == plain, f"{name}, {moves} moves: {short(ours)} instead of {short(plain)}"
        times = f"{plain_s:.1f} s; with {moves} moves ({waited} later) {moved_s:.1f} s"
        assert moves >= MOVES_MIN, f"{name} has moved too seldom: {times}: {why}"
        print(f"{name}: {times}", flush=True)
    shutil.rmtree(work)


main()
