"""A program in a terminal: what is typed goes to it, and its screen is looked at. The test itself
follows."""

import fcntl, json, os, pty, re, select, signal, struct, subprocess, sys, termios, time


def begin(limit_s, *command, **environ):
    """Starts it; it shows within so long what is expected of it."""
    global pid, terminal, shown, limit
    shown, limit = b"", limit_s
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", **environ)
        os.execvp(command[0], command)


def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.kill(pid, signal.SIGWINCH)


def expect(pattern):
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


def press(keys):
    os.write(terminal, keys)


