"""What a node does for files.py, timed.

    files_work.py prepare DIR           the files that are read
    files_work.py stream DIR            sequential writing and reading, as JSON
    files_work.py small DIR             every other measure
    files_work.py wire-server PORT      the other end of a TCP connection, raw or in TLS
    files_work.py wire HOST PORT KIND   measures it (ping, or stream), as JSON
    files_work.py sftp PORT PROGRAM     an SFTP server on a bare TCP port, for sshfs
"""

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
STREAM_MIB = 1024
READS = 3000
SMALL = 500
DIRS, FILES = 100, 100
PAGE = 4096


def prepare(at):
    os.makedirs(f"{at}/tree", exist_ok=True)
    with open(f"{at}/random", "wb") as out:
        for _ in range(64):
            out.write(os.urandom(MIB))
    for d in range(DIRS):
        os.makedirs(f"{at}/tree/d{d}", exist_ok=True)
        for f in range(FILES):
            with open(f"{at}/tree/d{d}/f{f}", "w", encoding="ascii"):
                pass
    with tempfile.TemporaryDirectory() as work:
        for d in range(14):
            os.makedirs(f"{work}/src/d{d}")
            for f in range(100):
                with open(f"{work}/src/d{d}/f{f}.c", "wb") as out:
                    out.write(os.urandom(random.randrange(500, 15000)))
        subprocess.run(["tar", "cf", "/tmp/bench.tar", "-C", work, "src"], check=True)
    shutil.rmtree(f"{at}/git", ignore_errors=True)
    os.makedirs(f"{at}/git")
    run = lambda *line: subprocess.run(line, cwd=f"{at}/git", check=True, stdout=subprocess.DEVNULL)
    run("tar", "xf", "/tmp/bench.tar")
    run("git", "init", "-q")
    run("git", "add", "-A")
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    run("git", *who, "commit", "-qm", "all")
    subprocess.run(["chmod", "-R", "a+rwX", at], check=True)


def forget():
    """Names and pages that this kernel has are read again."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as out:
        out.write("3\n")


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median(values):
    return sorted(values)[len(values) // 2]


def stream(at):
    piece = os.urandom(MIB)

    def write():
        with open(f"{at}/stream", "wb", buffering=0) as out:
            for _ in range(STREAM_MIB):
                out.write(piece)

    def read():
        with open(f"{at}/stream", "rb", buffering=0) as file:
            buf = bytearray(MIB)
            while file.readinto(buf):
                pass

    written = timed(write)
    fd = os.open(f"{at}/stream", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    got = timed(read)
    os.unlink(f"{at}/stream")
    return {"write_mbs": STREAM_MIB * 1.048576 / written, "read_mbs": STREAM_MIB * 1.048576 / got}


def reads(at):
    fd = os.open(f"{at}/random", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    places = random.sample(range(64 * MIB // PAGE), READS)
    took = [timed(lambda: os.pread(fd, PAGE, place * PAGE)) for place in places]
    os.close(fd)
    return {"rand_us": median(took) * 1e6}


def walk(at):
    def look():
        for directory, _, files in os.walk(f"{at}/tree"):
            for name in files:
                os.lstat(os.path.join(directory, name))

    forget()
    cold = timed(look)
    return {"cold_ms": cold * 1e3, "warm_ms": median([timed(look) for _ in range(3)]) * 1e3}


def small(at):
    os.makedirs(f"{at}/small", exist_ok=True)

    def create(name):
        fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        os.write(fd, b"hello world\n")
        os.close(fd)

    names = [f"{at}/small/{n}" for n in range(SMALL)]
    created = [timed(lambda: create(name)) for name in names]
    gone = [timed(lambda: os.unlink(name)) for name in names]
    return {"create_us": median(created) * 1e6, "unlink_us": median(gone) * 1e6}


def trees(at):
    os.makedirs(f"{at}/untar", exist_ok=True)
    untar = ["tar", "xf", "/tmp/bench.tar", "-C", f"{at}/untar"]
    took = timed(lambda: subprocess.run(untar, check=True))
    shutil.rmtree(f"{at}/untar")
    forget()
    status = ["git", "-c", f"safe.directory=*", "-C", f"{at}/git", "status", "--short"]
    git = timed(lambda: subprocess.run(status, check=True, stdout=subprocess.DEVNULL))
    return {"untar_ms": took * 1e3, "git_ms": git * 1e3}


def tls_server():
    with tempfile.TemporaryDirectory() as work:
        key, cert = f"{work}/key", f"{work}/cert"
        new = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=bench"]
        files = ["-keyout", key, "-out", cert, "-days", "1"]
        subprocess.run(new + files, check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context


def wire_server(port):
    context = tls_server()
    with socket.create_server(("", int(port))) as door:
        print("ready", flush=True)
        while True:
            peer, _ = door.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kind = peer.recv(1)
            if kind == b"e":
                return
            if kind == b"p":
                while peer.recv(64):
                    peer.sendall(bytes(PAGE))
                continue
            if kind == b"t":
                peer = context.wrap_socket(peer, server_side=True)
            piece = bytes(MIB)
            for _ in range(STREAM_MIB):
                peer.sendall(piece)
            peer.close()


def wire(host, port, what):
    def connect(kind):
        peer = socket.create_connection((host, int(port)))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(kind)
        return peer

    def drain(peer):
        buf = bytearray(MIB)
        while peer.recv_into(buf):
            pass

    def ping():
        peer.sendall(b"x" * 60)
        got = 0
        while got < PAGE:
            got += len(peer.recv(PAGE))

    if what == "ping":
        peer = connect(b"p")
        pings = [timed(ping) for _ in range(READS)]
        peer.close()
        figures = {"ping_us": median(pings) * 1e6}
    else:
        raw = timed(lambda: drain(connect(b"r")))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        peer = context.wrap_socket(connect(b"t"))
        tls = timed(lambda: drain(peer))
        mb = STREAM_MIB * 1.048576
        figures = {"raw_mbs": mb / raw, "tls_mbs": mb / tls}
    connect(b"e").close()
    return figures


def sftp(port, program):
    with socket.create_server(("", int(port))) as door:
        print("ready", flush=True)
        while True:
            peer, _ = door.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            subprocess.Popen([program], stdin=peer, stdout=peer)
            peer.close()


MEASURES = {"stream": [stream], "small": [reads, walk, small, trees]}


def main():
    what, *rest = sys.argv[1:]
    if what in MEASURES:
        figures = {}
        for measure in MEASURES[what]:
            figures.update(measure(rest[0]))
        print(json.dumps(figures))
    elif what == "wire":
        print(json.dumps(wire(*rest)))
    else:
        {"prepare": prepare, "wire-server": wire_server, "sftp": sftp}[what](*rest)


main()
