//! What the nodes agree on stays agreed on, whatever dies: clients write, watch and read on every
//! node of a lab meanwhile, and what they were told has to hold.

use krg_tests::load::Load;
use krg_tests::storms::{
    ALL, BACK, RESUMES, a_disk_hangs, a_disk_is_full, a_minority_is_cut_off, caught_up, count,
    follower, heal_all, leaders_die, others, roles, set, the_leader_is_paused, the_power_fails,
    three, voters_become,
};
use krg_tests::talk::{ask, cluster, leader, path_in};
use krg_tests::{LAB, Lab, Said, can_run, within};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the leader is killed again and again.
const KILLING: Duration = Duration::from_secs(30);

/// A follower's store does not verify any more, then it is gone.
fn a_store_is_lost(lab: &Lab) {
    let damage = "for f in /var/lib/krg/meta/[0-9]*/journal /var/lib/krg/meta/[0-9]*/store/db; do \
                  size=$(stat -c %s $f); dd if=/dev/urandom of=$f bs=1024 seek=1 \
                  count=$((size / 1024 - 1)) conv=notrunc || exit; done";
    for (line, quarantined) in [(damage, true), ("rm -r /var/lib/krg/meta/[0-9]*", false)] {
        let load = Load::start(lab, &ALL);
        load.goes_on(RESUMES);
        let victim = follower(lab);
        let before = cluster(lab, victim).unwrap();
        lab.stop_krgd(victim);
        lab.sh(victim, line).ok();
        lab.fault("heal", victim);
        caught_up(lab, victim);
        let after = cluster(lab, victim).unwrap();
        assert_eq!(after.node, before.node);
        assert_ne!(after.member, before.member, "it came back under its old vote");
        let status = lab.exec(victim, &["krg", "cluster", "status"]);
        let said = format!("{}{}", status.out, status.err);
        assert_eq!(said.contains("did not verify"), quarantined, "{said}");
        assert_eq!(!after.quarantined.is_empty(), quarantined, "{after:?}");
        if quarantined {
            lab.sh(victim, &format!("test -e {}", after.quarantined)).ok();
            lab.sh(victim, &format!("rm -r {}", after.quarantined)).ok();
        }
        // The vote that was lost is nobody's any more.
        within(BACK, || {
            let list = cluster(lab, others(victim)[0])?.replicas;
            match list.iter().all(|r| r.member != before.member) && list.len() == 3 {
                true => Ok(()),
                false => Err(format!("{list:?}")),
            }
        });
        load.end(&ALL);
    }
}

fn backup_and_restore(lab: &Lab) {
    let krg = |line: &str| lab.sh(1, &format!("krg {line}"));
    krg("config set kept/a one").ok();
    krg("config set kept/b two").ok();
    lab.sh(1, "cd /root && umask 0 && krg meta backup backup").ok();
    assert_eq!(lab.sh(1, "stat -c %a /root/backup").ok(), "600\n");
    krg("config set kept/a other").ok();
    krg("config delete kept/b").ok();
    krg("config set kept/c new").ok();
    let state = || ask(lab, 2, |talk| async move { Ok(talk.get("kept/", true).await?.pairs) });
    let before = state();
    lab.sh(
        1,
        "cd /root && head -c -1 backup > short && cp backup bad && \
               printf X | dd of=bad bs=1 seek=$(($(stat -c %s bad) / 2)) conv=notrunc",
    )
    .ok();
    for file in ["short", "bad", "/etc/hosts"] {
        let said = lab.sh(1, &format!("cd /root && krg meta restore {file}"));
        assert_eq!(said.code, 1, "{file}: {said:?}");
        assert!(said.err.contains("not a backup"), "{file}: {said:?}");
    }
    assert_eq!(state(), before, "a damaged backup has changed something");
    krg("meta restore /root/backup").ok();
    within(RESUMES, || {
        let get = |key: &str| lab.sh(3, &format!("krg config get {key}"));
        let all = [get("kept/a"), get("kept/b"), get("kept/c")];
        match all.each_ref().map(|said| (said.code, said.out.trim())) {
            [(0, "one"), (0, "two"), (1, "")] => Ok(()),
            _ => Err(format!("{all:?}")),
        }
    });
}

