//! What befalls a cluster of three while clients write on each of its nodes: one blow each, short
//! in the tests of every day and long in the soak.

use crate::load::Load;
use crate::talk::{ask, cluster, leader, path_in};
use crate::{LAB, Lab, can_run, krg, run, within};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The nodes.
pub const ALL: [u32; 3] = [1, 2, 3];
/// Writes go on within this once a majority is there.
pub const RESUMES: Duration = Duration::from_secs(5);
/// A node that was away has caught up within this.
pub const BACK: Duration = Duration::from_secs(20);

/// The other two.
pub fn others(node: u32) -> Vec<u32> {
    ALL.into_iter().filter(|n| *n != node).collect()
}

/// Somebody who does not lead.
pub fn follower(lab: &Lab) -> u32 {
    let leader = leader(lab, &ALL);
    others(leader)[0]
}

/// Undoes every fault, without waiting for what comes of it.
pub fn heal_all(lab: &Lab) {
    for node in ALL {
        run(krg().args(["lab", "heal", "--no-wait", "--name", &lab.name, &node.to_string()]))
            .ok();
    }
}

/// The node takes part, with everything that is agreed on.
#[track_caller]
pub fn caught_up(lab: &Lab, node: u32) {
    let others = others(node);
    within(BACK, || {
        let (there, here) = (cluster(lab, others[0])?, cluster(lab, node)?);
        let known = here.replicas.iter().any(|r| r.node == node);
        match !here.stale && here.applied >= there.applied && known {
            true => Ok(()),
            false => Err(format!("node {node}: {here:?}\nthe others: {there:?}")),
        }
    });
}

/// Whoever leads is killed, for so long: now its krgd, now all of the node.
pub fn leaders_die(lab: &Lab, how_long: Duration) {
    let load = Load::start(lab, &ALL);
    load.goes_on(RESUMES);
    let (begun, mut deaths) = (Instant::now(), 0);
    while begun.elapsed() < how_long {
        let victim = leader(lab, &ALL);
        match deaths % 2 {
            0 => drop(lab.sh(victim, "pkill -KILL -x krgd").ok()),
            _ => {
                lab.fault("kill", victim);
                load.goes_on(RESUMES);
                lab.fault("heal", victim);
            }
        }
        load.goes_on(RESUMES);
        caught_up(lab, victim);
        deaths += 1;
    }
    let sum = load.end(&ALL);
    println!("{deaths} leaders died: {sum:?}");
    assert!(sum.writes > 100 && deaths > 3, "{deaths} deaths, {sum:?}");
}

/// Sets a key on a node; the revision.
///
/// # Errors
/// In words.
pub fn set(lab: &Lab, node: u32, key: &str, value: &str, limit: Duration) -> Result<u64, String> {
    ask(lab, node, |talk| async move { Ok(talk.set(key, value, None, limit).await?.revision) })
}

/// One node loses its link, first a follower, then the leader.
pub fn a_minority_is_cut_off(lab: &Lab) {
    for victim in [follower(lab), leader(lab, &ALL)] {
        let load = Load::start(lab, &ALL);
        load.goes_on(RESUMES);
        lab.fault("cut", victim);
        let since = Instant::now();
        within(RESUMES, || {
            let said = lab.exec(victim, &["krg", "config", "list"]);
            match said.code == 0 && said.err.contains("stale") {
                true => Ok(()),
                false => Err(format!("{said:?}")),
            }
        });
        let refused = set(lab, victim, "minority", "x", Duration::from_secs(1));
        let words = refused.expect_err("a minority of one agrees with itself");
        assert!(words.contains("no majority"), "{words}");
        let read = lab.exec(victim, &["krg", "config", "get", "minority", "--linearizable"]);
        assert_eq!(read.code, 1, "{read:?}");
        load.goes_on(RESUMES);
        load.nothing_on(victim, since);
        lab.fault("heal", victim);
        caught_up(lab, victim);
        load.end(&ALL);
    }
}

/// The leader stands still until another leads.
pub fn the_leader_is_paused(lab: &Lab) {
    let load = Load::start(lab, &ALL);
    load.goes_on(RESUMES);
    let victim = leader(lab, &ALL);
    lab.fault("pause", victim);
    let next = within(RESUMES, || match leader(lab, &others(victim)) {
        node if node == victim => Err("the paused node leads".to_owned()),
        node => Ok(node),
    });
    load.goes_on(RESUMES);
    lab.fault("resume", victim);
    caught_up(lab, victim);
    load.goes_on(RESUMES);
    println!("node {victim} paused, then node {next} led: {:?}", load.end(&ALL));
}

