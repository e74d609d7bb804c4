"""Presses the keys of `krg hop`, and looks at its screen: hop.py NODES."""

import fcntl, os, pty, re, select, signal, struct, sys, termios, time

NODES = int(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm")
    os.execvp("krg", ["krg", "hop"])
shown = b""


def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.kill(pid, signal.SIGWINCH)


def expect(pattern, limit=15):
    """Waits for it on the screen, after what was found before."""
    global shown
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found = re.search(pattern, shown)
        if found:
            shown = shown[found.end():]
            return found
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
    print("not shown:", pattern, "but", shown[-500:])
    os.kill(pid, signal.SIGKILL)
    sys.exit(1)


def press(key):
    os.write(terminal, key)


def at(node):
    return int(expect(rb"count  (\d+)\r\n\x1b\[K    node   %d  node%d\r\n" % (node, node)).group(1))


resize(24, 80)
counts = [at(1)]
press(b"2")
counts.append(at(2))
# Where it cannot go it says so, and goes on.
press(b"9")
expect(rb"not to node 9: there is no node 9")
counts.append(at(2))
press(b"3")
counts.append(at(3))
# Nothing is written beside a small screen.
resize(6, 30)
expect(rb"\x1b\[2J\x1b\[H\x1b\[Kkrg hop: 1-9 to that node, h h\r\n")
expect(rb"\x1b\[K    moves  2\r\n\x1b\[K    nodes   1   2  \[3\][^\r\n]*\x1b\[H")
resize(24, 80)
press(b"\r")
for moves in range(3, 6):
    expect(rb"moves  %d\r\n" % moves)
press(b"x")
press(b"h")
counts.append(at(1))
assert counts == sorted(set(counts)), counts
print("counts", counts)
press(b"q")
told = expect(rb"counted to (\d+), moved (\d+) times, ended on node 1")
# The last of those at random may have been home already.
assert int(told.group(2)) >= 5, told
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
