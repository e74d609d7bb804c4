//! `mount -t krgproc none DIR`: the helper that mount(8) looks for.

use crate::daemon;
use anyhow::{Context, Result, bail};
use krg_sys::mount::top_at;
use std::ffi::OsString;
use std::path::Path;

/// What mount(8) hands to a helper: `SOURCE DIR [-sfnv] [-N ns] [-o options] [-t type]`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    names: Vec<OsString>,
    options: Vec<String>,
    /// Everything but the mount itself.
    fake: bool,
}

fn parse(args: &[OsString]) -> Result<Call> {
    let mut call = Call::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.to_str().unwrap_or_default() {
            "-o" => {
                let list = rest.next().context("-o needs options")?.to_string_lossy();
                call.options.extend(list.split(',').map(str::to_owned));
            }
            "-t" | "-N" => drop(rest.next()),
            flags if flags.len() > 1 && flags.starts_with('-') => {
                call.fake |= flags.contains('f');
            }
            _ => call.names.push(arg.clone()),
        }
    }
    Ok(call)
}

/// Options every mount may be given; the view is always nosuid, nodev, noexec and read only.
const KNOWN: [&str; 16] = [
    "rw", "ro", "defaults", "nosuid", "nodev", "noexec", "suid", "dev", "exec", "noauto",
    "nofail", "_netdev", "relatime", "noatime", "user", "nouser",
];

/// `mount.krgproc`.
pub fn mount(args: &[OsString]) -> Result<u8> {
    let call = parse(args)?;
    let [_source, dir] = call.names.as_slice() else {
        bail!("usage: mount -t krgproc none DIR [-o options]");
    };
    let known = |o: &&String| KNOWN.contains(&o.as_str()) || o.starts_with("x-") || o.is_empty();
    if let Some(unknown) = call.options.iter().find(|o| !known(o)) {
        bail!("unknown option `{unknown}`");
    }
    let dir = Path::new(dir);
    let path = std::fs::canonicalize(dir).with_context(|| {
        format!("{0}: no such directory (make it: mkdir -p {0})", dir.display())
    })?;
    if !call.fake {
        daemon::mount_proc(path.to_string_lossy().into_owned())?;
        if top_at(&path)?.is_none() {
            bail!("{}: mounted by krgd, which lives in another mount namespace", path.display());
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn reads_what_mount_hands_over() {
        let call = parse(&words("none /mnt -n -v -o rw,nosuid -t krgproc")).unwrap();
        assert_eq!(call.names, words("none /mnt"));
        assert_eq!(call.options, ["rw", "nosuid"]);
        assert!(!call.fake);
        assert!(parse(&words("none /mnt -fn")).unwrap().fake);
        assert!(parse(&words("none /mnt -o")).is_err());
    }
}
