"""Programs that cannot move: `obstacles.py NAME` does what keeps it, says so, and waits.
Without a name: what each of them is told by `krg migrate`, as lines `NAME|SENTENCE`."""

import ctypes, fcntl, mmap, os, resource, socket, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
kept = []


def call(number, *args):
    got = libc.syscall(number, *args)
    assert got >= 0, os.strerror(ctypes.get_errno())
    return got


def tcp():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    kept.extend([server, client, server.accept()[0]])


def udp():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.connect(("127.0.0.1", 9))
    kept.append(one)


def packet():
    kept.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))


def device():
    kept.append(open("/dev/fuse", "rb"))


def uring():
    params = ctypes.create_string_buffer(120)
    call(425, 4, params)


def faults():
    call(323, os.O_NONBLOCK | 1)


def fanotify():
    call(300, 0, os.O_RDONLY)


def locked_memory():
    memory = mmap.mmap(-1, 1 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mlock(ctypes.c_void_p(address), 1 << 20) == 0
    kept.append(memory)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))


def namespace():
    os.unshare(os.CLONE_NEWUTS) if hasattr(os, "unshare") else call(272, 0x04000000)


def traced():
    if os.fork() == 0:
        # It ends with the first (PR_SET_PDEATHSIG).
        assert libc.prctl(1, 9) == 0 and libc.ptrace(0, 0, 0, 0) == 0
        time.sleep(600)
        os._exit(0)
    time.sleep(0.2)


def of_the_node():
    kept.append(open("/run/krg-obstacle", "w"))


def shared():
    file = open("/dev/shm/krg-obstacle", "w+b")
    file.truncate(4096)
    kept.append(mmap.mmap(file.fileno(), 4096))


def fifo():
    # The other side is a process outside of the job.
    kept.append(open("/var/tmp/obstacle.fifo", "rb"))


def lock():
    file = open("/var/tmp/obstacle.lock", "w")
    fcntl.lockf(file, fcntl.LOCK_EX)
    kept.append(file)


TOLD = {
    "tcp": "has a TCP connection with 127.0.0.1:",
    "udp": "has a UDP connection with 127.0.0.1:9",
    "packet": "has a packet socket",
    "device": "has the device /dev/fuse open",
    "uring": "uses io_uring",
    "faults": "handles page faults (userfaultfd)",
    "fanotify": "watches files (fanotify)",
    "locked_memory": "has locked 1024 KiB of memory, more than its limit of 4 KiB",
    "namespace": "has a uts namespace of its own",
    "traced": "is traced by process",
    "of_the_node": "has /run/krg-obstacle open, which is only on its node",
    "shared": "has mapped /dev/shm/krg-obstacle, which is only on its node",
    "fifo": "has the FIFO /var/tmp/obstacle.fifo open, and so has process",
    "lock": "has a lock by fcntl(2)",
}


def krg(*words):
    return subprocess.run(["krg", *words], capture_output=True, text=True, timeout=60)


def check(name, sentence):
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    command = user if name == "locked_memory" else []
    done = f"/var/tmp/ready.{name}"
    os.mkfifo(done)
    os.chmod(done, 0o666)
    run = [*command, "krg", "run", "-b", "--name", name, "--", sys.executable, __file__, name]
    number = subprocess.run(run, capture_output=True, text=True, timeout=60).stdout.strip()
    with open(done) as told:
        assert told.read() == "ready\n", name
    dry = krg("migrate", "--dry-run", number, "2")
    assert dry.returncode == 1 and sentence in dry.stdout, (name, dry)
    assert all(l.startswith("process ") for l in dry.stdout.splitlines()), (name, dry)
    real = krg("migrate", number, "2")
    assert real.returncode == 1 and sentence in real.stderr, (name, real)
    with open(f"/cluster/proc/{number}/cantmove") as file:
        text = file.read()
        assert sentence in text, (name, text)
    # It runs on where it was, and ends there.
    assert krg("where", number).stdout == "1\n", name
    assert krg("kill", "-KILL", number).returncode == 0, name
    os.unlink(done)


if len(sys.argv) > 1:
    globals()[sys.argv[1]]()
    with open(f"/var/tmp/ready.{sys.argv[1]}", "w") as told:
        told.write("ready\n")
    del told
    time.sleep(600)
else:
    os.mkfifo("/var/tmp/obstacle.fifo")
    other = os.open("/var/tmp/obstacle.fifo", os.O_RDWR)
    for each in TOLD.items():
        check(*each)
    print(len(TOLD), "obstacles")
