"""Has one of everything that a program can have, and checks all of it whenever it reads a line."""

import ctypes, fcntl, mmap, os, select, signal, socket, struct, sys, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
IPC_PRIVATE, IPC_CREAT = 0, 0o1000
moves = 0


def fail(what):
    print("FAILED", what, flush=True)
    os._exit(1)


def expect(what, got, wanted):
    if got != wanted:
        fail(f"{what}: {got!r} instead of {wanted!r}")


class Message(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_long), ("text", ctypes.c_char * 32)]


# Blocked in all threads, or the kernel gives it to one that has not.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

# Threads with memory of their own that count.
counts, own = [0, 0, 0], threading.local()
turns = [threading.Event() for _ in counts]


def count(at):
    own.value = at * 100
    while True:
        turns[at].wait()
        turns[at].clear()
        own.value += 1
        counts[at] = own.value


for at in range(len(counts)):
    threading.Thread(target=count, args=(at,), daemon=True).start()

# A child that answers through a pipe and a socket, one that is a session of its own with a child,
# and one that has ended and is not waited for.
to_child, from_parent = os.pipe()[::-1]
one, other = socket.socketpair()
child = os.fork()
if child == 0:
    os.close(to_child)
    one.close()
    while line := os.read(from_parent, 1):
        other.sendall(line + str(os.getppid()).encode() + b";")
    os._exit(0)
leader = os.fork()
if leader == 0:
    os.setsid()
    if os.fork() == 0:
        signal.pause()
    signal.pause()
zombie = os.fork()
if zombie == 0:
    os._exit(42)


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


# They have got there before anything is checked.
while os.getsid(leader) != leader or state(zombie) != "Z":
    time.sleep(0.001)

# Files: a position, locks of open files, one that is deleted, one that is mapped, a directory.
work = tempfile.mkdtemp(prefix="probe")
os.chdir(work)
data = open("data", "w+b", buffering=0)
data.write(b"0123456789")
data.seek(4)
flocked, of_file = open("flocked", "w"), open("of_file", "w")
OFD_SETLK, WHOLE = 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 5, 10, 0)
LOCKS = len(sys.argv) > 1
if LOCKS:
    fcntl.flock(flocked, fcntl.LOCK_EX)
    fcntl.fcntl(of_file, OFD_SETLK, WHOLE)
deleted = open("deleted", "w+b", buffering=0)
deleted.write(b"nobody sees this")
os.unlink("deleted")
mapped_file = open("mapped", "w+b", buffering=0)
mapped_file.truncate(8192)
mapped = mmap.mmap(mapped_file.fileno(), 8192)
log = open("log", "a", buffering=1)

# Memory: shared, anonymous, of System V, and a file of memory.
shared = mmap.mmap(-1, 4096)
shm = libc.shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0o600)
address = libc.shmat(shm, None, 0)
ctypes.memmove(address, b"system five", 11)
queue = libc.msgget(IPC_PRIVATE, IPC_CREAT | 0o600)
memory = os.memfd_create("probe")
os.write(memory, b"memory")
private = bytes(range(256)) * 4096

# What wakes: signals, timers, events.
signals, alarms = [], []
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
signal.setitimer(signal.ITIMER_REAL, 3600, 7200)
os.kill(os.getpid(), signal.SIGUSR2)
events = os.eventfd(5) if hasattr(os, "eventfd") else None
poll = select.epoll()
poll.register(other.fileno(), select.EPOLLIN)
begun, mine = time.monotonic(), (os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0))


def check_locks():
    for what, take in [
        ("flock", lambda: fcntl.flock(open("flocked"), fcntl.LOCK_EX | fcntl.LOCK_NB)),
        ("lock of an open file", lambda: fcntl.fcntl(open("of_file", "w"), OFD_SETLK, WHOLE)),
    ]:
        try:
            take()
            fail(what + " is lost")
        except BlockingIOError:
            pass


def check():
    expect("pids", (os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)), mine)
    before = list(counts)
    for at, turn in enumerate(turns):
        turn.set()
        while counts[at] == before[at]:
            time.sleep(0.001)
        expect("thread", counts[at], at * 100 + moves + 1)
    os.write(to_child, b"x")
    answer = b""
    while not answer.endswith(b";"):
        answer += one.recv(64)
    expect("child", answer, b"x%d;" % mine[0])
    expect("leader", os.getsid(leader), leader)
    expect("zombie", state(zombie), "Z")
    expect("cwd", os.getcwd(), work)
    data.seek(4 + moves % 3)
    expect("data", data.read(2), b"0123456789"[4 + moves % 3 : 6 + moves % 3])
    if LOCKS:
        check_locks()
    expect("deleted", os.pread(deleted.fileno(), 64, 0), b"nobody sees this")
    expect("mapped", int.from_bytes(mapped[4096:4104], "little"), moves)
    mapped[4096:4104] = (moves + 1).to_bytes(8, "little")
    expect("shared", int.from_bytes(shared[:8], "little"), moves)
    shared[:8] = (moves + 1).to_bytes(8, "little")
    expect("shm", ctypes.string_at(address, 11), b"system five")
    if moves:
        message = Message()
        libc.msgrcv(queue, ctypes.byref(message), 32, 0, 0)
        expect("message", message.text, b"move %d" % moves)
    message = Message(1, b"move %d" % (moves + 1))
    expect("msgsnd", libc.msgsnd(queue, ctypes.byref(message), 32, 0), 0)
    expect("memfd", os.pread(memory, 64, 0), b"memory")
    expect("memory", private == bytes(range(256)) * 4096, True)
    os.kill(os.getpid(), signal.SIGUSR1)
    expect("signals", len(signals), moves + 1)
    expect("pending", signal.SIGUSR2 in signal.sigpending(), True)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    expect("timer", (3000 < left < 3600.1, interval, alarms), (True, 7200.0, []))
    if events is not None:
        expect("eventfd", os.eventfd_read(events), 5)
        os.eventfd_write(events, 5)
    one.sendall(b"p")
    expect("epoll", poll.poll(5), [(other.fileno(), select.EPOLLIN)])
    other.recv(1)
    expect("clock", 0 <= time.monotonic() - begun < 600, True)
    log.write(f"{moves}\n")
    lines = open("log").read().split()
    expect("log", lines, [str(n) for n in range(moves + 1)])


for line in sys.stdin:
    check()
    moves += 1
    print("ok", moves, flush=True)
print("whole", flush=True)
os.killpg(leader, signal.SIGKILL)
os._exit(0)
