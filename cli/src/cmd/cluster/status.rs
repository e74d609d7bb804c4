//! `krg cluster status`: what is agreed, by whom, and how far each replica is.

use crate::daemon::{self, STATUS_MAX};
use crate::{table, text};
use anyhow::Result;
use krg_rpc::proto::control::{Authority, ClusterReply, Node, Replica, StatusRequest};
use krg_types::MemberId;
use krg_types::limits::PROTOCOL_VERSION;
use serde_json::{Value, json};

/// Asks and prints.
pub fn run(as_json: bool) -> Result<u8> {
    let question = StatusRequest { version: PROTOCOL_VERSION };
    let nodes = daemon::status()?.nodes;
    let reply = daemon::ask(STATUS_MAX, async |mut krgd| krgd.cluster_status(question).await)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&json(&reply, &nodes))?);
    } else {
        print!("{}", render(&reply, &nodes, text::now_s()));
    }
    Ok(0)
}

/// The words for a node without a leader: since when, as far as it is known.
pub fn no_leader(age_ms: Option<u64>) -> String {
    match age_ms {
        Some(ms) => format!("stale: no leader for {}", text::duration(ms)),
        None => "stale: no leader is known".into(),
    }
}

fn is_stale(reply: &ClusterReply) -> bool {
    reply.stale || reply.leader.is_none()
}

fn member(id: u64) -> String {
    MemberId::from_u64(id).map_or("-".into(), |m| m.to_string())
}

/// How many entries a replica is behind, if it is known.
fn lag(replica: &Replica, last_log: u64) -> Option<u64> {
    replica.matched.map(|matched| last_log.saturating_sub(matched))
}

fn seen_ms(replica: &Replica, nodes: &[Node]) -> Option<u64> {
    nodes.iter().find(|n| n.id == replica.node)?.seen_ms
}

fn headline(reply: &ClusterReply) -> String {
    let name = if reply.cluster.is_empty() { "(no name)" } else { &reply.cluster };
    let state = if reply.waiting {
        format!("waiting: it starts when {} nodes are there", reply.nodes_min)
    } else if reply.leader.is_none() {
        no_leader(reply.leader_age_ms)
    } else if reply.stale {
        "stale: reads may be behind what others have acknowledged".into()
    } else {
        "agrees".into()
    };
    format!("cluster {name}, session {}: {state}\n", reply.session)
}

fn leader_line(reply: &ClusterReply) -> String {
    let Some(leader) = reply.leader else {
        return format!("none, term {}: nothing can be agreed now, reads are stale", reply.term);
    };
    let heard = match (leader == reply.node, reply.leader_age_ms) {
        (true, Some(ms)) => format!(", a majority answered {} ago", text::duration(ms)),
        (false, Some(ms)) => format!(", heard {} ago", text::duration(ms)),
        (_, None) => String::new(),
    };
    format!("node {leader}, term {}{heard}", reply.term)
}

fn render(reply: &ClusterReply, nodes: &[Node], now_s: u64) -> String {
    let count = |role: &str| reply.replicas.iter().filter(|r| r.role == role).count();
    let mut lines = vec![
        ("this node", format!("{} (member {})", reply.node, member(reply.member))),
        ("leader", leader_line(reply)),
        ("replicas", format!("{} voters, {} learners", count("voter"), count("learner"))),
        (
            "log",
            format!(
                "last {}, committed {}, applied {}, snapshot {}",
                reply.last_log, reply.committed, reply.applied, reply.snapshot
            ),
        ),
        ("revision", reply.revision.to_string()),
        (
            "version",
            format!(
                "krgd {}, protocol {}, state {} (knows up to {})",
                reply.release,
                reply.protocol_version,
                reply.state_version,
                reply.state_version_max
            ),
        ),
    ];
    if reply.nodes_min > 0 {
        lines.push(("nodes_min", reply.nodes_min.to_string()));
    }
    if reply.certificate_expires_s > 0 {
        lines.push((
            "certificate",
            format!("until {}", text::moment(reply.certificate_expires_s, now_s)),
        ));
    }
    if !reply.quarantined.is_empty() {
        lines.push(("quarantined", format!("{} (it did not verify)", reply.quarantined)));
    }
    let mut out = headline(reply);
    lines.extend(reply.warnings.iter().map(|w| ("warning", w.clone())));
    lines.iter().for_each(|(name, text)| out += &format!("{name:<12} {text}\n"));
    if !reply.replicas.is_empty() {
        out += &format!("\n{}", replicas(reply, nodes));
    }
    if !reply.authorities.is_empty() {
        out += &format!("\n{}", authorities(&reply.authorities, now_s));
    }
    out
}

fn replicas(reply: &ClusterReply, nodes: &[Node]) -> String {
    let dash = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    let row = |r: &Replica| {
        let own = if r.node == reply.node { "*" } else { "" };
        let role = if r.leader { format!("{}, leader", r.role) } else { r.role.clone() };
        vec![
            format!("{}{own}", r.node),
            member(r.member),
            role,
            dash(r.matched.map(|n| n.to_string())),
            dash(lag(r, reply.last_log).map(|n| n.to_string())),
            r.release.clone(),
            r.state_version.to_string(),
            dash(seen_ms(r, nodes).map(|ms| format!("{} ago", text::duration(ms)))),
        ]
    };
    let rows: Vec<_> = reply.replicas.iter().map(row).collect();
    let headings = ["NODE", "MEMBER", "ROLE", "MATCHED", "LAG", "VERSION", "STATE", "SEEN"];
    table::render(&headings, &rows)
}

