//! The crate procfs, with the view's root: it checks more of the formats than any tool.

use super::cast::{Cast, NODES, cpus, cpus_of_node_3, everybody, gpid, memory, native};
use super::checks::Checks;
use super::table::field;
use krg_tests::{Lab, krg, run};
use procfs::process::{Process, all_processes_with_root};
use procfs::{
    CpuInfo, CpuPressure, DiskStats, FromBufReadSI, FromRead, IoPressure, KernelStats,
    LoadAverage, Meminfo, MemoryPressure, ProcError, Uptime, VmStat,
};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// All of it. The crate runs on the host, and reaches the mount in the node by the node's root.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    let root = root(lab);
    checks.check("procfs: every process", || processes(lab, &root));
    checks.check("procfs: the cast", || people(lab, cast, &root));
    checks.check("procfs: threads", || threads(cast, &root));
    checks.check("procfs: the system", || system(lab, &root));
    checks.check("procfs: pressure", || pressure(&root));
}

#[track_caller]
fn root(lab: &Lab) -> PathBuf {
    let status = run(krg().args(["lab", "status", "--name", &lab.name, "--json"])).ok();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let pid = &status["nodes"][0]["init_pid"];
    let root = PathBuf::from(format!("/proc/{pid}/root/cluster/proc"));
    assert!(root.join("nodes/nrnodes").exists(), "{} is no view", root.display());
    root
}

/// Reads one file of a process; only the end of the process excuses that it cannot.
#[track_caller]
fn read<T>(process: &Process, file: &str, result: Result<T, ProcError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(_) if process.stat().is_err() => None,
        Err(error) => panic!("{file} of {}: {error}", process.pid()),
    }
}

