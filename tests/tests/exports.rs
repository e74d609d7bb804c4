//! Which of a node's files the others have, and that this is changed while all of it runs. One lab
//! of two nodes: node 1 looks at what node 2 gives.

use krg_tests::{LAB, Lab, Said, bin_dir, can_run, run, within};
use std::process::Command;
use std::time::Duration;

/// A change of the configuration is on the other node within this.
const SOON: Duration = Duration::from_secs(3);
/// And what is mounted there is seen within this.
const MOUNTED: Duration = Duration::from_secs(1);

/// A line in a node, in English, that must not take long.
#[track_caller]
fn quick(lab: &Lab, node: u32, line: &str) -> Said {
    let said = lab.exec(node, &["timeout", "8", "bash", "-c", &format!("LC_ALL=C; {line}")]);
    assert_ne!(said.code, 124, "{line} hangs");
    said
}

/// Waits until a line on node 1 writes this, to either output.
#[track_caller]
fn says(lab: &Lab, limit: Duration, line: &str, words: &str) {
    within(limit, || match quick(lab, 1, line) {
        said if said.out.contains(words) || said.err.contains(words) => Ok(()),
        said => Err(format!("{line}: {said:?}")),
    });
}

#[track_caller]
fn set(lab: &Lab, key: &str, value: &str) {
    lab.exec(1, &["krg", "config", "set", key, value]).ok();
}

#[track_caller]
fn delete(lab: &Lab, key: &str) {
    lab.exec(1, &["krg", "config", "delete", key]).ok();
}

/// Everything that was agreed on exports is gone, and node 2 gives all it has.
#[track_caller]
fn as_before(lab: &Lab) {
    for line in quick(lab, 1, "krg config list mfs/").ok().lines() {
        delete(lab, line.split(' ').nth(1).expect("a key"));
    }
    says(lab, SOON, "touch /mfs/2/data/before && cat /mfs/2/data/f", "inside\n");
}

