//! What keeps a job where it is: looked for before anything of it is touched, and said in words.
//! What is not seen here CRIU still sees, in its own words, with the job frozen for a moment.

use crate::members;
use crate::root::ROOT;
use krg_sys::process::stat;
use krg_types::limits::JOB_PATHS_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Told of one job.
const OBSTACLES_MAX: usize = 64;
/// Of one process, descriptors that are looked at.
const FDS_MAX: usize = 1 << 16;
/// Device nodes that every node has, and that keep nothing (mem(4), random(4)).
const PLAIN_DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// Directories of a job's tree that are those of the node where it is.
const OF_A_NODE: [&str; 3] = ["/run/", "/dev/", "/sys/"];
/// Kinds of descriptors without a name in any directory that CRIU does not bring back.
const STAYING: [(&str, &str); 6] = [
    ("anon_inode:[io_uring]", "uses io_uring"),
    ("anon_inode:[userfaultfd]", "handles page faults (userfaultfd)"),
    ("anon_inode:[perf_event]", "measures (perf_event_open)"),
    ("anon_inode:[fanotify]", "watches files (fanotify)"),
    ("anon_inode:kvm-vm", "runs a virtual machine"),
    ("anon_inode:bpf", "has programs in the kernel (bpf)"),
];

/// What was found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Look {
    /// In words, each of them enough.
    pub obstacles: Vec<String>,
    /// Memory that would go along.
    pub rss_kib: u64,
    /// Files that it has open or mapped, by their names in its own tree: so many as are told.
    pub paths: BTreeSet<String>,
}

/// Looks at the job with this first process. `names` lead out of it and go along.
pub fn look(init: u32, names: &[String]) -> Look {
    let mut look = Look::default();
    let all = members::all(init);
    let connections = connections(init);
    let locks = posix_locks();
    let members: BTreeSet<u32> = all.iter().copied().collect();
    for pid in all {
        let Ok(Some(stat)) = stat(pid) else { continue };
        let shown = members::number(pid).unwrap_or(pid);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        look.rss_kib += kib(&status, "RssAnon:") + kib(&status, "RssShmem:");
        if stat.state == 'Z' {
            continue;
        }
        look.note_paths(pid);
        let mut found = of_process(pid, init, &status);
        found.extend(of_files(pid, &members, names, &connections));
        if locks.contains(&pid) {
            found.push("has a lock by fcntl(2), which does not move".into());
        }
        // Names of files are anybody's.
        let clean = |what: String| what.chars().filter(|c| !c.is_control()).collect::<String>();
        let said = found.into_iter().map(|what| format!("process {shown} {}", clean(what)));
        let room = OBSTACLES_MAX.saturating_sub(look.obstacles.len());
        let new: Vec<_> = said.filter(|s| !look.obstacles.contains(s)).take(room).collect();
        look.obstacles.extend(new);
    }
    look
}

impl Look {
    /// What is only its node's is not looked for on another.
    fn note_paths(&mut self, pid: u32) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mapped =
            maps.lines().filter_map(|line| line.find('/').map(|at| line[at..].to_owned()));
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links =
            fds.take(FDS_MAX).map(|fd| fd.path()).chain([format!("/proc/{pid}/cwd").into()]);
        let open = links
            .filter_map(|link| fs::read_link(link).ok()?.into_os_string().into_string().ok());
        for path in mapped.chain(open) {
            let path = inside(&path);
            let is_one = path.starts_with('/') && !path.ends_with(" (deleted)");
            if is_one && !is_of_a_node(path) && self.paths.len() < JOB_PATHS_MAX {
                self.paths.insert(path.to_owned());
            }
        }
    }
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn kib(status: &str, key: &str) -> u64 {
    let word = field(status, key).and_then(|text| text.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn of_process(pid: u32, init: u32, status: &str) -> Vec<String> {
    let mut found = Vec::new();
    match field(status, "TracerPid:") {
        Some("0") | None => {}
        Some(tracer) => found.push(format!("is traced by process {tracer} of its node")),
    }
    for kind in ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup"] {
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        if of(pid).is_some_and(|own| of(init).is_some_and(|first| first != own)) {
            found.push(format!("has a {kind} namespace of its own"));
        }
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let (locked, limit) = (kib(status, "VmLck:"), locked_max_kib(&limits));
    let is_root = field(status, "Uid:").is_some_and(|uids| uids.starts_with("0\t"));
    if !is_root && limit.is_some_and(|limit| locked > limit) {
        let limit = limit.unwrap_or(0);
        found.push(format!(
            "has locked {locked} KiB of memory, more than its limit of {limit} KiB"
        ));
    }
    if is_32_bit(&format!("/proc/{pid}/exe")) {
        found.push("is a 32-bit program".into());
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    found.extend(of_maps(&maps));
    found
}

/// The soft limit of `Max locked memory`, KiB (proc_pid_limits(5)).
fn locked_max_kib(limits: &str) -> Option<u64> {
    let line = field(limits, "Max locked memory")?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1_024)
}

/// ELFCLASS32 of elf(5).
fn is_32_bit(path: &str) -> bool {
    let mut head = [0; 5];
    let read =
        fs::File::open(path).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut head));
    read.is_ok() && head == *b"\x7fELF\x01"
}

