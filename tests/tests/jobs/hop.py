"""Presses the keys of `krg hop`, and looks at its screen."""

begin(15, "krg", "hop")


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
