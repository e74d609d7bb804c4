//! A node's file tree: the host's, with a writable layer of its own over it.

use crate::config;
use crate::name::LabName;
use crate::plan::hostname;
use crate::state::Lab;
use anyhow::{Context, Result};
use krg_sys::mount::{self, MountEntry, MsFlags};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the programs are in a node.
pub const PROGRAMS: &str = "/usr/local/lib/krg";
/// Where the host's tree is in the node's while the node is being made.
const HOST: &str = "/.krg-host";
/// How long the last life of a node may take to let go of its writable layer.
const BUSY_MAX: Duration = Duration::from_secs(2);
/// Other disks of the host that are shown in a node.
const DISKS_MAX: usize = 32;

/// Mounts the node's tree below its directory, in this process's own mount namespace; the root.
pub fn mount_layers(lab: &LabName, node: u32) -> Result<PathBuf> {
    mount::make_private_recursive(Path::new("/"))
        .context("cannot part from the host's mounts")?;
    let disks = mount::mountinfo("self").context("cannot read what is mounted")?;
    let dir = lab.node_dir(node);
    let root = dir.join("root");
    fs::create_dir_all(&root)?;
    overlay(Path::new("/"), &dir, &root)?;
    for disk in disks.iter().filter(|m| is_disk(m)).take(DISKS_MAX) {
        let point = &disk.mount_point;
        let upper = dir.join("disks").join(flat_name(point));
        let target = root.join(point.strip_prefix("/").unwrap_or(point));
        if let Err(e) = overlay(point, &upper, &target) {
            // Its files are missing in the node; most nodes do without.
            eprintln!("{}: {} is not shown: {e:#}", hostname(node), point.display());
        }
    }
    Ok(root)
}

/// Is this a disk besides the root's, mounted where a node shows the host's files?
fn is_disk(m: &MountEntry) -> bool {
    let own = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    m.mount_point != Path::new("/")
        && mount::is_disk_type(&m.fs_type)
        && !own.iter().any(|p| m.mount_point.starts_with(p))
        && m.mount_point.is_dir()
}

/// A path as one file name.
fn flat_name(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes().iter().flat_map(|b| match b {
        b'/' => b"%2f".to_vec(),
        b'%' => b"%25".to_vec(),
        other => vec![*other],
    });
    PathBuf::from(OsStr::from_bytes(&bytes.collect::<Vec<u8>>()))
}

/// Shows `lower` at `target` with a writable layer in `dir`.
fn overlay(lower: &Path, dir: &Path, target: &Path) -> Result<()> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        option_text(lower),
        option_text(&upper),
        option_text(&work)
    );
    // With these two, file handles work on the node's files, as on a disk.
    // Inode numbers as on one file system: programs that move look at them.
    let all = [
        format!("{layers},index=on,nfs_export=on,xino=on"),
        format!("{layers},index=on,nfs_export=on"),
        format!("{layers},index=on"),
        layers,
    ];
    let mut last = io::Error::from(ErrorKind::Unsupported);
    for options in all {
        match overlay_once_free(target, &options) {
            Ok(()) => return Ok(()),
            Err(e) => last = e,
        }
    }
    Err(last).with_context(|| {
        format!(
            "cannot mount an overlay of {} (does this kernel have overlayfs?)",
            lower.display()
        )
    })
}