/// Mappings of what is only here (proc_pid_maps(5)).
fn of_maps(maps: &str) -> Vec<String> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| inside(&line[at..])));
    let paths: BTreeSet<&str> = paths.collect();
    let mut found = Vec::new();
    for path in paths {
        // Shared memory without a file: it goes along as memory.
        let is_memory = path.starts_with("/dev/zero") || path.starts_with("/memfd:");
        let is_system_v = path.starts_with("/SYSV");
        if path.starts_with("/anon_hugepage") || path.starts_with("/dev/hugepages/") {
            found.push("has huge pages".to_owned());
        } else if let (true, false) = (is_of_a_node(path), is_memory || is_system_v) {
            found.push(format!("has mapped {path}, which is only on its node"));
        }
    }
    found
}

/// As the job has it: its root is a directory here.
fn inside(path: &str) -> &str {
    path.strip_prefix(ROOT).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

fn is_of_a_node(path: &str) -> bool {
    OF_A_NODE.iter().any(|dir| path.starts_with(dir))
}

fn of_files(
    pid: u32,
    members: &BTreeSet<u32>,
    names: &[String],
    connections: &BTreeMap<u64, String>,
) -> Vec<String> {
    let mounts = mount_ids(pid);
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for fd in fds.take(FDS_MAX) {
        let Ok(link) = fs::read_link(fd.path()) else { continue };
        let (link, number) = (link.to_string_lossy(), fd.file_name());
        let link = inside(&link);
        let number = number.to_string_lossy();
        if names.iter().any(|name| name == link) {
            continue;
        }
        if let Some((_, what)) = STAYING.iter().find(|(kind, _)| link.starts_with(kind)) {
            found.push(format!("{what}: descriptor {number}"));
        } else if let Some(ino) = inode(link, "socket:[") {
            if let Some(what) = connections.get(&ino) {
                found.push(format!("has {what}: descriptor {number}"));
            }
        } else if link.starts_with('/') {
            found.extend(of_file(&fd.path(), pid, members, link, &number));
            let is_memory = link.starts_with("/memfd:");
            let other = mount_of(pid, &number).filter(|id| !is_memory && !mounts.contains(id));
            if other.is_some() {
                found.push(format!(
                    "has {link} from another mount namespace: descriptor {number}"
                ));
            }
        }
    }
    found
}

fn of_file(
    fd: &Path,
    pid: u32,
    members: &BTreeSet<u32>,
    path: &str,
    number: &str,
) -> Option<String> {
    use std::os::unix::fs::FileTypeExt;
    let kind = fs::metadata(fd).ok()?.file_type();
    let is_terminal = path.starts_with("/dev/pts/") || path == "/dev/ptmx";
    if kind.is_char_device() || kind.is_block_device() {
        let stays = !PLAIN_DEVICES.contains(&path) && !is_terminal;
        return stays.then(|| format!("has the device {path} open: descriptor {number}"));
    }
    if kind.is_fifo() {
        let other = opened_elsewhere(fd, pid, members)?;
        return Some(format!(
            "has the FIFO {path} open, and so has process {other} outside of the job: descriptor \
             {number}"
        ));
    }
    let gone = path.ends_with(" (deleted)");
    let stays = kind.is_file() && is_of_a_node(path) && !gone;
    stays.then(|| format!("has {path} open, which is only on its node: descriptor {number}"))
}

/// A process outside of the job that has the same file open.
fn opened_elsewhere(fd: &Path, pid: u32, members: &BTreeSet<u32>) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let key = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let wanted = key(fd)?;
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|other| *other != pid && !members.contains(other));
    others.into_iter().find(|other| {
        let fds = fs::read_dir(format!("/proc/{other}/fd")).into_iter().flatten().flatten();
        fds.take(FDS_MAX).any(|other| key(&other.path()) == Some(wanted))
    })
}

