//! Who asks, and which namespaces there are.

use super::check::Check;
use super::kernel::Mask;
use super::probe;
use krg_sys::caller::effective_uid;

/// The capability CAP_SYS_ADMIN, as a bit of the mask in `/proc/self/status`.
const CAP_SYS_ADMIN: u32 = 21;

/// The user that runs the doctor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The effective user id is 0.
    pub root: bool,
    /// CAP_SYS_ADMIN is effective.
    pub admin: bool,
}

impl User {
    /// From the text of `/proc/self/status`.
    pub fn parse(status: &str) -> Self {
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let caps = u64::from_str_radix(caps.unwrap_or_default().trim(), 16).unwrap_or(0);
        let root = effective_uid(status) == Some(0);
        User { root, admin: caps >> CAP_SYS_ADMIN & 1 == 1 }
    }
}

/// The checks of this file, on this machine.
pub fn checks(user: User, mask: &Mask) -> Vec<Check> {
    let has = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).is_ok();
    let setting = |path: &str| probe::text(format!("/proc/sys/{path}"));
    let limits = UserLimits {
        max: number(setting("user/max_user_namespaces")),
        clone: number(setting("kernel/unprivileged_userns_clone")),
        apparmor: number(setting("kernel/apparmor_restrict_unprivileged_userns")),
    };
    vec![
        privilege(user),
        namespaces(has),
        time(has("time"), mask),
        user_namespaces(has("user"), &limits),
    ]
}

/// Daemon, mounts and lab need root, or at least CAP_SYS_ADMIN.
pub fn privilege(user: User) -> Check {
    match (user.admin, user.root) {
        (true, true) => Check::ok("root", "root with CAP_SYS_ADMIN"),
        (true, false) => Check::ok("root", "not root, but with CAP_SYS_ADMIN"),
        (false, true) => Check::fail(
            "root",
            "root without CAP_SYS_ADMIN (a container?): no mounts, no namespaces",
            "run the container with --privileged or --cap-add SYS_ADMIN",
        ),
        (false, false) => Check::warn(
            "root",
            "an ordinary user: krgd and the lab need root, krg ps does not",
            "sudo krg doctor",
        ),
    }
}

/// The namespaces a session and a node of the lab are made of.
pub fn namespaces(has: impl Fn(&str) -> bool) -> Check {
    let missing: Vec<_> =
        ["pid", "net", "mnt", "uts", "ipc"].into_iter().filter(|ns| !has(ns)).collect();
    if missing.is_empty() {
        return Check::ok("namespaces", "pid net mnt uts ipc");
    }
    let what = format!("the kernel is built without namespaces: {}", missing.join(" "));
    Check::fail("namespaces", what, "apt-get install linux-image-amd64 && reboot")
}

/// Time namespaces give the nodes of a lab clocks that differ.
pub fn time(present: bool, mask: &Mask) -> Check {
    const NAME: &str = "time-namespaces";
    const FALLBACK: &str = "instead all nodes of a lab show one clock";
    match (present, mask.hides("timens")) {
        (true, false) => Check::ok(NAME, "nodes of a lab have clocks of their own"),
        (true, true) => Check::masked(NAME, format!("hidden by KRG_MASK; {FALLBACK}")),
        (false, _) => Check::info(NAME, format!("absent; {FALLBACK}"), ""),
    }
}

/// What may keep a user from making namespaces.
#[derive(Debug, Default)]
pub struct UserLimits {
    /// `user.max_user_namespaces`.
    pub max: Option<u64>,
    /// `kernel.unprivileged_userns_clone` (Debian and its kin).
    pub clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu).
    pub apparmor: Option<u64>,
}

/// With user namespaces `krg ps` needs no root.
pub fn user_namespaces(present: bool, limits: &UserLimits) -> Check {
    const NAME: &str = "user-namespaces";
    let warn = |why: &str, mend| {
        Check::warn(NAME, format!("{why}: krg ps and krg exec need root"), mend)
    };
    if !present {
        return Check::info(NAME, "absent; instead krg ps and krg exec need root", "");
    }
    if limits.max == Some(0) {
        return warn("none is allowed", "sysctl -w user.max_user_namespaces=15000");
    }
    if limits.clone == Some(0) {
        return warn("not for users", "sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if limits.apparmor.is_some_and(|value| value != 0) {
        let mend = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
        return warn("AppArmor forbids them", mend);
    }
    Check::ok(NAME, "krg ps and krg exec need no root")
}

fn number(text: Option<String>) -> Option<u64> {
    text?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn the_user_is_read_from_status() {
        let root = "Name:\tkrg\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";
        assert_eq!(User::parse(root), User { root: true, admin: true });
        let docker = "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n";
        assert_eq!(User::parse(docker), User { root: true, admin: false });
        let user = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
        assert_eq!(User::parse(user), User::default());
        assert_eq!(User::parse(""), User::default());
    }

    #[test]
    fn a_container_without_the_capability_fails_and_a_user_is_warned() {
        assert_eq!(privilege(User { root: true, admin: true }).level, Level::Ok);
        assert_eq!(privilege(User { root: true, admin: false }).level, Level::Fail);
        assert_eq!(privilege(User::default()).level, Level::Warn);
    }

    #[test]
    fn a_missing_namespace_is_named() {
        assert_eq!(namespaces(|_| true).level, Level::Ok);
        let check = namespaces(|ns| ns != "ipc" && ns != "net");
        assert_eq!(check.level, Level::Fail);
        assert!(check.what.ends_with("net ipc"), "{}", check.what);
    }

    #[test]
    fn a_hidden_clock_differs_from_an_absent_one() {
        let level = |present, mask| time(present, &Mask::parse(mask)).level;
        assert_eq!(level(true, ""), Level::Ok);
        assert_eq!(level(true, "mountapi,timens"), Level::Masked);
        assert_eq!(level(false, "all"), Level::Info);
    }

    #[test]
    fn each_lock_on_user_namespaces_has_its_own_key() {
        let open = UserLimits { max: Some(100), clone: Some(1), apparmor: Some(0) };
        assert_eq!(user_namespaces(true, &open).level, Level::Ok);
        assert_eq!(user_namespaces(true, &UserLimits::default()).level, Level::Ok);
        assert_eq!(user_namespaces(false, &open).level, Level::Info);
        let mend = |limits| user_namespaces(true, &limits).mend;
        assert!(mend(UserLimits { max: Some(0), ..open }).contains("max_user_namespaces"));
        assert!(mend(UserLimits { clone: Some(0), max: None, apparmor: None }).contains("clone"));
        let ubuntu = UserLimits { apparmor: Some(1), max: None, clone: None };
        assert!(mend(ubuntu).contains("apparmor"));
    }
}