#[track_caller]
fn processes(lab: &Lab, root: &Path) {
    let before = everybody(lab);
    let mut seen = BTreeSet::new();
    for process in all_processes_with_root(root).expect("a list") {
        let process = match process {
            Ok(process) => process,
            Err(ProcError::NotFound(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        assert!(seen.insert(process.pid() as u32), "{} is there twice", process.pid());
        let Some(stat) = read(&process, "stat", process.stat()) else { continue };
        let Some(status) = read(&process, "status", process.status()) else { continue };
        assert_eq!((stat.pid, status.pid, status.tgid), (process.pid(), stat.pid, stat.pid));
        assert_eq!((stat.ppid, &stat.comm), (status.ppid, &status.name));
        assert!(stat.num_threads >= 1 && stat.ppid >= 0);
        let _ = read(&process, "statm", process.statm());
        let _ = read(&process, "cmdline", process.cmdline());
        let _ = read(&process, "io", process.io());
        let _ = read(&process, "maps", process.maps());
        let _ = read(&process, "smaps", process.smaps());
        let _ = read(&process, "schedstat", process.schedstat());
        let _ = read(&process, "wchan", process.wchan());
        let _ = read(&process, "environ", process.environ());
        let _ = read(&process, "oom_score", process.oom_score());
        if process.pid() != 1 {
            let _ = read(&process, "limits", process.limits());
            let _ = read(&process, "mountinfo", process.mountinfo());
            let _ = read(&process, "exe", process.exe());
            let _ = read(&process, "smaps_rollup", process.smaps_rollup());
            let _ = read(&process, "fd", process.fd_count());
        }
    }
    let after = everybody(lab);
    let lasting: BTreeSet<u32> = before.intersection(&after).copied().collect();
    let missing: Vec<_> = lasting.difference(&seen).collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");
    let known: BTreeSet<u32> = before.union(&after).copied().chain([1]).collect();
    let extra: Vec<_> = seen.difference(&known).collect();
    assert!(extra.is_empty(), "listed, and no node has them: {extra:?}");
}

#[track_caller]
fn people(lab: &Lab, cast: &Cast, root: &Path) {
    let process = |pid: u32| Process::new_with_root(root.join(pid.to_string())).expect("it");
    let burner = process(cast.burner.gpid());
    let stat = burner.stat().expect("stat");
    assert_eq!((stat.comm.as_str(), stat.state), ("krgburn", 'R'));
    assert_eq!(stat.ppid as u32, gpid(3, 1));
    assert_eq!((stat.pgrp, stat.session), (stat.pid, stat.pid));
    let cpu = stat.processor.expect("a cpu") as u32;
    assert!(cpus_of_node_3(lab).contains(&cpu), "cpu {cpu} is not node 3's");
    krg_tests::within(super::cast::SOON, || {
        let later = burner.stat().expect("stat").utime;
        if later > stat.utime { Ok(()) } else { Err(format!("still {later} ticks")) }
    });
    assert_eq!(burner.exe().expect("exe"), Path::new("/usr/local/bin/krgburn"));
    // It starts at the cluster's boot plus starttime.
    for sleeper in &cast.sleepers {
        let stat = process(sleeper.gpid()).stat().expect("stat");
        let boot = native(lab, "stat").iter().map(|text| field(text, "btime")).min().unwrap();
        let ticks = stat.starttime as f64 / procfs::ticks_per_second() as f64;
        cast.assert_started(boot as f64 + ticks, &sleeper.args);
    }
    let nobody = process(cast.nobody.gpid());
    assert_eq!(nobody.uid().expect("uid"), 65534);
    let environ = nobody.environ().expect("environ");
    assert_eq!(environ.get("KRG_MARK".as_ref() as &std::ffi::OsStr).unwrap(), "mine");
    for child in &cast.children {
        let status = process(child.gpid()).status().expect("status");
        assert_eq!(status.ppid as u32, cast.parent.gpid());
        assert_eq!(status.nspid.expect("NSpid").first(), Some(&(child.gpid() as i32)));
    }
}

#[track_caller]
fn threads(cast: &Cast, root: &Path) {
    let gpid = cast.threads.gpid();
    let process = Process::new_with_root(root.join(gpid.to_string())).expect("it");
    assert_eq!(process.stat().expect("stat").num_threads, 4);
    let tasks: Vec<_> = process.tasks().expect("task/").map(|t| t.expect("a thread")).collect();
    let tids: BTreeSet<i32> = tasks.iter().map(|task| task.tid).collect();
    assert!(tids.len() == 4 && tids.contains(&(gpid as i32)), "{tids:?}");
    for task in &tasks {
        let stat = task.stat().expect("its stat");
        assert_eq!((stat.pid, stat.comm.as_str()), (task.tid, "python3"));
        let status = task.status().expect("its status");
        assert_eq!((status.pid, status.tgid as u32), (task.tid, gpid));
    }
}

/// A file that needs to know the size of a page or a tick.
#[track_caller]
fn file_si<T: FromBufReadSI>(path: &Path) -> T {
    let file = std::fs::File::open(path).expect("it opens");
    T::from_buf_read(BufReader::new(file), procfs::current_system_info()).expect("it parses")
}

#[track_caller]
fn system(lab: &Lab, root: &Path) {
    let total: u32 = cpus(lab).iter().sum();
    let memory_now = Meminfo::from_file(root.join("meminfo")).expect("meminfo");
    assert_eq!(memory_now.mem_total, memory(lab, "MemTotal") * 1024);
    let stat: KernelStats = file_si(&root.join("stat"));
    assert_eq!(stat.cpu_time.len(), total as usize);
    let idle: u64 = stat.cpu_time.iter().map(|cpu| cpu.idle).sum();
    assert!(stat.total.idle.abs_diff(idle) < 30 * stat.cpu_time.len() as u64, "{stat:?}");
    let cpuinfo = CpuInfo::from_file(root.join("cpuinfo")).expect("cpuinfo");
    assert_eq!(cpuinfo.num_cores(), total as usize);
    let packages: BTreeSet<_> = (0..total as usize).map(|n| cpuinfo.physical_id(n)).collect();
    let unknown = packages.contains(&None);
    assert!(unknown || packages.len() >= 3, "a node's packages are its own: {packages:?}");
    let load = LoadAverage::from_file(root.join("loadavg")).expect("loadavg");
    assert!(load.max as usize >= everybody(lab).len(), "{load:?}");
    let uptime = Uptime::from_file(root.join("uptime")).expect("uptime");
    assert!(uptime.uptime > 3_000.0, "node 3's clock of boots is ahead: {uptime:?}");
    assert!(VmStat::from_file(root.join("vmstat")).expect("vmstat").0.len() > 50);
    let disks = DiskStats::from_file(root.join("diskstats")).expect("diskstats").0;
    let lines: usize = native(lab, "diskstats").iter().map(|text| text.lines().count()).sum();
    assert_eq!(disks.len(), lines);
    let names: BTreeSet<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names.len(), lines, "names are unique: {names:?}");
    for node in NODES {
        let dir = root.join(format!("nodes/node{node}"));
        let one: KernelStats = file_si(&dir.join("stat"));
        assert_eq!(one.cpu_time.len(), cpus(lab)[node as usize - 1] as usize);
        let memory = Meminfo::from_file(dir.join("meminfo")).expect("meminfo");
        assert!(memory.mem_total < memory_now.mem_total);
    }
}

#[track_caller]
fn pressure(root: &Path) {
    if !Path::new("/proc/pressure/cpu").exists() {
        return;
    }
    let cpu = CpuPressure::from_file(root.join("pressure/cpu")).expect("cpu");
    assert!((0.0..=100.0).contains(&cpu.some.avg10), "{cpu:?}");
    MemoryPressure::from_file(root.join("pressure/memory")).expect("memory");
    IoPressure::from_file(root.join("pressure/io")).expect("io");
}
