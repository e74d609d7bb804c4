//! Power cuts, kills and full disks. A writer on a file system of its own is stopped at some
//! moment; what had reached the disk's image by then must hold everything it had acknowledged.
//! KRG_POWERCUTS sets how often.

mod support;

use krg_meta::open::open;
use krg_types::limits::GROUP_MAIN;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::park_timeout;
use std::time::Duration;
use tempfile::TempDir;

/// In the writer's environment: its store, and the file for what is acknowledged.
const WRITER_DIR: &str = "KRG_WRITER_DIR";
const WRITER_ACKS: &str = "KRG_WRITER_ACKS";
/// Set: the log only grows.
const WRITER_GROWS: &str = "KRG_WRITER_GROWS";
/// No writer gets so far.
const ENDLESS: u64 = 1_000_000;
const RUNS: u64 = 20;

fn runs() -> u64 {
    std::env::var("KRG_POWERCUTS").map_or(RUNS, |n| n.parse().unwrap())
}

/// May this test run? What is missing is said; in CI that is a failure.
fn can_run(test: &str) -> bool {
    let mut missing = Vec::new();
    let run = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !run.is_ok_and(|s| s.success()) {
        missing.push("needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        missing.push("needs loop devices");
    }
    if Command::new("mkfs.ext4").arg("-V").stderr(Stdio::null()).status().is_err() {
        missing.push("needs mkfs.ext4 (e2fsprogs)");
    }
    if missing.is_empty() {
        return true;
    }
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {}", missing.join(", "));
    let all = std::env::var_os("KRG_REQUIRE_ALL").is_some();
    assert!(!all, "{test} may not be skipped here: {}", missing.join(", "));
    false
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {words}");
}

/// A file system in a file.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Mounted {
        fs::create_dir_all(&at).unwrap();
        // The journal is not written by time, only when it is asked for.
        let [image, target] = [image, &at].map(|path| path.to_str().unwrap());
        run("mount", &["-o", "loop,commit=300", image, target]);
        Mounted(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Not lazily: the image must not be mounted again before this mount has let go of it.
        for _ in 0..1000 {
            let tried = Command::new("umount").arg(&self.0).stderr(Stdio::null()).status();
            if tried.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        println!("{} could not be unmounted", self.0.display());
    }
}

fn make_image(path: &Path, mib: u64) {
    File::create(path).unwrap().set_len(mib << 20).unwrap();
    run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0", path.to_str().unwrap()]);
}

/// This program once more, as a writer.
struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    acks: PathBuf,
}

impl Writer {
    fn start(store: &Path, acks: &Path) -> Writer {
        let command = Command::new(std::env::current_exe().unwrap());
        Writer::start_as(command, store, acks)
    }

    fn start_growing(store: &Path, acks: &Path) -> Writer {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(WRITER_GROWS, "1");
        Writer::start_as(command, store, acks)
    }

    fn start_as(mut command: Command, store: &Path, acks: &Path) -> Writer {
        let mut child = command
            .args(["--exact", "the_writer", "--nocapture", "--test-threads=1"])
            .env(WRITER_DIR, store)
            .env(WRITER_ACKS, acks)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Writer { child, lines, acks: acks.to_owned() }
    }

    /// Waits until it has acknowledged so many entries.
    fn wait(&mut self, count: u64) {
        for _ in 0..count {
            loop {
                let line = self.lines.next().expect("the writer goes on").unwrap();
                assert!(!line.starts_with("failed"), "{line}");
                if line.starts_with("acked") {
                    break;
                }
            }
        }
    }

    fn signal(&self, name: &str) {
        run("kill", &[name, &self.child.id().to_string()]);
    }

