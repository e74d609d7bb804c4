//! Man pages and completions, made from the command line's own description.

use super::{capset, ipc, jobs, kill, krgadm, krgcr, mosctl, openssi, setpe};
use crate::args::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::Path;

/// Writes the man pages of krg, its commands and its old names into a directory.
pub fn man(dir: &Path) -> Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut krg = Cli::command().disable_help_subcommand(true);
    krg.build();
    write(dir, &krg, "krg")?;
    let old = [
        krgadm::command(),
        setpe::command(),
        mosctl::command(),
        kill::where_pid_command(),
        crate::top::mon::command(),
        jobs::migrate_command(),
        capset::old_command(),
    ];
    let old = old.into_iter().chain(openssi::commands());
    for command in old.chain(krgcr::commands()).chain(ipc::commands()) {
        let name = command.get_name().to_owned();
        page(dir, command.disable_help_subcommand(true), &name)?;
    }
    for (name, text) in MORE {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(0)
}

/// The page of a command, and those of what it consists of: `krg-cluster-token-create`.
fn write(dir: &Path, command: &clap::Command, name: &str) -> Result<()> {
    page(dir, command.clone(), name)?;
    for part in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        write(dir, part, &format!("{name}-{}", part.get_name()))?;
    }
    Ok(())
}

fn page(dir: &Path, command: clap::Command, name: &str) -> Result<()> {
    let page = clap_mangen::Man::new(command.name(name.to_owned()));
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    Ok(())
}

/// Pages that are not made from clap's description.
const MORE: [(&str, &str); 4] = [
    ("krgd.8", include_str!("../../man/krgd.8")),
    ("krg-proc.5", include_str!("../../man/krg-proc.5")),
    ("mount.krgproc.8", include_str!("../../man/mount.krgproc.8")),
    ("mount.mfs.8", include_str!("../../man/mount.mfs.8")),
];

/// Prints completions.
pub fn completions(shell: clap_complete::Shell) -> Result<u8> {
    clap_complete::generate(shell, &mut Cli::command(), "krg", &mut std::io::stdout());
    Ok(0)
}
