//! What the tests of the whole share: the programs as built, a lab that ends with its test, and
//! one way to skip.

pub mod checks;
pub mod hand;
pub mod load;
pub mod storms;
pub mod talk;

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The folder with krg, krgd and krg-lab, as cargo built them beside this test.
pub fn bin_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let deps = test.parent().expect("a test is in a folder");
    let dir = deps.parent().expect("deps/ is in the build's folder").to_owned();
    assert!(dir.join("krg").exists(), "{}: krg is not built (cargo build)", dir.display());
    dir
}

/// Where scripts/setup.sh puts a suite.
pub fn suite(name: &str) -> PathBuf {
    bin_dir().join("../tools/bin").join(name)
}

/// A command of the project.
pub fn krg() -> Command {
    Command::new(bin_dir().join("krg"))
}

/// May this test run? What is missing is said; in CI that is a failure.
pub fn can_run(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(Need::missing).collect();
    if missing.is_empty() {
        return true;
    }
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {}", missing.join(", "));
    assert!(
        std::env::var_os("KRG_REQUIRE_ALL").is_none(),
        "{test} may not be skipped here: {}",
        missing.join(", ")
    );
    false
}

/// Something a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root, and its capability to make namespaces.
    Root,
    /// /dev/fuse.
    Fuse,
    /// A program on the PATH.
    Tool(&'static str),
    /// A suite for file systems, built by scripts/setup.sh.
    Suite(&'static str),
}

/// What every lab needs.
pub const LAB: [Need; 3] = [Need::Root, Need::Fuse, Need::Tool("ip")];

impl Need {
    fn missing(&self) -> Option<String> {
        let has = match self {
            Need::Root => can_unshare(),
            Need::Fuse => std::fs::OpenOptions::new().read(true).open("/dev/fuse").is_ok(),
            Need::Tool(name) => on_path(name),
            Need::Suite(name) => suite(name).exists(),
        };
        (!has).then(|| match self {
            Need::Root => "needs root".to_owned(),
            Need::Fuse => "needs /dev/fuse".to_owned(),
            Need::Tool(name) => format!("needs {name} (scripts/setup.sh test installs it)"),
            Need::Suite(name) => format!("needs {name} (scripts/setup.sh test builds it)"),
        })
    }
}

fn can_unshare() -> bool {
    let run = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    run.is_ok_and(|s| s.success())
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(name).exists())
}

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code; 128 + the signal's number if one ended it.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
}

impl Said {
    fn new(output: Output, took: Duration) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let signal = || 128 + output.status.signal().unwrap_or(0);
        let code = output.status.code().unwrap_or_else(signal);
        Said { out: text(&output.stdout), err: text(&output.stderr), code, took }
    }

    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    Said::new(output, begun.elapsed())
}

/// A lab of its own name, ended with the value.
#[derive(Debug)]
pub struct Lab {
    /// Its name.
    pub name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Starts a lab of `nodes` nodes; all of them see each other when this returns.
    #[track_caller]
    pub fn start(nodes: u32) -> Lab {
        Lab::start_with(nodes, &[])
    }

    /// The same with further options of `krg lab start`.
    #[track_caller]
    pub fn start_with(nodes: u32, options: &[&str]) -> Lab {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Lab { name: format!("test{}-{n}", std::process::id()) };
        let mut command = krg();
        command.args(["lab", "start", &nodes.to_string(), "--name", &lab.name]).args(options);
        if let Ok(mask) = std::env::var("KRG_MASK") {
            command.args(["--node-env", &format!("KRG_MASK={mask}")]);
        }
        run(&mut command).ok();
        lab
    }

    /// Runs a command in a node to its end.
    #[track_caller]
    pub fn exec<S: AsRef<OsStr>>(&self, node: u32, command: &[S]) -> Said {
        run(self.command(node).args(command))
    }

    /// A shell line in a node.
    #[track_caller]
    pub fn sh(&self, node: u32, line: &str) -> Said {
        self.exec(node, &["sh", "-c", line])
    }

    /// Ends a node's krgd cleanly, and waits for its end; nobody starts it again.
    #[track_caller]
    pub fn stop_krgd(&self, node: u32) {
        let line = "p=$(pgrep -x krgd); kill $p; timeout 5 tail --pid=$p -f /dev/null";
        self.sh(node, line).ok();
    }

    /// A shell line in a node, on the cluster's /proc.
    #[track_caller]
    pub fn view(&self, node: u32, line: &str) -> Said {
        self.exec(node, &["krg", "exec", "--", "sh", "-c", line])
    }

    /// Where a node's file is, as the host sees it.
    #[track_caller]
    pub fn path(&self, node: u32, path: &str) -> PathBuf {
        talk::path_in(&self.name, node, path).expect("the node is up")
    }

    /// Puts a program of the host's on a node's PATH.
    #[track_caller]
    pub fn install(&self, node: u32, program: &std::path::Path) {
        let name = program.file_name().and_then(OsStr::to_str).expect("it has a name");
        let at = self.path(node, &format!("/usr/local/bin/{name}"));
        std::fs::copy(program, at).expect("the program is copied");
    }

    /// `krg lab exec NODE --`, to be completed.
    pub fn command(&self, node: u32) -> Command {
        let mut command = krg();
        command.args(["lab", "exec", "--name", &self.name, &node.to_string(), "--"]);
        command
    }

    /// A fault or its end: kill, pause, resume, cut, heal.
    #[track_caller]
    pub fn fault(&self, what: &str, node: u32) {
        run(krg().args(["lab", what, "--name", &self.name, &node.to_string()])).ok();
    }

    /// Starts `sh -c LINE` in the background of a node; returns its own pid there.
    #[track_caller]
    pub fn background(&self, node: u32, line: &str) -> u32 {
        let line = format!("setsid sh -c '{line}' >/dev/null 2>&1 </dev/null & echo $!");
        self.sh(node, &line).ok().trim().parse().expect("a pid")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let line = "tail -n 40 /var/log/krgd.log";
            let logs = ["lab", "exec", "--name", &self.name, "--all", "--", "sh", "-c", line];
            eprintln!("{}", run(krg().args(logs)).out);
        }
        let said = run(krg().args(["lab", "stop", "--name", &self.name]));
        if !std::thread::panicking() {
            said.ok();
        }
    }
}

/// Tries until `done` says so; the last thing seen is in the failure. Between tries it yields to
/// the kernel for `pause`, as no event of another process can be awaited from a test.
#[track_caller]
pub fn within<T: std::fmt::Debug>(
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(last) => assert!(begun.elapsed() < limit, "not within {limit:?}: {last}"),
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
