"""Does in a node what a test says: a line with an expression comes in, a line with its value goes
out. What it opens stays open, what it locks stays locked, until the test says otherwise."""
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib

libc = ctypes.CDLL(None, use_errno=True)
fds = {}
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def result(code):
    """Of a call of libc's."""
    if code < 0:
        raise OSError(ctypes.get_errno(), "")
    return code


def op(name, path, flags=os.O_RDWR, mode=0o644):
    fds[name] = os.open(path, flags, mode)


def cl(name):
    os.close(fds.pop(name))


def rd(name, size=1 << 16, at=0):
    return os.pread(fds[name], size, at)


def wr(name, data, at=0):
    return os.pwrite(fds[name], data, at)


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def lock(name, kind, wait=False, start=0, length=0):
    """fcntl(2): "r", "w" or "u"."""
    kinds = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
    ask = struct.pack("hhqqi", kinds[kind], 0, start, length, 0)
    fcntl.fcntl(fds[name], fcntl.F_SETLKW if wait else fcntl.F_SETLK, ask)


def blocker(name, kind):
    """What keeps a lock from being had."""
    kinds = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK}
    names = {fcntl.F_RDLCK: "r", fcntl.F_WRLCK: "w", fcntl.F_UNLCK: "none"}
    ask = struct.pack("hhqqi", kinds[kind], 0, 0, 0, 0)
    said = struct.unpack("hhqqi", fcntl.fcntl(fds[name], fcntl.F_GETLK, ask))
    return names[said[0]]


def flock(name, how):
    fcntl.flock(fds[name], how)


def rename(old, new, flags):
    here = -100
    result(libc.renameat2(here, os.fsencode(old), here, os.fsencode(new), flags))


def times(path, atime, mtime):
    """utimensat(2), each a pair of seconds and nanoseconds."""
    both = struct.pack("qqqq", *atime, *mtime)
    result(libc.utimensat(-100, os.fsencode(path), both, 0))


def fallocate(name, mode, at, length):
    at, length = ctypes.c_long(at), ctypes.c_long(length)
    result(libc.fallocate(fds[name], mode, at, length))


def copy(source, target, length, source_at, target_at):
    """copy_file_range(2), to the end; how many bytes."""
    done = 0
    while done < length and (
        n := os.copy_file_range(
            fds[source], fds[target], length - done, source_at + done, target_at + done
        )
    ):
        done += n
    return done


