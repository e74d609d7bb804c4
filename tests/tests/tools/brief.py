"""Texts of one line about the whole system are held for a moment. Argument: the last cpu."""
import os
import sys
import time

PATH = "/proc/uptime"
SOON_S = 5.0
ROUNDS = 300


def seconds(text):
    """The uptime, of a text that is whole."""
    assert text.endswith(b"\n") and text.count(b"\n") == 1, text
    uptime, _idle = map(float, text.split())
    return uptime


def anew():
    with open(PATH, "rb") as file:
        return seconds(file.read())


# A byte at a time, as a shell reads.
fd = os.open(PATH, os.O_RDONLY)
text = b""
while byte := os.read(fd, 1):
    text += byte
first = seconds(text)

# Who begins again reads what is so by then.
begun = time.monotonic()
while seconds(os.pread(fd, 100, 0)) <= first:
    assert time.monotonic() - begun < SOON_S, f"still {first}"
os.close(fd)

# Who opens it anew reads what is so now, and never what was so before what he has read.
begun, last = time.monotonic(), anew()
first = last
while last - first < 0.5:
    now = anew()
    assert now >= last, f"{now} after {last}"
    last = now
    took = time.monotonic() - begun
    assert took < SOON_S and last - first < took + 0.1, f"{last - first} in {took}"

# However it was come by: the names of a directory are told with what they stand for.
for n in range(ROUNDS):
    names = {entry.name: entry for entry in os.scandir("/proc")}
    for name in ("uptime", "loadavg"):
        assert names[name].is_file(follow_symlinks=True), name
        path = "/proc/" + name
        with open(path, "rb") as file:
            size, text = os.fstat(file.fileno()).st_size, file.read()
        assert (size, text.count(b"\n")) == (len(text), 1), f"{name}: {size} of {text}"
    with open("/sys/devices/system/cpu/online", "rb") as file:
        assert file.read() == b"0-%s\n" % sys.argv[1].encode()
print("as it should be")