    /// Stops it where it is.
    fn stop(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/task", self.child.id());
        let stopped = |task: PathBuf| {
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim().starts_with(['T', 't']))
        };
        while !fs::read_dir(&stat).unwrap().all(|task| stopped(task.unwrap().path())) {
            std::thread::yield_now();
        }
    }

    /// What it has acknowledged, to the last entry.
    fn acked(&self) -> u64 {
        let mut bytes = [0; 8];
        File::open(&self.acks).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        u64::from_be_bytes(bytes)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what the others start.
#[test]
fn the_writer() {
    let Some(dir) = std::env::var_os(WRITER_DIR) else { return };
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let acks = options.open(std::env::var_os(WRITER_ACKS).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut opened = open(Path::new(&dir), GROUP_MAIN).unwrap();
    let shorten = std::env::var_os(WRITER_GROWS).is_none();
    let written = runtime.block_on(support::write_with(&mut opened, ENDLESS, shorten, |index| {
        acks.write_all_at(&index.to_be_bytes(), 0).unwrap();
        println!("acked {index}");
    }));
    println!("failed: {}", written.unwrap_err());
}

/// Opens what is found, checks it, and takes back what nobody acknowledged.
fn check(store: &Path, acked: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut opened = open(store, GROUP_MAIN).unwrap_or_else(|e| panic!("{e}"));
    runtime.block_on(async {
        support::check(&mut opened, acked).await;
        support::cut(&mut opened, acked).await;
    });
    // What sled puts there it never makes durable.
    let blobs = fs::read_dir(store.join("store/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "pages too long for sled's file");
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    if !can_run("power cut") {
        return;
    }
    let temp = TempDir::new().unwrap();
    let (image, found) = (temp.path().join("image"), temp.path().join("found"));
    let acks = temp.path().join("acks");
    make_image(&image, 96);
    let mut rng = StdRng::seed_from_u64(7);
    for n in 0..runs() {
        let acked = {
            let disk = Mounted::new(&image, temp.path().join("disk"));
            let mut writer = Writer::start(&disk.0.join("meta"), &acks);
            writer.wait(rng.gen_range(1..900));
            // At any moment: when the journal is full, going to sled takes its time.
            park_timeout(Duration::from_micros(rng.gen_range(0..20_000)));
            writer.stop();
            let [from, to] = [&image, &found].map(|path| path.to_str().unwrap());
            run("cp", &["--sparse=always", from, to]);
            writer.acked()
        };
        println!("cut {n} after entry {acked}");
        // The next writer goes on with what was found.
        fs::rename(&found, &image).unwrap();
        let disk = Mounted::new(&image, temp.path().join("disk"));
        check(&disk.0.join("meta"), acked);
    }
}

#[test]
fn a_kill_loses_nothing_acknowledged() {
    let temp = TempDir::new().unwrap();
    let (store, acks) = (temp.path().join("meta"), temp.path().join("acks"));
    let mut rng = StdRng::seed_from_u64(8);
    for n in 0..runs() {
        let mut writer = Writer::start(&store, &acks);
        writer.wait(rng.gen_range(1..900));
        writer.signal("-KILL");
        writer.child.wait().unwrap();
        let acked = writer.acked();
        println!("kill {n} after entry {acked}");
        check(&store, acked);
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if !can_run("full disk") {
        return;
    }
    let temp = TempDir::new().unwrap();
    let (image, acks) = (temp.path().join("image"), temp.path().join("acks"));
    make_image(&image, 24);
    let disk = Mounted::new(&image, temp.path().join("disk"));
    let (store, ballast) = (disk.0.join("meta"), disk.0.join("ballast"));
    let mut last = 0;
    for n in 0..5 {
        let mut writer = Writer::start_growing(&store, &acks);
        writer.wait(60 + 37 * n);
        // The rest of the disk goes to somebody else.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", &format!("of={}", ballast.display())])
            .stderr(Stdio::null())
            .status();
        let mut lines = writer.lines.by_ref().map(|line| line.unwrap());
        let words = lines.find(|line| line.starts_with("failed")).expect("it tells");
        assert!(words.contains("disk is full"), "{words}");
        let status = writer.child.wait().unwrap();
        assert!(status.success(), "{status}");
        let acked = writer.acked();
        assert!(acked > last);
        last = acked;
        fs::remove_file(&ballast).unwrap();
        check(&store, acked);
    }
}
