//! One viewer of many nodes: the real sampling, gathering and telling, with simulated nodes in a
//! process of their own, on a network of their own. What it costs is printed and bounded.

use krg_tests::{Need, Said, bin_dir, can_run, run, within};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NODES: usize = 64;
const PROCESSES: usize = 1_500;
/// Of each node's processes so many run in a second.
const BUSY: usize = 30;
/// Looks while nothing else is done, one a second.
const LOOKS: u32 = 3;

/// The viewer holds no more memory than this, MiB.
const VIEWER_MIB_MAX: u64 = 700;
/// Each process crosses the network once with all its texts, and then what changes of it.
const FIRST_BYTES_PER_PROCESS_MAX: u64 = 3 << 10;
const STEADY_BYTES_PER_S_MAX: u64 = 8 << 20;
/// All of them answer within this.
const FIRST_MAX: Duration = Duration::from_secs(20);
/// A look takes no longer, on a machine that samples for all nodes meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(8);

/// A directory as /proc, with processes that nobody runs. The numbers are a server's.
fn write_proc(at: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(at.join("net"))?;
    std::fs::create_dir_all(at.join("pressure"))?;
    let own = ["stat", "meminfo", "loadavg", "uptime", "net/dev", "cpuinfo", "vmstat"];
    for name in own {
        std::fs::write(at.join(name), std::fs::read(Path::new("/proc").join(name))?)?;
    }
    let environ: String = (0..12).map(|n| format!("VARIABLE_{n}=a value of it\0")).collect();
    for pid in 1..=PROCESSES {
        let dir = at.join(pid.to_string());
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("stat"), stat(pid, 0))?;
        std::fs::write(dir.join("status"), status(pid))?;
        std::fs::write(dir.join("statm"), "2000 500 300 50 0 400 0\n")?;
        let cmdline = format!("/usr/sbin/service-{pid}\0--config\0/etc/service/{pid}.conf\0");
        std::fs::write(dir.join("cmdline"), cmdline)?;
        std::fs::write(dir.join("environ"), &environ)?;
        std::fs::write(dir.join("cgroup"), format!("0::/system.slice/service-{pid}.service\n"))?;
    }
    Ok(())
}

fn stat(pid: usize, utime: u64) -> String {
    let parent = usize::from(pid > 1);
    format!(
        "{pid} (service-{pid}) S {parent} {pid} {pid} 0 -1 4194560 1200 0 3 0 {utime} 20 0 0 20 0 \
         1 0 {} 8192000 500 18446744073709551615 1 1 0 0 0 0 0 4096 16384 1 0 0 17 1 0 0 0 0 0 0 0 \
         0 0 0 0 0 0\n",
        1_000 + pid
    )
}

fn status(pid: usize) -> String {
    const REST: &str = "VmPeak:\t    8000 kB\nVmSize:\t    8000 kB\nVmLck:\t       0 kB\n\
        VmPin:\t       0 kB\nVmHWM:\t    2000 kB\nVmRSS:\t    2000 kB\nThreads:\t1\n\
        SigQ:\t0/96000\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n\
        SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000000\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n\
        Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
        voluntary_ctxt_switches:\t100\nnonvoluntary_ctxt_switches:\t10\n";
    format!(
        "Name:\tservice-{pid}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nNgid:\t0\n\
         Pid:\t{pid}\nPPid:\t1\nTracerPid:\t0\nUid:\t33\t33\t33\t33\nGid:\t33\t33\t33\t33\n\
         FDSize:\t64\nGroups:\t33\nNStgid:\t{pid}\nNSpid:\t{pid}\nNSpgid:\t{pid}\nNSsid:\t{pid}\n\
         {REST}"
    )
}

/// Ends with its standard input, or at the latest when it is dropped.
struct Helper {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Helper {
    fn start(command: &mut Command) -> Helper {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Helper { child, out }
    }

