//! `krg lab exec`: runs a command in a node, or in every node in turn.

use crate::inside;
use crate::name::LabName;
use crate::state::Lab;
use anyhow::{Context, Result};
use krg_sys::process::Signal;
use nix::sys::signalfd::SfdFlags;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A signal that the terminal sent: the command got it too.
const SI_KERNEL: i32 = 0x80;
/// Longest line that is prefixed as one.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Runs a command in one node; its exit code.
pub fn one(name: &LabName, word: &str, words: &[OsString]) -> Result<u8> {
    let (program, args) = words.split_first().context("which command?")?;
    let host = inside::enter(name, word)?;
    let signals = inside::signals(&[Signal::SIGCHLD], SfdFlags::empty())?;
    let mut child = match inside::command(program).args(args).spawn() {
        Ok(child) => child,
        Err(e) => {
            eprintln!("krg lab exec: {host}: {}: {e}", program.to_string_lossy());
            return Ok(inside::code_of_failure(&e));
        }
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(inside::code_of(status));
        }
        let Some(info) = signals.read_signal()? else { continue };
        if info.ssi_code != SI_KERNEL {
            inside::forward(info.ssi_signo as i32, child.id());
        }
    }
}

/// Runs a command in every node in turn, each line of output after the node's name; the first
/// exit code that is not 0.
pub fn all(name: &LabName, words: &[OsString]) -> Result<u8> {
    let mut first = 0;
    for node in Lab::load(name)?.nodes {
        // Entering is for good: each node needs a process of its own.
        let mut child = Command::new("/proc/self/exe")
            .arg0("krg-lab")
            .args(["exec", "--name", name.as_str(), &node.hostname, "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| err.map(|e| prefix(&node.hostname, e, std::io::stderr())));
            if let Some(out) = out {
                prefix(&node.hostname, out, std::io::stdout());
            }
        });
        let code = inside::code_of(child.wait()?);
        if first == 0 {
            first = code;
        }
    }
    Ok(first)
}

/// Copies lines, each after a node's name, until the input ends or nobody reads.
fn prefix(host: &str, from: impl Read, mut to: impl Write) {
    let mut from = BufReader::new(from);
    let mut text = format!("{host}: ").into_bytes();
    let start = text.len();
    loop {
        text.truncate(start);
        match (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut text) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        if to.write_all(&text).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_tells_its_node() {
        let mut out = Vec::new();
        prefix("node1", &b"a\n\nb"[..], &mut out);
        assert_eq!(out, b"node1: a\nnode1: \nnode1: b\n");
    }
}