fn inode(link: &str, prefix: &str) -> Option<u64> {
    link.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// The mounts that a process sees (proc_pid_mountinfo(5), first field).
fn mount_ids(pid: u32) -> BTreeSet<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

/// The mount that an open file is on (proc_pid_fdinfo(5), mnt_id).
fn mount_of(pid: u32, fd: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    field(&text, "mnt_id:")?.parse().ok()
}

/// Processes with locks of their own, not of an open file (proc_locks(5)).
fn posix_locks() -> BTreeSet<u32> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    of_locks(&text)
}

fn of_locks(text: &str) -> BTreeSet<u32> {
    let owner = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, _, pid, ..] = words[..] else { return None };
        pid.parse().ok()
    };
    text.lines().filter_map(owner).collect()
}

/// What sockets of a process's network are connected with, or bound to, by their inodes, where that
/// does not go along.
fn connections(pid: u32) -> BTreeMap<u64, String> {
    let mut all = BTreeMap::new();
    for (file, kind) in [("tcp", "TCP"), ("tcp6", "TCP"), ("udp", "UDP"), ("udp6", "UDP")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(|line| of_socket(line, kind)));
    }
    let text = fs::read_to_string(format!("/proc/{pid}/net/packet")).unwrap_or_default();
    let packets = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8));
    let packets = packets.filter_map(|ino| ino.parse().ok());
    all.extend(packets.map(|ino| (ino, "a packet socket".to_owned())));
    all
}

/// A line of /proc/net/tcp or udp (proc_pid_net(5)): states 0A (listening) and 07 (closed) keep
/// nothing of another side.
fn of_socket(line: &str, kind: &str) -> Option<(u64, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (peer, state, ino) = (*words.get(2)?, *words.get(3)?, words.get(9)?.parse().ok()?);
    if matches!(state, "0A" | "07") || ino == 0 {
        return None;
    }
    Some((ino, format!("a {kind} connection with {}", address(peer)?)))
}

/// `0100007F:1F90`, each word of four bytes in the order of the machine.
fn address(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = (0..address.len() / 8).map(|n| {
        let word = address.get(8 * n..8 * n + 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => std::net::IpAddr::from(four),
        Err(_) => std::net::IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).to_canonical(),
    };
    Some(std::net::SocketAddr::new(address, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_addresses() {
        let line = "   1: 0100007F:A6E8 0200A8C0:1F90 01 00000000:00000000 00:00000000 00000000 \
                    0        0 4711 1 0";
        let told = of_socket(line, "TCP").unwrap();
        assert_eq!(told, (4_711, "a TCP connection with 192.168.0.2:8080".into()));
        assert_eq!(of_socket(&line.replace(" 01 ", " 0A "), "TCP"), None);
        let six = "0000000000000000FFFF00000100007F:0016";
        assert_eq!(address(six).unwrap(), "127.0.0.1:22");
        assert_eq!(address("00000000000000000000000001000000:0016").unwrap(), "[::1]:22");
        for bad in ["", ":", "0100007F", "0100007F:x", "01:0016"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn mappings_of_what_stays_are_found() {
        let maps = "7f00-7f01 r-xp 00000000 fe:00 12 /run/krg/root/usr/lib/libc.so.6\n\
                    7f02-7f03 rw-s 00000000 00:05 13 /dev/dri/card0\n\
                    7f02-7f03 rw-s 00000000 00:05 13 /dev/shm/x\n\
                    7f04-7f05 rw-s 00000000 00:01 14 /dev/zero (deleted)\n\
                    7f04-7f05 rw-s 00000000 00:01 14 /SYSV00000000 (deleted)\n\
                    7f06-7f07 rw-s 00000000 00:01 14 /memfd:a (deleted)\n";
        let found = of_maps(maps);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("/dev/dri/card0") && found[1].contains("/dev/shm/x"));
    }

    #[test]
    fn owners_of_locks_are_read() {
        let text = "1: POSIX  ADVISORY  WRITE 212 fe:00:5 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 213 fe:00:5 0 EOF\n\
                    3: OFDLCK ADVISORY  READ -1 fe:00:5 0 EOF\n\
                    3: -> POSIX  ADVISORY  WRITE 214 fe:00:5 0 EOF\n";
        assert_eq!(of_locks(text).into_iter().collect::<Vec<_>>(), [212]);
    }

    #[test]
    fn limits_are_read() {
        let limits = "Limit   Soft Limit   Hard Limit   Units\n\
                      Max locked memory         8388608              8388608              bytes\n";
        assert_eq!(locked_max_kib(limits), Some(8_192));
        assert_eq!(locked_max_kib("Max locked memory   unlimited unlimited bytes\n"), None);
        let status = "Uid:\t0\t0\t0\t0\nVmLck:\t      64 kB\nTracerPid:\t7\n";
        assert_eq!((kib(status, "VmLck:"), field(status, "TracerPid:")), (64, Some("7")));
    }
}
