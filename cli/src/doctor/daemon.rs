//! Whether krgd runs, whether its cluster agrees, and whether what it mounts answers.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use krg_rpc::proto::control::{ClusterReply, Node, StatusRequest};
use krg_types::limits::PROTOCOL_VERSION;

use super::check::{Check, Level};
use super::probe::{self, Outcome};
use crate::{daemon, text};

/// What krgd mounts when it starts.
pub struct Place {
    check: &'static str,
    path: &'static str,
}

const VIEW: Place = Place { check: "view", path: "/cluster/proc" };
const MFS: Place = Place { check: "mfs", path: "/mfs" };
const START: &str = "systemctl start krgd";
const DEADLINE: Duration = Duration::from_secs(1);
/// Clocks that differ by more are worth a word, ms.
const SKEW_MAX_MS: u64 = 300_000;
/// Certificates that end within this time are worth a word, seconds.
const EXPIRY_S: u64 = 7 * 86_400;

/// The checks of this file, on this machine.
pub fn checks() -> Vec<Check> {
    let connect = || UnixStream::connect(daemon::socket()).map(drop).map_err(|e| e.kind());
    let daemon = krgd(probe::within(DEADLINE, connect));
    let mounts = probe::text("/proc/self/mountinfo").unwrap_or_default();
    let runs = daemon.level == Level::Ok;
    let places = [VIEW, MFS].map(|at| {
        // A statfs of a dead or stuck mount may never come back, so another process asks.
        let question = ["stat", "--file-system", "--format=%T", at.path];
        let answer = mounted(&mounts, at.path).then(|| probe::command(&question, DEADLINE));
        place(&at, answer.as_ref(), runs)
    });
    let cluster = if runs { cluster() } else { Vec::new() };
    [daemon].into_iter().chain(cluster).chain(places).collect()
}

/// What krgd tells about its cluster; one that cannot tell says nothing about it.
fn cluster() -> Vec<Check> {
    let question = StatusRequest { version: PROTOCOL_VERSION };
    let nodes = daemon::ask(DEADLINE, async |mut krgd| krgd.status(question).await);
    let cluster = daemon::ask(DEADLINE, async |mut krgd| krgd.cluster_status(question).await);
    let mut checks = Vec::new();
    if let Ok(reply) = cluster {
        checks.push(agreement(&reply));
        checks.extend(certificates(&reply, text::now_s()));
    }
    if let Ok(reply) = nodes {
        checks.extend(clocks(&reply.nodes));
    }
    checks
}

/// Whether the nodes can agree on anything.
pub fn agreement(reply: &ClusterReply) -> Check {
    match (reply.leader, reply.waiting) {
        (_, true) => {
            let what = format!("the cluster starts when {} nodes are there", reply.nodes_min);
            Check::info("agreement", what, "")
        }
        (Some(leader), false) => {
            Check::ok("agreement", format!("node {leader} leads, term {}", reply.term))
        }
        (None, false) => {
            let since = reply.leader_age_ms.map(|ms| format!(" for {}", text::duration(ms)));
            let since = since.unwrap_or_default();
            let what = format!("no leader{since}: nothing can be agreed, reads are stale");
            Check::warn("agreement", what, "start the other voters (krg cluster status)")
        }
    }
}

/// Certificates that are about to end.
pub fn certificates(reply: &ClusterReply, now_s: u64) -> Vec<Check> {
    let near = |expires_s: u64| expires_s > 0 && expires_s < now_s.saturating_add(EXPIRY_S);
    let mut checks = Vec::new();
    if near(reply.certificate_expires_s) {
        let until = text::moment(reply.certificate_expires_s, now_s);
        let what = format!("this node's certificate is good until {until}");
        checks.push(Check::warn("certificate", what, "sudo krg cluster rotate-ca"));
    }
    for authority in reply.authorities.iter().filter(|a| near(a.expires_s)) {
        let short: String = authority.fingerprint.chars().take(16).collect();
        let until = text::moment(authority.expires_s, now_s);
        let what = format!("the authority {short} is good until {until}");
        checks.push(Check::warn("authority", what, "sudo krg cluster rotate-ca"));
    }
    checks
}

/// Nodes whose wall clock is far from this one's.
pub fn clocks(nodes: &[Node]) -> Vec<Check> {
    let far = |n: &&Node| n.skew_ms.unsigned_abs() > SKEW_MAX_MS;
    let check = |n: &Node| {
        let by = text::duration(n.skew_ms.unsigned_abs());
        let way = if n.skew_ms > 0 { "ahead of" } else { "behind" };
        let what = format!("the clock of node {} is {by} {way} this one", n.id);
        Check::warn("clock", what, "timedatectl set-ntp true (on both nodes)")
    };
    nodes.iter().filter(far).map(check).collect()
}

/// The daemon, from what connecting to its socket gave; `None` is no answer in time.
pub fn krgd(connected: Option<Result<(), ErrorKind>>) -> Check {
    const RESTART: &str = "systemctl restart krgd";
    match connected {
        Some(Ok(())) => Check::ok("krgd", format!("answers on {}", daemon::socket().display())),
        Some(Err(ErrorKind::NotFound)) => Check::warn("krgd", "does not run", START),
        Some(Err(ErrorKind::ConnectionRefused)) => {
            Check::warn("krgd", "ended and left its socket behind", START)
        }
        Some(Err(ErrorKind::PermissionDenied)) => {
            Check::warn("krgd", "its socket is not for this user", "sudo krg doctor")
        }
        Some(Err(kind)) => Check::warn("krgd", format!("does not answer: {kind}"), RESTART),
        None => Check::warn("krgd", "did not answer within 1 s", RESTART),
    }
}

