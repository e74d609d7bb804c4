"""A mount is told to who polls the list of mounts. Arguments: where to mount a tmpfs."""
import select
import subprocess
import sys

mounts = open("/proc/self/mounts")
mounts.read()
poll = select.poll()
poll.register(mounts, select.POLLPRI | select.POLLERR)
before = poll.poll(0)
subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
after = poll.poll(10_000)
mounts.seek(0)
there = sys.argv[1] in mounts.read()
subprocess.run(["umount", sys.argv[1]], check=True)
print(len(before), len(after), bool(after and after[0][1] & select.POLLPRI), there)