/// Counts up on all nodes at once, each step only on top of the one that it has read.
fn a_counter_misses_nothing(lab: &Lab) {
    const STEPS: u64 = 40;
    let key = format!("counter{}", std::process::id());
    let count = |node: u32| {
        let (mut done, mut unknown) = (0, 0);
        let begun = Instant::now();
        while done < STEPS {
            assert!(begun.elapsed() < Duration::from_secs(60), "{done} steps on node {node}");
            let step = ask(lab, node, |talk| {
                let key = &key;
                async move {
                    let now = talk.get(key, true).await?.pairs;
                    let (value, at) = now.first().map_or((0, 0), |pair| {
                        (pair.value.parse::<u64>().expect("a number"), pair.revision)
                    });
                    let next = (value + 1).to_string();
                    let set = talk.set(key, &next, Some(at), Duration::from_secs(3)).await;
                    Ok(set.map(|reply| reply.done))
                }
            });
            match step {
                Ok(Ok(true)) => done += 1,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(_)) => unknown += 1,
            }
        }
        (done, unknown)
    };
    let (done, unknown) = std::thread::scope(|scope| {
        let all = ALL.map(|node| scope.spawn(move || count(node)));
        for _ in 0..3 {
            let victim = leader(lab, &ALL);
            lab.sh(victim, "pkill -KILL -x krgd").ok();
            caught_up(lab, victim);
        }
        let ended = all.map(|counting| counting.join().expect("a counter"));
        ended.into_iter().fold((0, 0), |(a, b), (done, unknown)| (a + done, b + unknown))
    });
    let value: u64 = lab
        .sh(1, &format!("krg config get {key} --linearizable"))
        .ok()
        .trim()
        .parse()
        .expect("a number");
    println!("counted to {value}: {done} acknowledged, {unknown} unknown");
    assert!((done..=done + unknown).contains(&value), "{value}: {done} + {unknown} unknown");
}

fn recover(lab: &Lab, node: u32, options: &str) -> Said {
    lab.sh(node, &format!("krg cluster recover {options}"))
}

fn the_majority_is_lost_for_good(lab: &Lab) {
    lab.sh(1, "krg config set survives yes").ok();
    let refused = recover(lab, 1, "--force");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("majority"), "{refused:?}");
    caught_up(lab, 3);
    lab.fault("kill", 1);
    lab.fault("kill", 2);
    within(RESUMES, || match cluster(lab, 3)? {
        c if c.stale => Ok(()),
        c => Err(format!("{c:?}")),
    });
    let asked = recover(lab, 3, "");
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(cluster(lab, 3).unwrap().stale, "nothing was done");
    let before = cluster(lab, 3).unwrap().member;
    recover(lab, 3, "--force").ok();
    within(BACK, || {
        let c = cluster(lab, 3)?;
        let alone = c.replicas.len() == 1 && !c.stale && c.member != before;
        if alone { Ok(()) } else { Err(format!("{c:?}")) }
    });
    assert_eq!(lab.sh(3, "krg config get survives --linearizable").ok(), "yes\n");
    lab.sh(3, "krg config set after recovery").ok();
    // The others wake up as what was: they are let in by nobody, and join anew.
    heal_all(lab);
    for node in [1, 2] {
        within(BACK, || cluster(lab, node).map(drop));
        let token = lab.sh(3, "krg cluster token create 2>/dev/null").ok();
        let address = "10.91.1.3:7600";
        let join = format!("krg join {address} --node {node} --token {}", token.trim());
        let refused = lab.sh(node, &join);
        assert_eq!(refused.code, 1, "it is a member of the old cluster: {refused:?}");
        lab.sh(node, &format!("{join} --force")).ok();
        within(BACK, || match lab.sh(node, "krg config get after") {
            said if said.out == "recovery\n" => Ok(()),
            said => Err(format!("node {node}: {said:?}")),
        });
    }
}