    /// Its lines up to an empty one, or this one.
    fn until(&mut self, last: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).expect("its output");
            assert!(read > 0, "it ended early: {all}");
            all += &line;
            if line.trim_end() == last {
                return all;
            }
        }
    }

    fn tell(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    /// Bytes that its network carried, all of them over loopback.
    fn network_bytes(&self) -> u64 {
        let path = format!("/proc/{}/net/dev", self.child.id());
        let text = std::fs::read_to_string(path).expect("it lives");
        let lo = text.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("lo");
        lo.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
    }

    fn memory_mib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it lives");
        let kib = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") / 1024
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some processes of all nodes go on running until `ends` is closed.
fn keep_busy(at: &Path, ends: &mpsc::Receiver<()>) {
    for round in 1u64.. {
        let pause = Duration::from_secs(1);
        if ends.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        for pid in 1..=BUSY {
            let (new, old) = (at.join("new"), at.join(format!("{pid}/stat")));
            std::fs::write(&new, stat(pid, round)).expect("it is written");
            std::fs::rename(new, old).expect("it takes its place");
        }
    }
}

#[test]
fn one_viewer_sees_all_processes_of_64_nodes() {
    let needs = [Need::Root, Need::Tool("unshare"), Need::Tool("nsenter"), Need::Tool("ip")];
    if !can_run("one_viewer_sees_all_processes_of_64_nodes", &needs) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let (proc, door) = (place.path().join("proc"), place.path().join("view.sock"));
    write_proc(&proc).expect("processes");
    let krgd = bin_dir().join("krgd");
    let mut nodes = Helper::start(Command::new("unshare").arg("--net").arg("sh").args([
        "-c",
        "ip link set lo up && exec \"$0\" simulate-nodes \"$1\" --proc \"$2\"",
        krgd.to_str().expect("a path"),
        &NODES.to_string(),
        proc.to_str().expect("a path"),
    ]));
    let list = nodes.until("");
    assert_eq!(list.lines().count(), NODES + 1);
    let begun = Instant::now();
    let target = format!("--target={}", nodes.child.id());
    let mut viewer = Helper::start(
        Command::new("nsenter")
            .args([&target, "--net"])
            .arg(&krgd)
            .arg("simulate-view")
            .arg(&door),
    );
    viewer.tell(&list);
    viewer.until("ready");
    let ps = || {
        let socket = place.path().join("krgd.sock");
        run(Command::new(bin_dir().join("krg")).args(["ps", "-e"]).env("KRG_SOCKET", socket))
    };
    // On a busy machine some of so many nodes miss a deadline: what is known of them is shown.
    let all = NODES * PROCESSES;
    let is_whole = |said: &Said| said.out.lines().count() == all + 2 && said.code != 1;
    let first = within(FIRST_MAX, || {
        let said = ps();
        if is_whole(&said) && said.code == 0 { Ok(said) } else { Err(said.err) }
    });
    assert!(first.out.contains("1 ?        00:00:00 krg"), "the cluster's own is there");
    let (filled, first_bytes) = (begun.elapsed(), viewer.network_bytes());

    let (ends, ended) = mpsc::channel();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let (ends, proc) = (ends, &proc);
        scope.spawn(move || keep_busy(proc, &ended));
        for _ in 0..LOOKS {
            let said = ps();
            assert!(is_whole(&said), "{}", said.err);
            slowest = slowest.max(said.took);
            std::thread::park_timeout(Duration::from_secs(1).saturating_sub(said.took));
        }
        drop(ends);
    });
    let steady = (begun.elapsed() - filled).as_secs_f64();
    let per_s = ((viewer.network_bytes() - first_bytes) as f64 / steady) as u64;
    let (now, most) = (viewer.memory_mib("VmRSS"), viewer.memory_mib("VmHWM"));
    eprintln!("{NODES} nodes with {PROCESSES} processes each: all are there after {filled:.1?}");
    eprintln!("first {} MiB, then {} KiB/s", first_bytes >> 20, per_s >> 10);
    eprintln!("krg ps -e takes {slowest:.2?} at most; the viewer has {now} MiB, at most {most}");
    assert!(most < VIEWER_MIB_MAX, "{most} MiB");
    assert!(first_bytes < all as u64 * FIRST_BYTES_PER_PROCESS_MAX, "{first_bytes} bytes");
    assert!(per_s < STEADY_BYTES_PER_S_MAX, "{per_s} bytes/s");
    assert!(slowest < LOOK_MAX, "{slowest:?}");
}
