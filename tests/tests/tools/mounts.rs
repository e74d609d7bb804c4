//! Mounts of the view where somebody wants one.

use super::cast::SOON;
use super::checks::Checks;
use krg_tests::{Lab, within};

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    lab.sh(1, "mkdir -p /mnt/x /mnt/y").ok();
    checks.check("mount and umount", || mount(lab));
    checks.check("umount of a busy one", || busy(lab));
    checks.check("mount on a mount", || twice(lab));
    checks.check("mount where nothing is", || nowhere(lab));
    checks.check("mount with a wrong option", || {
        let said = lab.sh(1, "mount -t krgproc -o krg-bogus none /mnt/x");
        assert!(said.code != 0 && said.err.contains("krg-bogus"), "{said:?}");
        assert_eq!(mounted(lab), 1, "only /cluster/proc");
    });
}

/// How many views are mounted in node 1.
#[track_caller]
fn mounted(lab: &Lab) -> usize {
    let mounts = lab.sh(1, "cat /proc/self/mounts").ok();
    mounts.lines().filter(|line| line.starts_with("krgproc ")).count()
}

/// How many processes of node 1 serve one.
#[track_caller]
fn servers(lab: &Lab) -> usize {
    lab.sh(1, "pgrep -x krg-mount").out.lines().count()
}

/// Nothing of it stays: no mount, no process.
#[track_caller]
fn gone(lab: &Lab) {
    within(SOON, || match (mounted(lab), servers(lab)) {
        (1, 1) => Ok(()),
        seen => Err(format!("mounts and processes: {seen:?}")),
    });
    assert_eq!(lab.sh(1, "ls -A /mnt/x").ok(), "");
}

fn mount(lab: &Lab) {
    lab.sh(1, "mount -t krgproc none /mnt/x").ok();
    assert_eq!((mounted(lab), servers(lab)), (2, 2));
    let listed = lab.sh(1, "ls /mnt/x").ok();
    for name in ["1", "4194305", "8388609", "12582913", "stat", "self", "nodes"] {
        assert!(listed.lines().any(|line| line == name), "{name} in {listed}");
    }
    let file = "nodes/nrnodes";
    let at = |root: &str| lab.sh(1, &format!("cat {root}/{file}")).ok();
    assert_eq!(at("/mnt/x"), at("/cluster/proc"));
    let said = lab.sh(1, "krg exec --view /mnt/x -- pgrep -c krg-init").ok();
    assert_eq!(said, "3\n", "krg exec takes another mount");
    lab.sh(1, "umount /mnt/x").ok();
    gone(lab);
}

fn busy(lab: &Lab) {
    lab.sh(1, "mount -t krgproc none /mnt/x").ok();
    let said = lab.sh(1, "export LC_ALL=C; cd /mnt/x && umount /mnt/x");
    assert!(said.code != 0 && said.err.contains("busy"), "{said:?}");
    assert!(lab.sh(1, "cat /mnt/x/stat").ok().starts_with("cpu "), "it works as before");
    let held = lab.sh(1, "export LC_ALL=C; exec 5</mnt/x/4194305/status; umount /mnt/x");
    assert!(held.code != 0 && held.err.contains("busy"), "an open file: {held:?}");
    lab.sh(1, "umount /mnt/x").ok();
    gone(lab);
}

fn twice(lab: &Lab) {
    lab.sh(1, "mount -t krgproc none /mnt/x").ok();
    let said = lab.sh(1, "mount -t krgproc none /mnt/x");
    assert!(said.code != 0 && said.err.contains("/mnt/x: busy"), "{said:?}");
    let own = lab.sh(1, "mount -t krgproc none /cluster/proc");
    assert!(own.code != 0 && own.err.contains("/cluster/proc: busy"), "{own:?}");
    // Elsewhere there may be a second one.
    lab.sh(1, "mount -t krgproc none /mnt/y").ok();
    assert_eq!(mounted(lab), 3);
    lab.sh(1, "umount /mnt/x && umount /mnt/y").ok();
    gone(lab);
}

fn nowhere(lab: &Lab) {
    for place in ["/mnt/krg-missing", "/etc/hostname"] {
        let said = lab.sh(1, &format!("mount -t krgproc none {place}"));
        assert!(said.code != 0 && said.err.contains(place), "{said:?}");
    }
    assert_eq!(lab.sh(1, "test -e /mnt/krg-missing").code, 1, "it is not made");
    gone(lab);
}
