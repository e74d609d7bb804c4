"""Types into a shell that is a job, and moves it about while it does."""

begin(10, "krg", "run", "--name", "terminal", "--", "bash", "--norc", "-i", PS1="$ ")


def type_(text):
    press(text.encode())


def krg(*words):
    return subprocess.run(["krg", *words], capture_output=True, text=True, timeout=60)


def move(node):
    moved = krg("migrate", job, str(node))
    assert moved.returncode == 0, moved.stderr


def works(rows, columns):
    type_("stty size; tty; echo pids $$ $PPID\n")
    expect(rb"[\r\n]%d %d\r\n/dev/pts/\d+\r\npids %s 1\r\n" % (rows, columns, own.encode()))
    # Ctrl-C, Ctrl-Z and the like go to what is in front.
    type_("sh -c 'echo up; exec sleep 100'\n")
    expect(rb"[\r\n]up")
    type_("\x03")
    type_("echo code $?\n")
    expect(rb"code 130")
    type_("sh -c 'echo up; exec sleep 101'\n")
    expect(rb"[\r\n]up")
    type_("\x1a")
    expect(rb"Stopped")
    type_("kill %1; fg; echo left $?\n")
    expect(rb"left 143")


expect(rb"\$ ")
(job,) = [str(j["job"]) for j in json.loads(krg("jobs", "--json").stdout)["jobs"]]
type_("echo own $$\n")
own = expect(rb"own (\d+)\r\n").group(1).decode()
resize(30, 90)
time.sleep(0.2)
works(30, 90)
type_("echo ha")
expect(rb"echo ha")
move(2)
type_("lf\n")
expect(rb"\rhalf|\nhalf")
works(30, 90)
resize(41, 99)
time.sleep(0.2)
works(41, 99)
# What is typed while nobody reads it is there afterwards.
type_("sleep 1; read line; echo got $line\n")
expect(rb"got \$line\r\n")
type_("early\n")
move(3)
expect(rb"got early")
type_("vi -u NONE -n /var/tmp/edited\n")
time.sleep(0.5)
type_("ione")
move("home")
type_(" two\x1b:wq\n")
# It forgets what was typed ahead when it ends.
expect(rb"written(.|\r|\n)*\$ ")
type_("cat /var/tmp/edited; echo read\n")
expect(rb"one two\r\nread")
type_("echo begun; sleep 1 | cat; echo slept $?\n")
expect(rb"\nbegun|\rbegun")
move(2)
expect(rb"slept 0")
works(41, 99)
type_("exit 5\n")
until = time.monotonic() + 10
while time.monotonic() < until:
    try:
        if select.select([terminal], [], [], 0.2)[0] and not os.read(terminal, 4096):
            break
    except OSError:
        break
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