def more_files(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def took(work):
    """How many milliseconds something takes, and its value or error."""
    begun = time.monotonic()
    try:
        value = work()
    except OSError as e:
        value = errno.errorcode[e.errno]
    return f"{(time.monotonic() - begun) * 1000:.0f} {shown(value)}"


def turn(path, flags, steps):
    """Opens a file, does something with it and closes it: its length and checksum when it was
    opened, a checksum for every step, and both again at the end."""
    fd = os.open(path, flags)
    said = []

    def whole():
        data, n = [], 0
        while part := os.pread(fd, 50_000, n):
            data.append(part)
            n += len(part)
        said.append((os.fstat(fd).st_size, zlib.crc32(b"".join(data))))

    whole()
    for what, at, length, mark in steps:
        data = (mark.to_bytes(4, "little") * (length // 4 + 1))[:length]
        if what == "write":
            os.pwrite(fd, data, at)
        elif what == "append":
            os.write(fd, data)
        elif what == "truncate":
            os.ftruncate(fd, at)
        elif what == "map":
            with mmap.mmap(fd, 0) as view:
                said.append((length, zlib.crc32(view[at : at + length])))
        elif what == "mapwrite":
            with mmap.mmap(fd, 0) as view:
                view[at : at + length] = data
                view.flush()
        else:
            said.append((length, zlib.crc32(os.pread(fd, length, at))))
    whole()
    os.close(fd)
    return " ".join(f"{size}:{crc}" for size, crc in said)


def act(root, what, path, *rest):
    """Does one thing in a tree."""
    at = os.path.join(root, path)
    if what == "mkdir":
        os.mkdir(at, *rest)
    elif what == "fifo":
        os.mkfifo(at, *rest)
    elif what in ("make", "append", "write"):
        mark, length, *place = rest
        how = {"make": os.O_CREAT | os.O_EXCL, "append": os.O_CREAT | os.O_APPEND, "write": 0}
        fd = os.open(at, os.O_WRONLY | os.O_NONBLOCK | how[what], 0o640)
        try:
            data = bytes([mark]) * length
            os.pwrite(fd, data, place[0]) if place else os.write(fd, data)
        finally:
            os.close(fd)
    elif what == "rename":
        rename(at, os.path.join(root, rest[0]), rest[1])
    elif what == "link":
        os.link(at, os.path.join(root, rest[0]), follow_symlinks=False)
    elif what == "symlink":
        os.symlink(path, os.path.join(root, rest[0]))
    elif what == "xattr":
        os.setxattr(at, "user.krg", bytes([rest[0]]))
    elif what == "times":
        os.utime(at, ns=(rest[0] * 1_000_000_007, rest[1] * 1_000_000_009))
    else:
        {"truncate": os.truncate, "chmod": os.chmod, "unlink": os.unlink, "rmdir": os.rmdir}[what](
            at, *rest
        )


def acts(root, steps):
    """Does one after the other; what came of each."""
    umask, said = os.umask(0o022), []
    for step in steps:
        try:
            act(root, *step)
            said.append("ok")
        except OSError as e:
            said.append(errno.errorcode[e.errno])
    os.umask(umask)
    return " ".join(said)


def state(root, names, depth):
    """All that there is in a tree, and what is found under every name that may be there."""
    lines, links = [], {}
    for length in range(1, depth + 1):
        for path in itertools.product(names, repeat=length):
            try:
                lines.append(stat.S_IFMT(os.stat(os.path.join(root, *path)).st_mode))
            except OSError as e:
                lines.append(e.errno)
    for place, dirs, files in os.walk(root):
        dirs.sort()
        for name in sorted(dirs + files):
            at = os.path.join(place, name)
            s = os.lstat(at)
            kind = stat.S_IFMT(s.st_mode)
            twin = links.setdefault((s.st_dev, s.st_ino), len(links))
            line = [at[len(root) :], oct(s.st_mode), s.st_nlink, s.st_uid, twin]
            if kind == stat.S_IFLNK:
                line.append(os.readlink(at))
            elif kind == stat.S_IFREG:
                # What was a file may be a FIFO by now.
                fd = os.open(at, os.O_RDONLY | os.O_NONBLOCK)
                line += [s.st_size, zlib.crc32(os.read(fd, 1 << 20))]
                os.close(fd)
            if kind in (stat.S_IFREG, stat.S_IFDIR):
                line += [(n, os.getxattr(at, n)[0]) for n in os.listxattr(at) if "krg" in n]
            if s.st_mtime < 1e9:
                line.append(s.st_mtime_ns)
            lines.append(line)
    return repr(lines)


def tried(times, work):
    """What comes of it, and how often."""
    seen = {}
    for _ in range(times):
        try:
            value = shown(work())
        except OSError as e:
            value = errno.errorcode[e.errno]
        seen[value] = seen.get(value, 0) + 1
    return " ".join(f"{value}:{count}" for value, count in seen.items())


def call(host, port):
    """A connection; its number."""
    return socket.create_connection((host, port), 5).detach()


def knock(host, port, data):
    """Says something to a port; what it answers until it hangs up."""
    said = b""
    with socket.create_connection((host, port), 5) as door:
        try:
            door.sendall(data)
            while part := door.recv(1 << 16):
                said += part
        except ConnectionError:
            pass
    return said or "closed"


def count(path, times):
    """Adds to a number in a file, under a lock, without opening it anew."""
    fds["count"] = os.open(path, os.O_RDWR)
    for _ in range(times):
        lock("count", "w", True)
        wr("count", b"%08d" % (int(rd("count", 8)) + 1))
        lock("count", "u")
    cl("count")


def wrong_bytes(copy, source):
    """Where a copy is neither as its source nor empty."""
    wrong, size = [], 1 << 16
    with open(copy, "rb") as one, open(source, "rb") as other:
        while part := one.read(size):
            right = other.read(len(part))
            if part != right and part.strip(b"\0"):
                at = one.tell() - len(part)
                both = enumerate(zip(part, right))
                wrong += [at + n for n, (a, b) in both if a not in (0, b)]
    return wrong[:10]


class Watch(threading.Thread):
    """Opens and reads a file again and again: the longest time it took, and any error."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.longest, self.rounds, self.errors = path, 0, 0, set()
        self.stop = threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(0.02):
            begun = time.monotonic()
            try:
                get(self.path)
                os.stat(self.path)
            except OSError as e:
                self.errors.add(errno.errorcode[e.errno])
            self.longest = max(self.longest, time.monotonic() - begun)
            self.rounds += 1

    def end(self):
        self.stop.set()
        self.join()
        return f"{self.rounds} {self.longest * 1000:.0f} {sorted(self.errors)}"


def shown(value):
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)


# A signal is to end it, not to raise an exception somewhere.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.umask(0o022)
print(os.getpid(), flush=True)
for line in sys.stdin:
    try:
        print("ok", shown(eval(line, globals())), flush=True)
    except OSError as e:
        print("err", errno.errorcode.get(e.errno, e.errno), flush=True)
    except Exception as e:
        print("bug", repr(e), flush=True)
