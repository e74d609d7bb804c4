//! `krg lab stop`: ends a lab in whatever state it is.

use crate::disk;
use crate::name::{LABS, LabName};
use crate::print::print;
use crate::scan::{Found, Role, lab_processes};
use crate::state::{Lab, lab_names};
use crate::unstick::abort_fuse;
use anyhow::{Context, Result, bail};
use krg_sys::mount::{mountinfo, top_at, umount_detach};
use krg_sys::process::{PidFd, Signal};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes take to end when none of them hangs.
const QUICK_END: Duration = Duration::from_millis(150);
/// How long the keeper may take to end its lab itself.
const KEEPER_MAX: Duration = Duration::from_millis(800);
/// How long killed processes may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);
/// Rounds of looking for what is left.
const ROUNDS_MAX: u32 = 64;

/// Ends one lab, or all.
pub fn run(name: &LabName, all: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab is root's: use sudo");
    }
    let names = if all { all_names()? } else { BTreeSet::from([name.clone()]) };
    if names.is_empty() {
        print("no lab is running\n");
    }
    for name in names {
        if clear(&name)? {
            print(&format!("lab `{name}` ended\n"));
        } else {
            print(&format!("no lab `{name}` is running\n"));
        }
    }
    Ok(())
}

/// Every lab that has a directory or a process.
fn all_names() -> Result<BTreeSet<LabName>> {
    let running = lab_processes()?.into_iter().filter_map(|f| f.lab.parse().ok());
    Ok(lab_names()?.into_iter().chain(running).collect())
}

/// Ends every process of a lab and removes its mounts and files; `false` if there was nothing.
pub fn clear(name: &LabName) -> Result<bool> {
    // Looked up before they are killed: a dying process has no arguments to be known by.
    let first = processes(name)?;
    let inits: Vec<u32> =
        first.iter().filter(|p| p.role == Role::Init).map(|p| p.proc.pid).collect();
    let mut found = end_keeper(&first, &inits)?;
    found |= kill_rest(name, &inits)?;
    // The disks are files in the lab's tmpfs; nobody else's are.
    let tmpfs = top_at(&name.dir()).context("cannot read what is mounted")?;
    let released = tmpfs.map_or(Ok(()), |m| disk::wait_all_released(m.device));
    found |= unmount(&name.dir())?;
    match fs::remove_dir_all(name.dir()) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        removed => {
            removed.with_context(|| format!("cannot remove {}", name.dir().display()))?;
            found = true;
        }
    }
    // It stays while another lab is there.
    let _ = fs::remove_dir(LABS);
    released.map(|()| found)
}

/// Lets the keeper end the lab: it is the parent of all nodes and sees when the last is gone.
fn end_keeper(first: &[Found], inits: &[u32]) -> Result<bool> {
    let mut found = false;
    for keeper in first.iter().filter(|p| p.role == Role::Keeper) {
        let Some(keeper) = keeper.proc.open()? else { continue };
        found = true;
        keeper.signal(Signal::SIGTERM)?;
        keeper.signal(Signal::SIGCONT)?;
        if !keeper.wait_end(QUICK_END)? {
            abort_fuse(inits.iter().copied())?;
            keeper.wait_end(KEEPER_MAX)?;
        }
    }
    Ok(found)
}

/// Kills what is there without a keeper, or in spite of it.
fn kill_rest(name: &LabName, inits: &[u32]) -> Result<bool> {
    let mut found = false;
    let deadline = Instant::now() + KILL_MAX;
    for _ in 0..ROUNDS_MAX {
        let mut left: Vec<PidFd> = Vec::new();
        for process in processes(name)? {
            // A zombie has ended: its parent is not ours to hurry.
            let living = process.proc.open()?;
            left.extend(living.filter(|p| !p.wait_end(Duration::ZERO).unwrap_or(false)));
        }
        if left.is_empty() {
            return Ok(found);
        }
        found = true;
        for process in &left {
            process.signal(Signal::SIGKILL)?;
        }
        let quick = Instant::now() + QUICK_END;
        let mut hanging = false;
        for process in &left {
            hanging |= !process.wait_end(quick.saturating_duration_since(Instant::now()))?;
        }
        if hanging {
            abort_fuse(inits.iter().copied())?;
        }
        for process in &left {
            if !process.wait_end(deadline.saturating_duration_since(Instant::now()))? {
                bail!("lab `{name}`: a killed process does not end (is its disk hung?)");
            }
        }
    }
    bail!("lab `{name}`: processes appear faster than they are killed")
}

/// The lab's processes that its file tells and that /proc shows, pid 1 of each node first.
fn processes(name: &LabName) -> Result<Vec<Found>> {
    let mut all = lab_processes()?;
    all.retain(|p| p.lab == name.as_str());
    // A file that is missing or damaged tells nothing: then /proc is all there is.
    if let Ok(lab) = Lab::load(name) {
        let of = |role| move |proc| Some((role, proc?));
        let known = lab.keeper.map(|proc| (Role::Keeper, proc)).into_iter();
        let known = known.chain(lab.nodes.iter().map(|n| n.boot).filter_map(of(Role::Boot)));
        let known = known.chain(lab.nodes.iter().map(|n| n.init).filter_map(of(Role::Init)));
        for (role, proc) in known {
            if proc.state().is_some() && !all.iter().any(|p| p.proc == proc) {
                all.push(Found { lab: lab.name.clone(), role, proc });
            }
        }
    }
    all.sort_by_key(|p| std::cmp::Reverse(p.role));
    Ok(all)
}

/// Takes every mount on and below a directory out of the tree, the latest first.
fn unmount(dir: &Path) -> Result<bool> {
    let mut found = false;
    for _ in 0..ROUNDS_MAX {
        let mounts = mountinfo("self").context("cannot read what is mounted")?;
        let Some(last) = mounts.iter().rev().find(|m| m.mount_point.starts_with(dir)) else {
            return Ok(found);
        };
        found = true;
        umount_detach(&last.mount_point)
            .with_context(|| format!("cannot unmount {}", last.mount_point.display()))?;
    }
    bail!("{} is mounted again and again", dir.display())
}
