//! A job's first process: pid 1 of its namespace. It starts the program, reaps, says on a pipe how
//! the program has ended, and ends when the last of the job has. It moves with the job.

use crate::report::Report;
use crate::spec::Spec;
use krg_sys::process;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the job: `asked` has the specification, `reports` hears of it. Returns when nothing of it
/// is left.
///
/// # Errors
/// When it cannot even begin, or say so.
pub fn run(mut asked: File, mut reports: File, terminal: bool) -> io::Result<()> {
    process::set_name("krg-job-init")?;
    let mut bytes = Vec::new();
    asked.read_to_end(&mut bytes)?;
    drop(asked);
    let spec = Spec::read(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let pid = match start(&spec, terminal) {
        Ok(pid) => pid,
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            return reports.write_all(&Report::Failed(errno).written());
        }
    };
    // What the program reads and writes is not to stay open here.
    process::let_go_of_stdio()?;
    reports.write_all(&Report::Started(pid).written())?;
    while let Some((ended, status, usage)) = process::reap_any()? {
        if ended == pid {
            // Nobody hears it if the supervisor is gone.
            let _ = reports.write_all(&Report::Ended(status, usage).written());
        }
    }
    Ok(())
}

fn start(spec: &Spec, terminal: bool) -> io::Result<u32> {
    if let Some((first, last)) = spec.pids {
        krg_sys::ns::number_from(Path::new("/proc"), first, last)?;
    }
    // All of the job is its owner's, this process too: who may look at it may save it.
    process::become_user(&spec.owner)?;
    let words = |c: &CString| OsStr::from_bytes(c.as_bytes()).to_owned();
    let Some((program, args)) = spec.argv.split_first() else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let mut command = Command::new(words(program));
    command.args(args.iter().map(words)).arg0(words(program)).env_clear();
    for variable in &spec.env {
        let bytes = variable.as_bytes();
        let Some(at) = bytes.iter().position(|b| *b == b'=').filter(|at| *at > 0) else {
            continue;
        };
        let (name, value) = (&bytes[..at], &bytes[at + 1..]);
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    process::lead_session(&mut command, &spec.cwd, spec.umask, terminal);
    Ok(command.spawn()?.id())
}
