//! Points at which a test may hold or end what moves a job: in a directory that `KRG_FAULTS` names,
//! a FIFO with the name of the point. Who comes there says so in it, and waits for the word in the
//! FIFO beside it (`NAME.go`): `die`, or anything else to go on.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// The directory.
pub const VARIABLE: &str = "KRG_FAULTS";

/// A point of this name has been reached.
pub async fn point(name: &'static str) {
    let Some(dir) = std::env::var_os(VARIABLE) else { return };
    let path = PathBuf::from(dir).join(name);
    if !path.exists() {
        return;
    }
    let word = tokio::task::spawn_blocking(move || wait(&path)).await;
    if word.is_ok_and(|word| word.is_ok_and(|word| word.trim() == "die")) {
        // As if somebody else had killed it: nothing is put in order.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    }
}

fn wait(path: &std::path::Path) -> io::Result<String> {
    // Each waits until the other side is there: fifo(7).
    fs::File::options().write(true).open(path)?.write_all(b"here\n")?;
    let mut word = String::new();
    fs::File::open(path.with_extension("go"))?.read_to_string(&mut word)?;
    Ok(word)
}
