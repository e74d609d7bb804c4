//! `krg lab`, `ssi-start` and `ssi-stop` are a program of their own.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// A program that was installed beside this one.
pub fn sibling(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    beside.filter(|p| p.exists()).unwrap_or_else(|| name.into())
}

/// Becomes krg-lab, called by this name.
pub fn run(name: &str, args: &[OsString]) -> Result<u8> {
    let error = Command::new(sibling("krg-lab")).arg0(name).args(args).exec();
    Err(error).context("cannot start krg-lab (is it installed beside krg?)")
}