/// A follower's disk is full, until there is room again.
pub fn a_disk_is_full(lab: &Lab) {
    let load = Load::start(lab, &ALL);
    let victim = follower(lab);
    load.goes_on(RESUMES);
    lab.fault("fill", victim);
    let value = "f".repeat(4000);
    within(Duration::from_secs(30), || {
        for n in 0..50 {
            set(lab, others(victim)[0], &format!("fill/{n}"), &value, RESUMES)?;
        }
        match set(lab, victim, "full", "x", Duration::from_secs(1)) {
            Err(_) => Ok(()),
            Ok(_) => Err("the disk is not full".to_owned()),
        }
    });
    let since = Instant::now();
    load.goes_on(RESUMES);
    load.nothing_on(victim, since);
    run(krg().args(["lab", "fill", "--undo", "--name", &lab.name, &victim.to_string()])).ok();
    caught_up(lab, victim);
    println!("a full disk: {:?}", load.end(&ALL));
}

/// A disk that answers nothing, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(lab: &Lab, node: u32) -> Frozen {
        let disk = path_in(&lab.name, node, "/var/lib/krg").expect("it is up");
        run(Command::new("fsfreeze").arg("--freeze").arg(&disk)).ok();
        Frozen(disk)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Nothing of the node would ever end on a frozen disk.
        let said = run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0));
        if said.code != 0 {
            eprintln!("{said:?}");
        }
    }
}

/// A disk says nothing any more, neither done nor failed: first a follower's, then the leader's.
pub fn a_disk_hangs(lab: &Lab) {
    for victim in [follower(lab), leader(lab, &ALL)] {
        let load = Load::start(lab, &ALL);
        load.goes_on(RESUMES);
        let led = leader(lab, &ALL);
        let frozen = Frozen::new(lab, victim);
        let gap = load.goes_on(RESUMES);
        let leads = within(RESUMES, || match leader(lab, &others(victim)) {
            node if node == victim => Err("it leads".to_owned()),
            node => Ok(node),
        });
        assert!(victim == led || leads == led, "node {leads} leads, and node {led} was well");
        load.goes_on(RESUMES);
        // It has missed a good deal by then.
        let value = "h".repeat(4000);
        for n in 0..200 {
            set(lab, leads, &format!("hangs/{n}"), &value, RESUMES).expect("a majority writes");
        }
        drop(frozen);
        caught_up(lab, victim);
        load.goes_on(RESUMES);
        println!(
            "the disk of node {victim} hung, writes went on in {gap:?}: {:?}",
            load.end(&ALL)
        );
    }
}

/// All nodes lose power at once.
pub fn the_power_fails(lab: &Lab) {
    let load = Load::start(lab, &ALL);
    load.goes_on(RESUMES);
    run(krg().args(["lab", "powercut", "--all", "--name", &lab.name])).ok();
    heal_all(lab);
    load.goes_on(BACK);
    println!("a power cut: {:?}", load.end(&ALL));
}

/// Three nodes that vote, for one test.
pub fn three(test: &str) -> Option<Lab> {
    if !can_run(test, &LAB) {
        return None;
    }
    let lab = Lab::start_with(3, &["--node-env", "KRG_LOG=info,fuser=error,openraft=warn"]);
    voters_become(&lab, 1, |r| count(r, "voter") == 3);
    Some(lab)
}

/// Each node's role, as one of them knows it.
///
/// # Errors
/// In words.
pub fn roles(lab: &Lab, from: u32) -> Result<BTreeMap<u32, String>, String> {
    Ok(cluster(lab, from)?.replicas.into_iter().map(|r| (r.node, r.role)).collect())
}

/// Returns when the roles are as wanted.
#[track_caller]
pub fn voters_become(lab: &Lab, from: u32, wanted: impl Fn(&BTreeMap<u32, String>) -> bool) {
    within(BACK, || match roles(lab, from)? {
        roles if wanted(&roles) => Ok(()),
        roles => Err(format!("{roles:?}")),
    });
}

/// How many have this role.
pub fn count(roles: &BTreeMap<u32, String>, role: &str) -> usize {
    roles.values().filter(|r| *r == role).count()
}
