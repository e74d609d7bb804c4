//! CRIU, the program that saves and brings back processes: where it is on this machine, and which
//! it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says where it is.
pub const VARIABLE: &str = "KRG_CRIU";
/// The oldest that has all that is used of it (`--stream`, and what the hooks rely on).
pub const MAJOR_MIN: u32 = 4;

/// The environment's word, beside this program, or where packages and `make install` put it.
pub fn find() -> Option<PathBuf> {
    let said = std::env::var_os(VARIABLE).map(PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let dir = exe.parent()?;
        let installed = Some(dir.join("criu"));
        let built = dir.parent().map(|target| target.join("tools/sbin/criu"));
        [installed, built].into_iter().flatten().find(|path| path.is_file())
    });
    let usual = [
        "/usr/local/lib/krg/criu",
        "/usr/lib/krg/criu",
        "/usr/sbin/criu",
        "/usr/local/sbin/criu",
        "/usr/bin/criu",
    ];
    let usual = usual.into_iter().map(PathBuf::from).find(|path| path.is_file());
    said.or(beside).or(usual)
}

/// As it says it, if it can be run: `4.2.1`.
pub fn version(program: &Path) -> Option<String> {
    let told = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Version:"))?;
    Some(line.trim().to_owned())
}

/// Is it one that will do?
pub fn is_new_enough(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= MAJOR_MIN)
}

/// What it says of this kernel (`criu check`): an error in its words.
///
/// # Errors
/// Its last words, when it lacks something.
pub fn check(program: &Path) -> Result<(), String> {
    let told = Command::new(program).args(["check"]).stdin(Stdio::null()).output();
    let told = told.map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    match told.status.success() {
        true => Ok(()),
        false => Err(said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it fails").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn old_versions_are_not_enough() {
        assert!(is_new_enough("4.2.1") && is_new_enough("10.0"));
        assert!(!is_new_enough("3.17.1") && !is_new_enough("") && !is_new_enough("x"));
    }
}
