//! What is begun so often, and moves with every job, that it is a small program of its own where it
//! is installed: a job's first process, and the hook that CRIU calls at each of its steps. krgd can
//! be both too.

use crate::start::INIT_COMMAND;
use crate::{hook, init};
use krg_sys::process;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Its name.
const NAME: &str = "krg-job-init";

/// It: beside this program or where `make install` puts it, or this program itself.
///
/// # Errors
/// When there is no /proc.
pub fn program() -> io::Result<PathBuf> {
    let own = process::own_program()?;
    let beside = own.parent().map(|dir| dir.join(NAME));
    let installed = own.parent().and_then(Path::parent).map(|dir| dir.join("lib/krg").join(NAME));
    let found = [beside, installed].into_iter().flatten().find(|path| path.is_file());
    Ok(found.unwrap_or(own))
}

/// Called by CRIU, under the name of its hook: the exit code.
pub fn hooked() -> Option<u8> {
    let program = std::env::args_os().next().map(PathBuf::from)?;
    (program.file_name()? == hook::NAME).then_some(())?;
    Some(u8::from(hook::run(&program).is_err()))
}

/// A job's first process: these descriptors have its specification, and hear of it.
///
/// # Errors
/// When it cannot begin.
pub fn first(asked: i32, reports: i32, terminal: bool) -> io::Result<()> {
    let file = |number| Ok::<_, io::Error>(File::from(process::inherited(number)?));
    init::run(file(asked)?, file(reports)?, terminal)
}

/// The small program, called with these arguments; its exit code.
pub fn run(args: &[OsString]) -> u8 {
    let words: Vec<&str> = args.iter().filter_map(|word| word.to_str()).collect();
    let (numbers, terminal) = match words[..] {
        [_, INIT_COMMAND, asked, reports] => ([asked, reports], false),
        [_, INIT_COMMAND, asked, reports, "--terminal"] => ([asked, reports], true),
        _ => return misused(),
    };
    let [Ok(asked), Ok(reports)] = numbers.map(str::parse) else { return misused() };
    match first(asked, reports, terminal) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{NAME}: {e}");
            1
        }
    }
}

fn misused() -> u8 {
    eprintln!("{NAME}: krgd starts this for the jobs of `krg run`");
    2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_done() {
        let run = |words: &[&str]| run(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(run(&[]), 2);
        assert_eq!(run(&["x", INIT_COMMAND, "3"]), 2);
        assert_eq!(run(&["x", INIT_COMMAND, "3", "y"]), 2);
        assert_eq!(run(&["x", "other", "3", "4"]), 2);
    }
}