#[test]
fn exports_are_changed_while_they_are_used() {
    if !can_run("exports_are_changed_while_they_are_used", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    let files = "mkdir -p /srv/a /data /mnt/t /mnt/d; echo served > /srv/a/f; \
                 echo inside > /data/f; echo 2 > /node; chmod 1777 /data";
    quick(&lab, 2, files).ok();
    for (name, step) in [
        ("read_only", nothing_can_be_changed as fn(&Lab)),
        ("root_squash", root_is_somebody_else),
        ("deny", what_is_denied_is_not_seen),
        ("export", one_directory_is_all_there_is),
        ("off", files_that_are_open_are_there_again),
        ("mounts", what_is_mounted_comes_and_goes),
        ("bad values", bad_values_are_refused_with_words),
        ("bad values that are there", bad_values_change_nothing),
        ("krgd restarts", krgd_is_followed_again),
    ] {
        eprintln!("{name}");
        step(&lab);
        as_before(&lab);
    }
}

fn nothing_can_be_changed(lab: &Lab) {
    says(lab, SOON, "touch /mfs/2/data/w && echo made", "made");
    set(lab, "mfs/read_only", "true");
    says(lab, SOON, "touch /mfs/2/data/w", "Read-only file system");
    for line in [
        "echo x > /mfs/2/data/n",
        "echo x >> /mfs/2/data/w",
        "rm /mfs/2/data/w",
        "mkdir /mfs/2/data/d",
        "mv /mfs/2/data/w /mfs/2/data/v",
        "ln -s x /mfs/2/data/l",
        "chmod 600 /mfs/2/data/w",
        "truncate -s 0 /mfs/2/data/w",
    ] {
        let said = quick(lab, 1, line);
        assert!(said.code != 0 && said.err.contains("Read-only"), "{line}: {said:?}");
    }
    assert_eq!(quick(lab, 1, "cat /mfs/2/data/f; ls /mfs/2/data").ok(), "inside\nf\nw\n");
    // The own node's tree is like that too; and what is for one node goes before what is for all.
    let own = quick(lab, 2, "touch /mfs/2/data/own; echo x > /data/own");
    assert!(own.err.contains("Read-only") && own.code == 0, "{own:?}");
    set(lab, "mfs/2/read_only", "false");
    says(lab, SOON, "rm /mfs/2/data/own && echo done", "done");
    // Who has a file open to write it hears of it when it writes.
    let line = "exec 6>> /mfs/2/data/w; echo one >&6; krg config set mfs/2/read_only true; \
                until ! touch /mfs/2/data/w 2>/dev/null; do :; done; /bin/echo two >&6";
    let said = quick(lab, 1, line);
    assert!(said.code != 0 && said.err.contains("echo: write error: Read-only"), "{said:?}");
    assert_eq!(quick(lab, 1, "cat /mfs/2/data/w").ok(), "one\n");
}

fn root_is_somebody_else(lab: &Lab) {
    says(lab, SOON, "grep -c root: /mfs/2/etc/shadow", "1");
    set(lab, "mfs/2/root_squash", "true");
    says(lab, SOON, "cat /mfs/2/etc/shadow", "Permission denied");
    let made =
        quick(lab, 1, "echo mine > /mfs/2/data/s; stat -c %u:%g /mfs/2/data/s; cat /mfs/2/node");
    assert_eq!(made.ok(), "65534:65534\n2\n");
    assert_eq!(quick(lab, 2, "stat -c %u:%g /data/s").ok(), "65534:65534\n");
    for line in ["chown 0 /mfs/2/data/s", "rm /mfs/2/data/f", "touch /mfs/2/root-was-here"] {
        let said = quick(lab, 1, line);
        assert!(said.code != 0 && said.err.contains("ermi"), "{line}: {said:?}");
    }
    // Nobody else is squashed, and root at home is root.
    let games = "setpriv --reuid=5 --regid=60 --clear-groups touch /mfs/2/data/g; \
                 stat -c %u:%g /mfs/2/data/g";
    assert_eq!(quick(lab, 1, games).ok(), "5:60\n");
    assert_eq!(quick(lab, 2, "grep -c root: /mfs/2/etc/shadow").ok(), "1\n");
    set(lab, "mfs/2/root_squash", "7:8");
    says(lab, SOON, "f=/mfs/2/data/z$$; touch $f; stat -c %u:%g $f", "7:8");
}

fn what_is_denied_is_not_seen(lab: &Lab) {
    // The daemon's own directories are to nobody, whatever is said.
    let own = "ls -A /mfs/2/var/lib/krg /mfs/2/run/krg; stat -c %a /mfs/2/var/lib/krg";
    assert_eq!(quick(lab, 1, own).ok(), "/mfs/2/run/krg:\n\n/mfs/2/var/lib/krg:\n0\n");
    assert_eq!(quick(lab, 2, own).ok(), "/mfs/2/run/krg:\n\n/mfs/2/var/lib/krg:\n0\n");
    let line = "cd /mfs/2/data && cat f && krg config set mfs/2/deny /data:/srv/a && \
                until ! cat f >/dev/null 2>&1; do :; done; cat f; \
                ls -A /mfs/2/data /mfs/2/srv/a; cat /mfs/2/data/f";
    let said = quick(lab, 1, line);
    assert!(said.out.ends_with("/mfs/2/data:\n\n/mfs/2/srv/a:\n"), "{said:?}");
    assert!(said.err.ends_with("/mfs/2/data/f: No such file or directory\n"), "{said:?}");
    assert!(said.err.contains("cat: f: Stale file handle"), "the old way in is closed: {said:?}");
    let nobody = "setpriv --reuid=5 --clear-groups ls /mfs/2/data";
    assert!(quick(lab, 1, nobody).err.contains("Permission denied"));
    assert_eq!(quick(lab, 2, "cat /data/f; ls -A /mfs/2/data").ok(), "inside\n");
    // What is not there yet, and what takes the place of another.
    set(lab, "mfs/2/deny", "/data/later:/data/x/y/z:/srv/a");
    says(lab, SOON, "cat /mfs/2/data/f", "inside\n");
    let early = "cd /mfs/2/data; mkdir later; touch later; ls later";
    let said = quick(lab, 1, early);
    assert_eq!(said.err.matches("Permission denied").count(), 2, "{said:?}");
    let made = "mkdir -p /data/later /data/x/y/z; echo secret | tee /data/later/f /data/x/y/z/f; \
                rm -r /srv/a; mkdir /srv/a; echo served > /srv/a/f";
    quick(lab, 2, made).ok();
    assert_eq!(quick(lab, 1, "cat /mfs/2/data/later/f /mfs/2/srv/a/f").out, "");
    says(lab, SOON, "stat -c %A /mfs/2/data/x/y/z", "d---------");
    let all = "ls -lR /mfs/2/data /mfs/2/srv; cat /mfs/2/data/x/y/z/f /mfs/2/data/later/f";
    let said = quick(lab, 1, all);
    assert_eq!(said.out.matches("d---------").count(), 3, "{said:?}");
    assert!(!said.out.contains("secret") && !said.out.contains(" f\n\n"), "{said:?}");
}

fn one_directory_is_all_there_is(lab: &Lab) {
    let line = "exec 5< /mfs/2/data/f; head -c 2 <&5; krg config set mfs/2/export /srv >&2; \
                until cat /mfs/2/a/f 2>/dev/null; do :; done; ls -A /mfs/2; cat <&5";
    let said = quick(lab, 1, line).ok();
    assert_eq!(said, "inserved\na\nside\n", "what is open stays open");
    for path in ["data/f", "node", "srv", "../data/f", "a/../../data/f"] {
        assert_ne!(quick(lab, 1, &format!("cat /mfs/2/{path}")).code, 0, "{path}");
    }
    assert_eq!(quick(lab, 2, "ls -A /mfs/2; cat /mfs/2/a/f").ok(), "a\nserved\n");
    // Changes in the new root are told as they were in the old one.
    quick(lab, 1, "ls /mfs/2; cat /mfs/2/new");
    quick(lab, 2, "echo new > /srv/new").ok();
    says(lab, MOUNTED, "cat /mfs/2/new", "new\n");
    quick(lab, 2, "rm /srv/new").ok();
    says(lab, MOUNTED, "cat /mfs/2/new", "No such file");
    // It is the directory that has the name, not the one that had it.
    quick(lab, 2, "mkdir /pub; echo 1 > /pub/one").ok();
    set(lab, "mfs/2/export", "/pub");
    says(lab, SOON, "cat /mfs/2/one", "1\n");
    quick(lab, 2, "mv /pub /pub.old; mkdir /pub; echo 2 > /pub/two").ok();
    says(lab, SOON, "cat /mfs/2/two", "2\n");
    assert_eq!(quick(lab, 1, "ls /mfs/2").ok(), "two\n");
}

fn files_that_are_open_are_there_again(lab: &Lab) {
    let line = "exec 5< /mfs/2/data/f 6> /mfs/2/data/w; head -c 2 <&5; /bin/echo one >&6; \
                krg config set mfs/2/off true >&2; \
                until ! cat /mfs/2/node >/dev/null 2>&1; do :; done; \
                cat <&5; /bin/echo two >&6; ls -ld /mfs/2; ls /mfs/2; \
                krg config set mfs/2/off false >&2; \
                until cat /mfs/2/node 2>/dev/null; do :; done; \
                cat <&5; /bin/echo three >&6; cat /mfs/2/data/w";
    let said = quick(lab, 1, line);
    let lines: Vec<&str> = said.out.lines().filter(|l| *l != "2").collect();
    assert_eq!(lines.len(), 4, "{said:?}");
    assert!(lines[0].starts_with("ind---------"), "{said:?}");
    assert_eq!(lines[1..], ["side", "one", "three"], "{said:?}");
    assert!(!said.err.contains("ls: /mfs/2: Perm"), "`ls -ld` has no complaint: {said:?}");
    for words in ["cat: -: Permission denied", "write error: Permission denied", "'/mfs/2': Perm"]
    {
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    // As MOSIX says it, there; and whoever comes only now.
    quick(lab, 2, "mosctl nomfs").ok();
    says(lab, SOON, "cat /mfs/2/node", "Permission denied");
    quick(lab, 1, "umount -l /mfs/2").ok();
    says(lab, SOON, "cat /mfs/2/node", "Permission denied");
    assert_eq!(quick(lab, 2, "cat /mfs/2/node; ls /mfs/1 | grep -x etc").ok(), "2\netc\n");
    quick(lab, 2, "mosctl mfs").ok();
    says(lab, SOON, "cat /mfs/2/node", "2\n");
}

/// The mount namespace of node 2's tree as it is made now.
fn tree_of(lab: &Lab) -> String {
    let fds = "readlink /proc/$(pgrep -x krg-files)/fd/* | grep mnt: | sort -u";
    quick(lab, 2, fds).ok()
}

fn what_is_mounted_comes_and_goes(lab: &Lab) {
    // On both: the own node's tree is made by another process.
    let both = |words: &str, line: &str| {
        says(lab, MOUNTED, line, words);
        within(MOUNTED, || match quick(lab, 2, line) {
            said if said.out.contains(words) || said.err.contains(words) => Ok(()),
            said => Err(format!("{said:?}")),
        });
    };
    both("No such file", "cat /mfs/2/mnt/t/x");
    let before = tree_of(lab);
    quick(lab, 2, "mount -t tmpfs none /mnt/t && echo tmp > /mnt/t/x").ok();
    both("tmp\n", "cat /mfs/2/mnt/t/x");
    let after = tree_of(lab);
    assert_ne!(before, after);
    assert_eq!(after.lines().count(), 1, "the old one is let go of: {after}");
    // What shows no files is no reason to make it again.
    let views = "mkdir -p /mnt/p; mount -t proc none /mnt/p; umount /mnt/p; \
                 umount -l /mfs/1; cat /mfs/1/etc/hostname";
    assert_eq!(quick(lab, 2, views).ok(), "node1\n");
    assert_eq!(tree_of(lab), after);
    quick(lab, 2, "umount /mnt/t").ok();
    both("No such file", "cat /mfs/2/mnt/t/x");
    // A disk: nobody holds it when it was unmounted, and who has a file open keeps it.
    let disk = "truncate -s 8M /img && mkfs.ext4 -q /img && mount -o loop /img /mnt/d && \
                echo disk > /mnt/d/f";
    quick(lab, 2, disk).ok();
    both("disk\n", "cat /mfs/2/mnt/d/f");
    let hold = "exec 5< /mfs/2/mnt/d/f; touch /held; until test -e /let-go; do sleep 0.1; done";
    lab.background(1, hold);
    says(lab, SOON, "ls /held", "/held");
    quick(lab, 2, "umount /mnt/d").ok();
    both("No such file", "cat /mfs/2/mnt/d/f");
    assert_ne!(quick(lab, 2, "losetup -j /img").ok(), "", "a client has a file of it open");
    quick(lab, 1, "touch /let-go").ok();
    within(2 * MOUNTED, || match quick(lab, 2, "losetup -j /img").out {
        out if out.is_empty() => Ok(()),
        out => Err(out),
    });
}

fn bad_values_are_refused_with_words(lab: &Lab) {
    for (key, value, words) in [
        ("mfs/exprot", "/srv", "KEY is one of export, read_only, root_squash, deny, nested, off"),
        ("mfs/2/mount", "/x", "mfs/N/KEY for node N"),
        ("mfs/256/off", "true", "there is no such setting"),
        ("mfs/2/off", "yes", "it takes true or false"),
        ("mfs/2/root_squash", "nobody", "it takes true, false or UID:GID"),
        ("mfs/2/root_squash", "0:0", "not root's"),
        ("mfs/2/deny", "data", "it takes absolute paths"),
        ("mfs/2/export", "../srv", "it takes an absolute path"),
        ("mfs/1/export", "/gone", "no such directory on this node"),
        ("mfs/1/export", "/node", "no such directory on this node"),
        ("mfs/1/export", "/var/lib/krg/identity", "krgd's own"),
        ("mfs/deny", "/", "covers all of export"),
    ] {
        let said = lab.exec(1, &["krg", "config", "set", key, value]);
        assert!(said.code == 1 && said.err.contains(words), "{key} = {value}: {said:?}");
    }
    assert_eq!(quick(lab, 1, "krg config list mfs/").ok(), "");
}

fn bad_values_change_nothing(lab: &Lab) {
    // Only node 2 can tell that it is bad.
    set(lab, "mfs/2/read_only", "true");
    says(lab, SOON, "touch /mfs/2/data/f", "Read-only");
    set(lab, "mfs/2/export", "/gone");
    within(SOON, || match quick(lab, 2, "grep -c '/gone' /var/log/krgd.log").code {
        0 => Ok(()),
        _ => Err("not in the log".into()),
    });
    assert_eq!(quick(lab, 1, "cat /mfs/2/data/f").ok(), "inside\n");
    assert!(quick(lab, 1, "touch /mfs/2/data/f").err.contains("Read-only"), "the last good ones");
    // A server that starts has no last good ones: it shows nothing until it can do as told.
    quick(lab, 2, "pkill -KILL -x krg-files").ok();
    says(lab, SOON, "ls /mfs/2", "Permission denied");
    quick(lab, 2, "mkdir /gone; echo there > /gone/f").ok();
    says(lab, SOON, "cat /mfs/2/f", "there\n");
}

fn krgd_is_followed_again(lab: &Lab) {
    let files = quick(lab, 2, "pgrep -x krg-files").ok();
    quick(lab, 2, "pkill -KILL -x krgd").ok();
    set(lab, "mfs/2/read_only", "true");
    says(lab, 3 * SOON, "touch /mfs/2/data/f", "Read-only");
    assert_eq!(quick(lab, 2, "pgrep -x krg-files").ok(), files);
}

#[test]
fn the_file_is_checked_and_printed() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("krg.toml");
    let check = |mfs: &str| {
        std::fs::write(&file, format!("[mfs]\n{mfs}\n")).expect("it is written");
        let mut krgd = Command::new(bin_dir().join("krgd"));
        run(krgd.arg("--check").arg("--config").arg(&file))
    };
    let text = check("export = \"/usr\"\ndeny = [\"/usr/src\"]\nroot_squash = \"7:8\"").ok();
    for line in [
        "export = \"/usr\"",
        "read_only = false",
        "root_squash = \"7:8\"",
        "deny = [\"/usr/src\"]",
        "nested = true",
        "off = false",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    for (mfs, words) in [
        ("export = \"/krg-not-there\"", "no such directory"),
        ("export = \"usr\"", "absolute path"),
        ("export = \"/usr\"\ndeny = [\"/usr\"]", "covers all of export"),
        ("deny = [\"etc\"]", "absolute path"),
        ("read_only = 1", "boolean"),
        ("root_squash = 1", "UID:GID"),
        ("exprot = \"/\"", "export"),
    ] {
        let said = check(mfs);
        assert!(said.code == 1 && said.err.contains(words), "{mfs}: {said:?}");
    }
}