fn overlay_once_free(target: &Path, options: &str) -> io::Result<()> {
    let deadline = Instant::now() + BUSY_MAX;
    loop {
        match mount::mount_fs("overlay", target, "overlay", MsFlags::empty(), options) {
            // A command of the node's last life still holds the layer for a moment: nothing
            // tells when it lets go.
            Err(e) if e.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// Escapes what would end a path in the options of an overlay.
fn option_text(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, '\\' | ':' | ',') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Makes `root` the root of this process and fills in what every node has of its own. From here
/// on links in the tree lead into the tree, never to the host's files.
pub fn enter(root: &Path, lab: &Lab, node: u32) -> Result<()> {
    let host = Path::new(HOST);
    let old = root.join(HOST.trim_start_matches('/'));
    fs::create_dir_all(&old)?;
    mount::pivot_root(root, &old).context("cannot enter the node's tree")?;
    let filled = own_mounts(host)
        .and_then(|()| programs(host, lab))
        .with_context(|| format!("cannot furnish {}", hostname(node)));
    mount::umount_detach(host).context("cannot leave the host's tree")?;
    filled?;
    fs::remove_dir(host)?;
    tmpfs("/run", "mode=0755")?;
    files(lab, node).with_context(|| format!("cannot write the files of {}", hostname(node)))
}

fn own_mounts(host: &Path) -> Result<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount::mount_fs("sysfs", Path::new("/sys"), "sysfs", safe, "").context("/sys")?;
    mount::bind(&host.join("dev"), Path::new("/dev")).context("/dev")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount::mount_fs("devpts", Path::new("/dev/pts"), "devpts", quiet, pts).context("/dev/pts")?;
    if Path::new("/dev/shm").is_dir() {
        tmpfs("/dev/shm", "mode=1777")?;
    }
    if Path::new("/dev/mqueue").is_dir() {
        // Not every kernel has it.
        let _ = mount::mount_fs("mqueue", Path::new("/dev/mqueue"), "mqueue", safe, "");
    }
    tmpfs("/tmp", "mode=1777")
}

fn tmpfs(target: &str, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount::mount_fs("tmpfs", Path::new(target), "tmpfs", flags, options)
        .with_context(|| format!("cannot mount a tmpfs on {target}"))
}

/// Puts the programs where an installed node has them, and their names on the PATH.
fn programs(host: &Path, lab: &Lab) -> Result<()> {
    fs::create_dir_all(PROGRAMS)?;
    fs::create_dir_all("/usr/local/bin")?;
    for program in ["krg", "krgd", "krg-lab", "krg-job-init", "criu"] {
        let path = match program {
            // Where the set-up has built it, beside what cargo builds.
            "criu" => lab.programs.join("../tools/sbin/criu"),
            program => lab.programs.join(program),
        };
        let source = host.join(path.strip_prefix("/").unwrap_or(&path));
        let target = Path::new(PROGRAMS).join(program);
        if source.exists() {
            fs::OpenOptions::new().create(true).append(true).open(&target)?;
            mount::bind(&source, &target).with_context(|| path.display().to_string())?;
            mount::make_bind_read_only(&target)?;
        }
        if !["criu", "krg-job-init"].contains(&program) {
            link(program, &Path::new("/usr/local/bin").join(program))?;
        }
    }
    for name in &lab.old_names {
        let program = if name.starts_with("ssi-st") { "krg-lab" } else { "krg" };
        // mount(8) and umount(8) look for their helpers in /sbin only.
        let helper = name.starts_with("mount.") || name.starts_with("umount.");
        let dir = if helper { "/sbin" } else { "/usr/local/bin" };
        link(program, &Path::new(dir).join(name))?;
    }
    Ok(())
}

fn link(program: &str, at: &Path) -> Result<()> {
    let failed = || format!("cannot make the link {}", at.display());
    match fs::remove_file(at) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(failed),
        _ => symlink(Path::new(PROGRAMS).join(program), at).with_context(failed),
    }
}

fn files(lab: &Lab, node: u32) -> Result<()> {
    let plan = lab.plan();
    for dir in ["/etc/krg", "/run/krg", "/run/lock", "/var/log"] {
        fs::create_dir_all(dir)?;
    }
    fs::set_permissions("/run/lock", Permissions::from_mode(0o1777))?;
    fs::write("/run/utmp", "")?;
    fs::write("/etc/hosts", config::hosts(&lab.nodes))?;
    fs::write("/etc/hostname", format!("{}\n", hostname(node)))?;
    fs::write("/etc/krg/krg.toml", config::krg_toml(&lab.name, plan, node))?;
    fs::write("/etc/krg/lab.bashrc", config::SHELL_RC)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_and_options() {
        assert_eq!(flat_name(Path::new("/a/b%")), Path::new("%2fa%2fb%25"));
        assert_eq!(option_text(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }

    #[test]
    fn only_disks_with_directories_are_layered() {
        let entry = |point: &str, kind: &str| {
            let line = format!("1 2 8:1 / {point} rw - {kind} src rw");
            mount::parse_mountinfo(line.as_bytes()).remove(0)
        };
        assert!(is_disk(&entry("/usr", "ext4")));
        assert!(!is_disk(&entry("/", "ext4")));
        assert!(!is_disk(&entry("/dev/shm", "ext4")));
        assert!(!is_disk(&entry("/usr", "tmpfs")));
        assert!(!is_disk(&entry("/etc/passwd", "ext4")));
    }
}
