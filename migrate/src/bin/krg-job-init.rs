//! A job's first process, and CRIU's hook: small, since it moves with every job.

use krg_migrate::helper;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    ExitCode::from(helper::hooked().unwrap_or_else(|| helper::run(&args)))
}