fn authorities(all: &[Authority], now_s: u64) -> String {
    let row = |a: &Authority| {
        let key = if a.key_here { "here" } else { "-" };
        let short: String = a.fingerprint.chars().take(16).collect();
        vec![short, text::moment(a.expires_s, now_s), key.into(), a.nodes.to_string()]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table::render(&["AUTHORITY", "UNTIL", "KEY", "NODES"], &rows)
}

fn json(reply: &ClusterReply, nodes: &[Node]) -> Value {
    let replica = |r: &Replica| {
        json!({
            "node": r.node,
            "member": r.member,
            "role": r.role,
            "leader": r.leader,
            "matched": r.matched,
            "lag": lag(r, reply.last_log),
            "release": r.release,
            "state_version": r.state_version,
            "seen_ms": seen_ms(r, nodes),
        })
    };
    let authority = |a: &Authority| {
        json!({
            "fingerprint": a.fingerprint,
            "expires_s": a.expires_s,
            "key_here": a.key_here,
            "nodes": a.nodes,
        })
    };
    json!({
        "cluster": reply.cluster,
        "session": reply.session,
        "node": reply.node,
        "member": reply.member,
        "stale": is_stale(reply),
        "leader": reply.leader,
        "leader_age_ms": reply.leader_age_ms,
        "term": reply.term,
        "last_log": reply.last_log,
        "committed": reply.committed,
        "applied": reply.applied,
        "snapshot": reply.snapshot,
        "revision": reply.revision,
        "release": reply.release,
        "protocol_version": reply.protocol_version,
        "state_version": reply.state_version,
        "state_version_max": reply.state_version_max,
        "certificate_expires_s": reply.certificate_expires_s,
        "authorities": reply.authorities.iter().map(authority).collect::<Vec<_>>(),
        "nodes_min": reply.nodes_min,
        "waiting": reply.waiting,
        "quarantined": (!reply.quarantined.is_empty()).then_some(&reply.quarantined),
        "warnings": reply.warnings,
        "replicas": reply.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u32, leader: bool, matched: Option<u64>) -> Replica {
        Replica {
            node,
            member: u64::from(node) << 8 | u64::from(node),
            role: "voter".into(),
            leader,
            matched,
            release: "0.1.0".into(),
            state_version: 1,
        }
    }

    fn reply() -> ClusterReply {
        ClusterReply {
            cluster: "attic".into(),
            session: 1,
            node: 1,
            member: 257,
            leader: Some(1),
            term: 5,
            last_log: 120,
            committed: 120,
            applied: 119,
            revision: 98,
            snapshot: 100,
            leader_age_ms: Some(100),
            replicas: vec![
                replica(1, true, Some(120)),
                replica(2, false, Some(117)),
                replica(3, false, None),
            ],
            protocol_version: 1,
            state_version: 1,
            state_version_max: 2,
            release: "0.1.0".into(),
            certificate_expires_s: 86_400 * 90,
            ..ClusterReply::default()
        }
    }

    #[test]
    fn a_cluster_that_agrees() {
        let nodes = [Node { id: 2, seen_ms: Some(300), ..Node::default() }];
        let wanted = "\
cluster attic, session 1: agrees
this node    1 (member 1.1)
leader       node 1, term 5, a majority answered 0.1 s ago
replicas     3 voters, 0 learners
log          last 120, committed 120, applied 119, snapshot 100
revision     98
version      krgd 0.1.0, protocol 1, state 1 (knows up to 2)
certificate  until 1970-04-01, in 90 days

NODE  MEMBER  ROLE           MATCHED  LAG  VERSION  STATE  SEEN
1*    1.1     voter, leader  120      0    0.1.0    1      -
2     2.2     voter          117      3    0.1.0    1      0.3 s ago
3     3.3     voter          -        -    0.1.0    1      -
";
        assert_eq!(render(&reply(), &nodes, 0), wanted);
        let json = json(&reply(), &nodes);
        assert_eq!(json["replicas"][1]["lag"], 3);
        assert_eq!(json["replicas"][2]["lag"], Value::Null);
        assert_eq!(json["stale"], false);
    }

    #[test]
    fn what_is_amiss_is_said() {
        let lost = ClusterReply {
            leader: None,
            leader_age_ms: Some(12_340),
            quarantined: "/var/lib/krg/meta.bad".into(),
            warnings: vec!["node 3 does not answer".into()],
            authorities: vec![Authority {
                fingerprint: "ab".repeat(32),
                expires_s: 86_400,
                key_here: true,
                nodes: 3,
            }],
            ..reply()
        };
        let text = render(&lost, &[], 2 * 86_400);
        for words in [
            "cluster attic, session 1: stale: no leader for 12.3 s\n",
            "leader       none, term 5: nothing can be agreed now, reads are stale\n",
            "quarantined  /var/lib/krg/meta.bad (it did not verify)\n",
            "warning      node 3 does not answer\n",
            "abababababababab  1970-01-02, 24.0 h ago  here  3\n",
        ] {
            assert!(text.contains(words), "{words}{text}");
        }
        assert_eq!(json(&lost, &[])["stale"], true);
        let waiting = ClusterReply { waiting: true, nodes_min: 3, leader: None, ..reply() };
        let text = render(&waiting, &[], 0);
        assert!(text.contains("waiting: it starts when 3 nodes are there\n"), "{text}");
        let never = ClusterReply { leader: None, leader_age_ms: None, ..reply() };
        assert!(render(&never, &[], 0).contains("stale: no leader is known\n"));
    }
}
