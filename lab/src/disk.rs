//! A node's disk: an ext4 file system on a loop image, which holds krgd's state. The image file
//! is what would be on the platters: a copy of it is what a loss of power leaves.

use crate::image;
use crate::name::LabName;
use anyhow::{Context, Result, bail};
use nix::poll::{PollTimeout, poll};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where krgd keeps its state.
pub const STATE_DIR: &str = "/var/lib/krg";
/// The size of a disk. Only what is written takes memory.
const IMAGE_BYTES: u64 = 64 << 20;
/// Tables are whole from the first day: nothing is written later that nobody asked for. All of
/// the disk is for files, the journal is the smallest there is.
const MKFS: [&str; 11] = [
    "-q",
    "-F",
    "-b4096",
    "-m0",
    "-N4096",
    "-O^resize_inode,^huge_file",
    "-Jsize=4",
    "-Elazy_itable_init=0,lazy_journal_init=1,nodiscard",
    "-L",
    "krg-lab",
    "--",
];
/// How long the kernel may take to let go of the image after the last process of a node.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const LOOK_AGAIN_MS: u8 = 2;

/// The disk being made that every node of a lab gets a copy of.
pub struct Base {
    path: PathBuf,
    mkfs: Child,
}

impl Base {
    /// Begins to make it.
    pub fn begin(lab: &LabName) -> Result<Base> {
        if !Path::new("/dev/loop-control").exists() {
            bail!("this machine has no loop devices (`modprobe loop` may help)");
        }
        let path = lab.disk_base();
        File::create(&path)
            .and_then(|f| f.set_len(IMAGE_BYTES))
            .with_context(|| format!("cannot make {}", path.display()))?;
        let mut command = Command::new("mkfs.ext4");
        // Not everybody's PATH has the tools of root.
        let tools = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        command.env("PATH", tools).args(MKFS).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mkfs = command.spawn().context("cannot run mkfs.ext4: install e2fsprogs")?;
        Ok(Base { path, mkfs })
    }

    /// Waits until it is there.
    pub fn end(self) -> Result<()> {
        let said = self.mkfs.wait_with_output().context("cannot wait for mkfs.ext4")?;
        if !said.status.success() {
            // Half of it is worse than none.
            let _ = fs::remove_file(&self.path);
            bail!("mkfs.ext4 failed: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(())
    }
}

/// Mounts a node's disk in its tree at `root`: the one that it had, or a new one.
pub fn mount(lab: &LabName, node: u32, root: &Path) -> Result<()> {
    let (image, target) = (lab.disk(node), target(root)?);
    let old = image.exists();
    if old {
        wait_released(&image)?;
    } else {
        let new = image.with_extension("new");
        image::copy(&lab.disk_base(), &new).context("cannot make the node's disk")?;
        fs::rename(&new, &image)?;
    }
    let mut command = Command::new("mount");
    command.args(["-n", "-i", "-t", "ext4", "-o", "loop,nosuid,nodev,noatime", "--"]);
    let said = command
        .args([&image, &target])
        .stdin(Stdio::null())
        .output()
        .context("cannot run `mount`: install the package `mount`")?;
    if !said.status.success() {
        let words = String::from_utf8_lossy(&said.stderr);
        bail!(
            "cannot mount the node's disk: {}",
            words.split_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    if !old {
        // krgd is to find an empty directory, as on a machine that was just installed.
        let _ = fs::remove_dir(target.join("lost+found"));
    }
    Ok(())
}

/// In the place of a disk: a directory of the node's, so that it never sees the host's.
pub fn mount_directory(lab: &LabName, node: u32, root: &Path) -> Result<()> {
    let dir = lab.node_dir(node).join("state");
    fs::create_dir_all(&dir)?;
    krg_sys::mount::bind(&dir, &target(root)?).context("cannot show the node's state directory")
}

fn target(root: &Path) -> Result<PathBuf> {
    let target = root.join(STATE_DIR.trim_start_matches('/'));
    fs::create_dir_all(&target).with_context(|| format!("cannot make {STATE_DIR}"))?;
    Ok(target)
}

/// Waits until no loop device has this image any more.
pub fn wait_released(image: &Path) -> Result<()> {
    if !image.exists() {
        return Ok(());
    }
    let image = image.as_os_str();
    wait_none(|| loops(&["--associated".as_ref(), image]))
}

/// Waits until no loop device has an image in the file system with this device number.
pub fn wait_all_released(device: (u32, u32)) -> Result<()> {
    let of_device = format!("{}:{}", device.0, device.1);
    wait_none(|| {
        let mut all = loops(&["--list".as_ref()])?;
        all.retain(|l| l.on == of_device);
        Ok(all)
    })
}

/// The kernel detaches a loop device after its last user has gone, and tells nobody.
fn wait_none(left: impl Fn() -> Result<Vec<Loop>>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = left()?;
        if left.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > BUSY_MAX {
            let names: Vec<_> = left.iter().map(|l| l.name.as_str()).collect();
            bail!("{} does not let go of a node's disk", names.join(", "));
        }
        if begin.elapsed() > BUSY_MAX / 2 {
            // One that was set up by somebody who was killed before he could use it.
            for l in left {
                let _ = Command::new("losetup").args(["--detach", &l.name]).output();
            }
        }
        poll(&mut [], PollTimeout::from(LOOK_AGAIN_MS))?;
    }
}

/// A loop device in use.
#[derive(PartialEq, Eq, Debug)]
struct Loop {
    name: String,
    /// Device number of the file system that the image is in.
    on: String,
}

fn loops(question: &[&std::ffi::OsStr]) -> Result<Vec<Loop>> {
    if !any_in_use() {
        return Ok(Vec::new());
    }
    let said = Command::new("losetup")
        .args(question)
        .args(["--noheadings", "--output", "NAME,BACK-MAJ:MIN"])
        .stdin(Stdio::null())
        .output()
        .context("cannot run `losetup`: install the package `mount`")?;
    Ok(parse_loops(&String::from_utf8_lossy(&said.stdout)))
}

fn parse_loops(text: &str) -> Vec<Loop> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        Some(Loop { name: words.next()?.to_owned(), on: words.next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// Most of the time no loop device of the machine is in use: that is known without a tool.
fn any_in_use() -> bool {
    let Ok(disks) = fs::read_dir("/sys/block") else { return true };
    let in_use = |d: fs::DirEntry| d.path().join("loop/backing_file").exists();
    disks.flatten().any(in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_loop_devices_is_read() {
        let text = "/dev/loop0          0:39 \n/dev/loop12   8:1\n\nbroken\n";
        let all = parse_loops(text);
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].name.as_str(), all[1].on.as_str()), ("/dev/loop12", "8:1"));
        assert_eq!(all[0].on, "0:39");
    }
}
