//! What a job is to be: as it was asked for, bounded and checked.

use krg_rpc::prost::Message;
use krg_rpc::proto::job as wire;
use krg_rpc::proto::job::Run;
use krg_sys::cred::Caller;
use krg_types::limits::{JOB_NAME_BYTES_MAX, JOB_WORDS_MAX, PROTOCOL_VERSION};
use krg_types::version::understood;
use std::ffi::CString;

/// A new job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Whose.
    pub owner: Caller,
    /// The program's name, and its arguments.
    pub argv: Vec<CString>,
    /// The environment.
    pub env: Vec<CString>,
    /// The working directory.
    pub cwd: CString,
    /// The file mode creation mask.
    pub umask: u32,
    /// What it is called.
    pub name: String,
    /// It goes on when who has started it is gone.
    pub background: bool,
    /// First and last of the numbers that its processes get, if this kernel gives each namespace
    /// its own.
    pub pids: Option<(u32, u32)>,
}

/// What cannot be a job.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSpec {
    /// Of another version.
    #[error("krg of another version: it speaks {0}, krgd {PROTOCOL_VERSION}")]
    Version(u32),
    /// There is none.
    #[error("no program")]
    NoProgram,
    /// More than the kernel takes.
    #[error("too many arguments or variables: more than {JOB_WORDS_MAX}")]
    TooMany,
    /// Has a NUL.
    #[error("a NUL in the command, its environment or its directory")]
    Nul,
    /// Cannot be typed.
    #[error("a job's name has 1 to {JOB_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`")]
    Name,
}

impl Spec {
    /// As it was asked for.
    ///
    /// # Errors
    /// When it cannot be a job.
    pub fn new(run: Run, owner: Caller) -> Result<Spec, BadSpec> {
        if !understood(run.version) {
            return Err(BadSpec::Version(run.version));
        }
        if run.argv.len() + run.env.len() > JOB_WORDS_MAX {
            return Err(BadSpec::TooMany);
        }
        let words = |all: Vec<Vec<u8>>| all.into_iter().map(word).collect::<Result<Vec<_>, _>>();
        let (argv, env, cwd) = (words(run.argv)?, words(run.env)?, word(run.cwd)?);
        let program = argv.first().ok_or(BadSpec::NoProgram)?;
        let name = match run.name.as_str() {
            "" => named_after(program),
            name if is_name(name) => name.to_owned(),
            _ => return Err(BadSpec::Name),
        };
        let (umask, background) = (run.umask & 0o777, run.background);
        Ok(Spec { owner, argv, env, cwd, umask, name, background, pids: None })
    }
}

impl Spec {
    /// For the job's first process.
    pub fn written(&self) -> Vec<u8> {
        let words = |all: &[CString]| all.iter().map(|word| word.as_bytes().to_vec()).collect();
        let run = Run {
            version: PROTOCOL_VERSION,
            argv: words(&self.argv),
            env: words(&self.env),
            cwd: self.cwd.as_bytes().to_vec(),
            umask: self.umask,
            name: self.name.clone(),
            terminal: None,
            background: self.background,
            // Nothing that it is itself to know.
            capabilities: String::new(),
        };
        let Caller { uid, gid, groups } = self.owner.clone();
        let (first_pid, last_pid) = self.pids.unwrap_or_default();
        wire::Spec { run: Some(run), uid, gid, groups, first_pid, last_pid }.encode_to_vec()
    }

    /// As it was written.
    pub fn read(bytes: &[u8]) -> Option<Spec> {
        let wire::Spec { run, uid, gid, groups, first_pid, last_pid } =
            wire::Spec::decode(bytes).ok()?;
        let spec = Spec::new(run?, Caller { uid, gid, groups }).ok()?;
        Some(Spec { pids: (first_pid > 0).then_some((first_pid, last_pid)), ..spec })
    }
}

fn word(bytes: Vec<u8>) -> Result<CString, BadSpec> {
    CString::new(bytes).map_err(|_| BadSpec::Nul)
}

fn may_be_in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn is_name(name: &str) -> bool {
    (1..=JOB_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(may_be_in_a_name)
}

/// The last part of its path, as far as it can be typed.
fn named_after(program: &CString) -> String {
    let path = program.to_string_lossy();
    let last = path.rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().filter(|c| may_be_in_a_name(*c)).collect();
    let name: String = name.chars().take(JOB_NAME_BYTES_MAX).collect();
    if name.is_empty() { "job".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str]) -> Run {
        let argv = argv.iter().map(|word| word.as_bytes().to_vec()).collect();
        Run { version: PROTOCOL_VERSION, argv, cwd: b"/".to_vec(), ..Run::default() }
    }

    fn spec(run: Run) -> Result<Spec, BadSpec> {
        Spec::new(run, Caller { uid: 7, gid: 8, groups: vec![9] })
    }

    #[test]
    fn a_job_is_what_was_asked_for() {
        let asked = Run {
            env: vec![b"A=1".to_vec()],
            umask: 0o7_027,
            background: true,
            ..run(&["/bin/x y", "z"])
        };
        let spec = spec(asked).unwrap();
        assert_eq!((spec.name.as_str(), spec.umask, spec.background), ("xy", 0o027, true));
        assert_eq!((spec.argv.len(), spec.env[0].as_bytes()), (2, &b"A=1"[..]));
        assert_eq!((spec.owner.uid, spec.cwd.as_bytes()), (7, &b"/"[..]));
        let spec = Spec { pids: Some((32_768, 33_279)), ..spec };
        assert_eq!(Spec::read(&spec.written()), Some(spec));
    }

    #[test]
    fn names_can_be_typed() {
        let named = |name: &str| spec(Run { name: name.into(), ..run(&["x"]) }).map(|s| s.name);
        assert_eq!(named("a-b_c.9"), Ok("a-b_c.9".into()));
        assert_eq!(named(""), Ok("x".into()));
        for bad in ["a b", "a/b", "\u{e4}", "a\n", &"x".repeat(65)] {
            assert_eq!(named(bad), Err(BadSpec::Name), "{bad}");
        }
        assert_eq!(spec(run(&["\u{1b}[/"])).unwrap().name, "job");
    }

    #[test]
    fn what_cannot_be_a_job_is_refused() {
        assert_eq!(spec(run(&[])), Err(BadSpec::NoProgram));
        assert_eq!(spec(run(&["a\0b"])), Err(BadSpec::Nul));
        assert_eq!(spec(Run { version: 999, ..run(&["x"]) }), Err(BadSpec::Version(999)));
        let env = vec![Vec::new(); JOB_WORDS_MAX];
        assert_eq!(spec(Run { env, ..run(&["x"]) }), Err(BadSpec::TooMany));
    }
}
