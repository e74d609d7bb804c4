//! `krg doctor`: what this machine lacks, and for each lack the command that mends it.
//!
//! Every judgement is a pure function from what was captured (a file's text, an errno, the
//! outcome of a command) to a [`Check`]; [`collect`] captures and calls them in order.

mod check;
mod criu;
mod daemon;
mod files;
mod kernel;
mod machine;
mod network;
mod probe;
mod rights;
mod table;
mod tools;
mod trees;

use std::io::{IsTerminal, Write};

pub use check::{Check, Level};

/// Looks at the machine and prints what was found: a table, or with `json` an array.
///
/// Returns the exit code: 0 if nothing fails, 1 otherwise.
pub fn run(json: bool) -> anyhow::Result<u8> {
    let checks = collect();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checks)?)?;
    } else {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        write!(out, "{}", table::render(&checks, colour))?;
    }
    Ok(exit_code(&checks))
}

/// 1 as soon as one check fails; a fallback or a warning is none.
pub fn exit_code(checks: &[Check]) -> u8 {
    u8::from(checks.iter().any(|c| c.level == Level::Fail))
}

/// Every check on this machine, in the order of the table.
pub fn collect() -> Vec<Check> {
    let user = rights::User::parse(&probe::text("/proc/self/status").unwrap_or_default());
    let mask = kernel::Mask::from_env();
    let mut checks = kernel::checks(&mask);
    checks.extend(rights::checks(user, &mask));
    checks.extend(files::checks(user));
    checks.extend(trees::checks(user, &mask));
    checks.extend(network::checks(user));
    checks.extend(tools::checks());
    checks.extend(criu::checks(user));
    checks.extend(machine::checks());
    checks.extend(daemon::checks());
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_changes_the_exit_code() {
        let harmless = [
            Check::ok("a", "x"),
            Check::info("b", "x", ""),
            Check::warn("c", "x", "y"),
            Check::masked("d", "x"),
        ];
        assert_eq!(exit_code(&harmless), 0);
        assert_eq!(exit_code(&[Check::ok("a", "x"), Check::fail("b", "x", "y")]), 1);
    }

    #[test]
    fn this_machine_is_described_without_a_lack_that_has_no_mend() {
        let checks = collect();
        for check in checks.iter().filter(|c| matches!(c.level, Level::Warn | Level::Fail)) {
            assert!(!check.mend.is_empty(), "no mend for {check:?}");
        }
        let names: Vec<_> = checks.iter().map(|c| c.check.as_str()).collect();
        for wanted in [
            "kernel",
            "passthrough",
            "root",
            "fuse",
            "file-handles",
            "fanotify",
            "namespaces",
            "ip",
            "procps",
            "criu",
            "krgd",
            "view",
            "mfs",
        ] {
            assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
        }
    }

    #[test]
    fn json_has_the_columns_of_the_table() {
        let json = serde_json::to_value([Check::fail("fuse", "no /dev/fuse", "modprobe fuse")])
            .expect("a check is plain data");
        assert_eq!(json[0]["check"], "fuse");
        assert_eq!(json[0]["state"], "fail");
        assert_eq!(json[0]["what"], "no /dev/fuse");
        assert_eq!(json[0]["mend"], "modprobe fuse");
    }
}