#[test]
fn what_is_acknowledged_stays_while_leaders_die() {
    if let Some(lab) = three("what_is_acknowledged_stays_while_leaders_die") {
        leaders_die(&lab, KILLING);
    }
}

#[test]
fn a_minority_reads_stale_and_acknowledges_nothing() {
    if let Some(lab) = three("a_minority_reads_stale_and_acknowledges_nothing") {
        a_minority_is_cut_off(&lab);
    }
}

#[test]
fn a_paused_leader_acknowledges_nothing_that_is_lost() {
    if let Some(lab) = three("a_paused_leader_acknowledges_nothing_that_is_lost") {
        the_leader_is_paused(&lab);
    }
}

#[test]
fn the_cluster_goes_on_without_a_node_whose_disk_is_full() {
    if let Some(lab) = three("the_cluster_goes_on_without_a_node_whose_disk_is_full") {
        a_disk_is_full(&lab);
    }
}

#[test]
fn the_cluster_goes_on_without_a_node_whose_disk_hangs() {
    if let Some(lab) = three("the_cluster_goes_on_without_a_node_whose_disk_hangs") {
        a_disk_hangs(&lab);
    }
}

#[test]
fn what_is_acknowledged_survives_a_power_cut_of_all() {
    if let Some(lab) = three("what_is_acknowledged_survives_a_power_cut_of_all") {
        the_power_fails(&lab);
    }
}

#[test]
fn who_lost_its_store_comes_back_as_a_new_member() {
    if let Some(lab) = three("who_lost_its_store_comes_back_as_a_new_member") {
        a_store_is_lost(&lab);
    }
}

#[test]
fn a_backup_is_restored_and_a_damaged_one_refused() {
    if let Some(lab) = three("a_backup_is_restored_and_a_damaged_one_refused") {
        backup_and_restore(&lab);
    }
}

#[test]
fn a_counter_misses_nothing_while_leaders_die() {
    if let Some(lab) = three("a_counter_misses_nothing_while_leaders_die") {
        a_counter_misses_nothing(&lab);
    }
}

#[test]
fn a_survivor_goes_on_alone_only_when_told() {
    if let Some(lab) = three("a_survivor_goes_on_alone_only_when_told") {
        the_majority_is_lost_for_good(&lab);
    }
}

#[test]
fn one_three_or_five_vote() {
    if !can_run("one_three_or_five_vote", &LAB) {
        return;
    }
    let lab = Lab::start(7);
    voters_become(&lab, 1, |r| count(r, "voter") == 5 && count(r, "learner") == 2);
    let leader = leader(&lab, &[1]);
    let now = roles(&lab, 1).unwrap();
    let voter = now.iter().find(|(n, role)| *role == "voter" && **n != leader && **n != 1);
    let victim = *voter.expect("a voter").0;
    lab.fault("kill", victim);
    let without = |r: &BTreeMap<u32, String>| {
        count(r, "voter") == 5 && r.get(&victim).is_none_or(|role| role != "voter")
    };
    voters_become(&lab, 1, without);
    lab.fault("heal", victim);
    voters_become(&lab, 1, |r| count(r, "voter") == 5 && r.contains_key(&victim));
    set(&lab, victim, "seven", "nodes", RESUMES).expect("it takes part");
    // Fewer members, fewer voters.
    for (node, voters) in [(7, 5), (6, 5), (5, 3), (4, 3), (3, 1)] {
        lab.sh(1, &format!("krg nodes del -n {node}")).ok();
        voters_become(&lab, 1, |r| count(r, "voter") == voters && r.len() == node as usize - 1);
    }
    assert!(path_in(&lab.name, 7, "/run").is_some(), "its machine goes on");
}
