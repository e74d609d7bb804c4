"""Starts processes whose names and arguments are to confuse who reads them, and prints their pids:
one a line, with what is odd about it, and an empty line. They live as long as it does."""
import os
import shutil
import signal
import sys
import tempfile

NAMES = {
    "newline": b"a\nb) S 1 (",
    "backslash": b"c\\n\\d",
    "parentheses": b") R 0 0 (x",
    "escapes": b"\x1b[31m\x07\x7fred",
    "latin": b"\xff\xfe\xc3(\xe9",
    "wide": "漢字ケイ".encode(),
    "c1": "\u009b31m".encode(),
    "blanks": b"  a \t b  ",
}
ARGUMENTS = {
    "many bytes": [b"python3", b"-", b"x" * 60_000, b"y" * 60_000, b"z" * 11_500],
    "newlines": [b"python3", b"-", b"one\ntwo\r\n", b"", b"\x1b]0;title\x07"],
    "invalid": [b"\xff\xfe", b"-", "ümlaut\u202e".encode(), b"\xe6\xbc"],
    "empty": [b""],
}
PYTHON = sys.executable.encode()


def start(odd, program, argv, waits):
    """Programs that read their standard input, which never says anything."""
    pid = os.fork()
    if pid == 0:
        os.dup2(waits, 0)
        os.execv(program, argv)
    print(pid, odd, flush=True)


def main():
    # Nobody writes, and its end is held by this process: when it ends they end too.
    waits, _held = os.pipe()
    place = tempfile.mkdtemp().encode()
    for odd, name in NAMES.items():
        program = os.path.join(place, name)
        shutil.copy("/usr/bin/cat", program)
        start(odd, program, [name], waits)
    for odd, argv in ARGUMENTS.items():
        start(odd, b"/usr/bin/cat" if odd == "empty" else PYTHON, argv, waits)
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    print(zombie, "zombie", flush=True)
    print(flush=True)
    signal.pause()


main()