/// Whether something is mounted at `path`, from the text of `/proc/self/mountinfo`.
pub fn mounted(mountinfo: &str, path: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

/// What krgd mounts there, from what a statfs of it gave; `None` is nothing mounted.
pub fn place(at: &Place, answer: Option<&Outcome>, daemon: bool) -> Check {
    let Place { check, path } = *at;
    let unmount = format!("umount -l {path}");
    match answer {
        Some(Outcome::Done(_)) => Check::ok(check, format!("{path} answers")),
        Some(Outcome::Failed(why)) => {
            let why = why.rsplit(": ").next().unwrap_or(why);
            Check::fail(check, format!("{path} is dead: {why}"), &unmount)
        }
        Some(Outcome::Late) => {
            Check::fail(check, format!("{path} did not answer within 1 s"), &unmount)
        }
        Some(Outcome::Absent) => {
            Check::info(check, "not asked: no stat command", "apt-get install coreutils")
        }
        None if daemon => Check::warn(
            check,
            format!("krgd runs but nothing is mounted at {path}"),
            &format!("systemctl restart krgd (see also [{check}] in /etc/krg/krg.toml)"),
        ),
        None => Check::info(check, format!("krgd mounts {path} when it starts"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::proto::control::Authority;

    #[test]
    fn a_daemon_that_is_not_there_differs_from_one_that_is_stuck() {
        assert_eq!(krgd(Some(Ok(()))).level, Level::Ok);
        assert_eq!(krgd(Some(Err(ErrorKind::NotFound))).mend, START);
        assert_eq!(krgd(Some(Err(ErrorKind::ConnectionRefused))).mend, START);
        assert_eq!(krgd(Some(Err(ErrorKind::PermissionDenied))).mend, "sudo krg doctor");
        assert!(krgd(None).mend.contains("restart"));
    }

    #[test]
    fn a_cluster_without_a_leader_is_told() {
        let reply = ClusterReply { term: 5, leader: Some(2), ..ClusterReply::default() };
        assert_eq!(agreement(&reply).level, Level::Ok);
        let lost = ClusterReply { leader: None, leader_age_ms: Some(12_300), ..reply.clone() };
        let check = agreement(&lost);
        assert_eq!(check.level, Level::Warn);
        assert!(check.what.starts_with("no leader for 12.3 s"), "{check:?}");
        let waiting = ClusterReply { leader: None, waiting: true, nodes_min: 3, ..reply };
        assert_eq!(agreement(&waiting).level, Level::Info);
    }

    #[test]
    fn clocks_and_certificates_are_told_in_time() {
        let node = |id, skew_ms| Node { id, skew_ms, ..Node::default() };
        let nodes = [node(1, 0), node(2, 300_000), node(3, 360_000), node(4, -360_000)];
        let whats: Vec<_> = clocks(&nodes).into_iter().map(|c| c.what).collect();
        assert_eq!(
            whats,
            [
                "the clock of node 3 is 6 min ahead of this one",
                "the clock of node 4 is 6 min behind this one"
            ]
        );
        assert_eq!(clocks(&[node(9, i64::MIN)]).len(), 1);
        let authority = |expires_s| Authority { expires_s, ..Authority::default() };
        let reply = ClusterReply {
            certificate_expires_s: 6 * 86_400,
            authorities: vec![authority(6 * 86_400), authority(8 * 86_400)],
            ..ClusterReply::default()
        };
        let checks: Vec<_> = certificates(&reply, 0).into_iter().map(|c| c.check).collect();
        assert_eq!(checks, ["certificate", "authority"]);
        assert!(certificates(&ClusterReply::default(), 0).is_empty(), "0 is not known");
    }

    #[test]
    fn only_the_very_mount_point_counts() {
        let text = "9 1 0:5 / /cluster/proc/nodes rw - fuse krg rw\n";
        assert!(!mounted(text, VIEW.path));
        let text = format!("{text}10 1 0:6 / /cluster/proc rw - fuse krg rw\n");
        assert!(mounted(&text, VIEW.path));
    }

    #[test]
    fn a_dead_view_fails_and_is_to_be_unmounted() {
        let dead = Outcome::Failed(
            "stat: cannot read file system information for '/cluster/proc': Transport endpoint \
             is not connected"
                .into(),
        );
        let check = place(&VIEW, Some(&dead), false);
        assert_eq!((check.level, &*check.mend), (Level::Fail, "umount -l /cluster/proc"));
        assert!(check.what.ends_with("dead: Transport endpoint is not connected"));
        assert_eq!(place(&VIEW, Some(&Outcome::Late), true).level, Level::Fail);
        assert_eq!(place(&VIEW, Some(&Outcome::Done("fuseblk".into())), true).level, Level::Ok);
        assert_eq!(place(&VIEW, None, true).level, Level::Warn);
        assert_eq!(place(&VIEW, None, false).level, Level::Info);
        let lacking = place(&MFS, None, true);
        assert!(lacking.what.contains("/mfs") && lacking.mend.contains("[mfs]"), "{lacking:?}");
    }
}
