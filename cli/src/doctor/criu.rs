//! CRIU, without which jobs stay where they were started and nothing of them is saved.

use super::check::Check;
use super::probe;
use super::rights::User;
use krg_sys::criu::{self, MAJOR_MIN};
use std::path::PathBuf;
use std::time::Duration;

/// It looks at the kernel within this.
const CHECK_MAX: Duration = Duration::from_secs(10);
const GET: &str = "scripts/criu.sh /usr/local";

/// What was found on this machine.
pub struct Found {
    /// Where it is, and the version that it says.
    pub program: Option<(PathBuf, Option<String>)>,
    /// What it says of this kernel, if it was asked and has answered.
    pub check: Option<Result<(), String>>,
    /// May root raise the limits of processes here?
    pub raises_limits: bool,
}

/// The checks of this file, on this machine.
pub fn checks(user: User) -> Vec<Check> {
    let program = criu::find().map(|path| {
        let version = criu::version(&path);
        (path, version)
    });
    // For others than root it says little.
    let asked = program.as_ref().filter(|_| user.root).map(|(path, _)| path.clone());
    let check = asked.and_then(|path| probe::within(CHECK_MAX, move || criu::check(&path)));
    let raises_limits = krg_sys::cred::may_raise_limits();
    judge(&Found { program, check, raises_limits }, user.root)
}

/// One line, or two.
pub fn judge(found: &Found, is_root: bool) -> Vec<Check> {
    let without = "without it jobs run where they were started, and cannot be saved";
    let Some((path, version)) = &found.program else {
        return vec![Check::warn("criu", format!("there is none: {without}"), GET)];
    };
    let path = path.display();
    let Some(version) = version else {
        return vec![Check::warn("criu", format!("{path} cannot be run: {without}"), GET)];
    };
    if !criu::is_new_enough(version) {
        let what = format!("{path} is {version}, and {MAJOR_MIN} or newer is needed: {without}");
        return vec![Check::warn("criu", what, GET)];
    }
    let mut checks = vec![match &found.check {
        Some(Err(why)) => {
            let what = format!("{path}, {version}, lacks something of this kernel: {why}");
            Check::warn(
                "criu",
                what,
                "criu check -v4    (it names what the kernel is built without)",
            )
        }
        _ => Check::ok("criu", format!("{version}, {path}")),
    }];
    if is_root && !found.raises_limits {
        let what = "root may not raise limits here (CAP_SYS_RESOURCE): users' jobs are saved with \
                    their own rights, and pages are not sent lazily";
        checks.push(Check::info("criu-limits", what, ""));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    fn levels(program: Option<(&str, Option<&str>)>, check: Option<Result<(), String>>) -> Level {
        let program = program.map(|(p, v)| (PathBuf::from(p), v.map(str::to_owned)));
        judge(&Found { program, check, raises_limits: true }, true)[0].level
    }

    #[test]
    fn one_that_will_not_do_is_a_warning() {
        let criu = "/usr/sbin/criu";
        assert_eq!(levels(None, None), Level::Warn);
        assert_eq!(levels(Some((criu, None)), None), Level::Warn);
        assert_eq!(levels(Some((criu, Some("3.17"))), None), Level::Warn);
        assert_eq!(levels(Some((criu, Some("4.2"))), Some(Err("no".into()))), Level::Warn);
        assert_eq!(levels(Some((criu, Some("4.2"))), Some(Ok(()))), Level::Ok);
        let program = Some((criu.into(), Some("4.2".into())));
        let found = Found { program, check: None, raises_limits: false };
        assert_eq!(judge(&found, true)[1].level, Level::Info);
        assert_eq!(judge(&found, false).len(), 1);
    }
}
