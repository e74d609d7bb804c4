//! krg: one program for all commands, and for the old names of them.

mod args;
mod cmd;
mod daemon;
mod doctor;
mod session;
mod table;
mod text;
mod top;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    restore_sigpipe();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let name = argv.first().map(Path::new).and_then(Path::file_name).unwrap_or(OsStr::new("krg"));
    let name = name.to_string_lossy().into_owned();
    let result = match name.as_str() {
        "krgadm" => cmd::krgadm::run(argv),
        "setpe" => cmd::setpe::run(argv),
        "mosctl" => cmd::mosctl::run(argv),
        "clusternode_num" => cmd::openssi::num(argv),
        "clusternode_getstate" => cmd::openssi::get_state(argv),
        "clustername" => cmd::openssi::name(argv),
        "krgcapset" | "krg_capset" => cmd::capset::old_run(argv),
        "migrate" => cmd::jobs::old_migrate(argv),
        "krgcr-run" => cmd::krgcr::run(argv),
        "checkpoint" => cmd::krgcr::checkpoint(argv),
        "restart" => cmd::krgcr::restart(argv),
        "ipccheckpoint" => cmd::ipc::checkpoint(argv),
        "ipcrestart" => cmd::ipc::restart(argv),
        "mtop" => cmd::mtop(argv),
        "mosmon" | "mon" => top::mon::run(argv),
        "where_pid" => cmd::kill::where_pid(argv),
        "ssi-start" | "ssi-stop" => cmd::lab::run(&name, &argv[1..]),
        "mount.krgproc" => cmd::mount_helper::mount(&argv[1..]),
        "mount.mfs" => cmd::mount_helper::mount_mfs(&argv[1..]),
        "umount.fuse.krgmfs" => cmd::mount_helper::umount_mfs(&argv[1..]),
        // The rest of the commands need not be described for it.
        _ if argv.get(1).is_some_and(|word| word == "ps") => cmd::ps::run(&argv[2..]),
        _ => cmd::run(argv),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("{name}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// `krg nodes status | head -1` ends quietly, as other tools do, not with a panic.
fn restore_sigpipe() {
    krg_sys::process::default_sigpipe();
}
