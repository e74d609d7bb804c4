//! Who is a member and who is not: joining, leaving, being taken out, with real nodes; and what
//! those get who are none.

use krg_tests::load::Load;
use krg_tests::talk::{ask, cluster, leader};
use krg_tests::{LAB, Lab, Need, Said, can_run, krg, run, within};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A change of the member list is seen everywhere within this.
const SEEN: Duration = Duration::from_secs(10);
/// Writes go on within this.
const GOES_ON: Duration = Duration::from_secs(5);

/// The nodes' states, as one of them tells.
fn states(lab: &Lab, from: u32) -> Result<BTreeMap<u32, String>, String> {
    let said = ask(lab, from, |talk| async move { talk.status().await })?;
    Ok(said.nodes.into_iter().map(|node| (node.id, node.state)).collect())
}

#[track_caller]
fn states_become(lab: &Lab, from: u32, wanted: &[(u32, &str)]) {
    let wanted: BTreeMap<u32, String> =
        wanted.iter().map(|(node, state)| (*node, (*state).to_owned())).collect();
    within(SEEN, || match states(lab, from)? {
        states if states == wanted => Ok(()),
        states => Err(format!("node {from}: {states:?}, not {wanted:?}")),
    });
}

/// A running lab whose members have all been counted.
fn lab(test: &str, nodes: u32, needs: &[Need]) -> Option<Lab> {
    if !can_run(test, &[&LAB[..], needs].concat()) {
        return None;
    }
    let lab = Lab::start(nodes);
    for node in 1..=nodes {
        all_settled(&lab, node, nodes as usize);
    }
    Some(lab)
}

#[track_caller]
fn all_settled(lab: &Lab, node: u32, members: usize) {
    within(SEEN, || {
        let now = cluster(lab, node)?;
        let voters = now.replicas.iter().filter(|r| r.role == "voter").count();
        let wanted = match members {
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        match now.replicas.len() == members && voters == wanted && !now.stale {
            true => Ok(()),
            false => Err(format!("node {node}: {now:?}")),
        }
    });
}

fn token(lab: &Lab, node: u32, options: &str) -> String {
    let said = lab.sh(node, &format!("krg cluster token create {options} 2>/dev/null"));
    said.ok().trim().to_owned()
}

fn join(lab: &Lab, node: u32, to: u32, token: &str, options: &str) -> Said {
    lab.sh(node, &format!("krg join 10.91.1.{to} --token '{token}' {options}"))
}

fn revision(lab: &Lab, node: u32) -> u64 {
    cluster(lab, node).expect("it answers").revision
}

#[test]
fn only_a_good_token_opens() {
    let Some(lab) = lab("only_a_good_token_opens", 3, &[]) else { return };
    for node in [2, 3] {
        lab.sh(node, "krg leave").ok();
        within(SEEN, || match cluster(&lab, node)? {
            c if c.replicas.len() == 1 && !c.stale => Ok(()),
            c => Err(format!("{c:?}")),
        });
    }
    all_settled(&lab, 1, 1);
    let good = token(&lab, 1, "");
    let (used, expired, revoked) =
        (token(&lab, 1, ""), token(&lab, 1, "--valid 1s"), token(&lab, 1, ""));
    let foreign = token(&lab, 3, "");
    // Right but for its secret, which a checksum cannot tell.
    let id = good.split('.').nth(1).expect("an id");
    let (mine, theirs) = (revoked.split('.').nth(1).expect("an id").to_owned(), id.to_owned());
    lab.sh(1, &format!("krg cluster token revoke {mine}")).ok();
    join(&lab, 2, 1, &used, "").ok();
    all_settled(&lab, 1, 2);
    lab.sh(2, "krg leave").ok();
    all_settled(&lab, 1, 1);
    within(SEEN, || match cluster(&lab, 2)? {
        c if c.replicas.len() == 1 && !c.stale => Ok(()),
        c => Err(format!("{c:?}")),
    });
    // The cluster's clock goes on though nothing is agreed on.
    within(SEEN, || match lab.sh(1, "krg cluster token list").ok() {
        list if list.contains("expired") => Ok(()),
        list => Err(list),
    });
    let mut mistyped = good.clone().into_bytes();
    mistyped[20] = if mistyped[20] == b'a' { b'b' } else { b'a' };
    let mistyped = String::from_utf8(mistyped).expect("letters");
    // A refusal that is agreed on has a revision of its own, and changes nothing else.
    let all = || {
        let lists = lab.sh(1, "krg config list; krg cluster token list | awk '{print $1, $2}'");
        (lists.ok(), states(&lab, 1), cluster(&lab, 1).map(|c| c.replicas.len()))
    };
    let before = all();
    let tries = [
        (used.as_str(), "used"),
        (&expired, "expired"),
        (&revoked, "revoked"),
        (&mistyped, "mistyped"),
        (&foreign, "fingerprint"),
        ("secret", "token"),
    ];
    for (token, word) in tries {
        let said = join(&lab, 2, 1, token, "");
        assert_ne!(said.code, 0, "{word}: {said:?}");
        assert!(said.err.contains(word), "{word}: {said:?}");
        assert!(!said.err.contains(&token[token.len() / 2..]), "a secret is told: {said:?}");
    }
    let log = lab.sh(1, "cat /var/log/krgd.log").ok();
    for token in [&used, &expired, &revoked] {
        let id = token.split('.').nth(1).expect("an id");
        let line = log.lines().any(|line| line.contains(id) || line.contains("join"));
        assert!(line, "nothing in the log about {id}:\n{log}");
        assert!(!log.contains(token.split('.').nth(2).expect("a secret")), "a secret in {log}");
    }
    assert_eq!(all(), before, "a refusal has changed something");
    // What was refused elsewhere still opens here; and a number is given once.
    assert!(lab.sh(1, "krg cluster token list").ok().contains(&theirs));
    let taken = join(&lab, 2, 1, &good, "--node 1");
    assert_eq!(taken.code, 1, "{taken:?}");
    join(&lab, 2, 1, &good, "--node 77").ok();
    states_become(&lab, 1, &[(1, "online"), (2, "possible"), (3, "possible"), (77, "online")]);
}

/// Sends garbage, and what a stranger would send, to a node.
const STRANGER: &str = r#"
import os, socket
at = ("10.91.1.1", 7600)
for n in (1, 24, 300, 1400, 60000):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(20): u.sendto(os.urandom(n), at)
    s = socket.create_connection(at, 2)
    try:
        s.sendall(os.urandom(n)); s.settimeout(2); s.recv(100)
    except OSError: pass
    s.close()
s = socket.create_connection(at, 2)
try:
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); s.settimeout(2); s.recv(100)
except OSError: pass
"#;

/// Writes all that passes a node's interface for so long to a file, then sends every gossip
/// packet to this node once more.
const EAR: &str = r#"
import socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
raw.settimeout(0.2)
until, out, packets = time.monotonic() + float(sys.argv[1]), open("/tmp/heard", "wb"), []
while time.monotonic() < until:
    try: p = raw.recv(65536)
    except TimeoutError: continue
    out.write(p)
    if p[12:14] == b"\x08\0" and p[23] == 17 and p[30:34] == socket.inet_aton("10.91.1.1"):
        packets.append(p[14 + (p[14] & 15) * 4 + 8:])
out.close()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for p in packets: u.sendto(p, ("10.91.1.1", 7600))
print(len(packets))
"#;

/// What is behind the door, and what a stranger is told there: no permission.
const CLOSED: [(&str, u32); 6] = [
    ("member.v1.Member/Probe", 7),
    ("member.v1.Member/PowerOff", 7),
    ("raft.v1.Raft/Append", 7),
    ("raft.v1.Raft/AuthorityKeys", 7),
    ("proc.v1.ProcView/Live", 7),
    ("join.v1.Join/Readmit", 7),
];

/// Calls a service of node 1 with these papers: the head of the answer.
fn call(lab: &Lab, node: u32, papers: &str, service: &str) -> String {
    let line = format!(
        "printf '\\0\\0\\0\\0\\0' | curl -sk --http2 {papers} -m 3 -X POST -D - -o /dev/null \
         -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- \
         https://10.91.1.1:7600/krg.{service} | tr -d '\\r'"
    );
    // A refusal before the question was read whole makes curl forget the answer.
    within(SEEN, || match lab.sh(node, &line).ok() {
        said if said.contains("grpc-status") => Ok(said),
        said => Err(format!("{service}: {said:?}")),
    })
}

fn refused(lab: &Lab, node: u32) -> f64 {
    let text = lab.sh(node, "krg metrics").ok();
    let lines = text.lines().filter(|line| line.starts_with("krg_gossip_refused_packets{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn counted(lab: &Lab, node: u32, why: &str) -> f64 {
    let text = lab.sh(node, "krg metrics").ok();
    let line = text.lines().find(|l| l.starts_with("krg_gossip_refused") && l.contains(why));
    let count = line.and_then(|l| l.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("{why}: {text}"))
}

#[test]
fn strangers_learn_and_change_nothing() {
    let needs = [Need::Tool("python3"), Need::Tool("openssl"), Need::Tool("curl")];
    let Some(lab) = lab("strangers_learn_and_change_nothing", 3, &needs) else { return };
    let python = |node: u32, name: &str, program: &str, arg: &str| {
        lab.sh(node, &format!("cat > /tmp/{name} <<'END'\n{program}\nEND")).ok();
        lab.sh(node, &format!("python3 /tmp/{name} {arg}")).ok()
    };
    lab.sh(1, "krg config set marker/quietword loudvalue").ok();
    let sleeper = lab.background(1, "exec sleep 86753");
    // Everything between the nodes, while there is something to hear.
    let heard = std::thread::scope(|scope| {
        let ear = scope.spawn(|| python(1, "ear", EAR, "4"));
        for n in 0..8 {
            lab.sh(2, &format!("krg config set marker/quietword{n} loudvalue{n}")).ok();
            let ps = lab.sh(3, "krg ps -e -o args").ok();
            assert!(ps.contains("sleep 86753"), "{ps}");
        }
        ear.join().expect("an ear")
    });
    let replayed: u32 = heard.trim().parse().expect("a number");
    assert!(replayed > 0, "no gossip was heard");
    let size: u64 = lab.sh(1, "stat -c %s /tmp/heard").ok().trim().parse().expect("bytes");
    assert!(size > 10_000, "only {size} bytes were heard");
    for word in ["quietword", "loudvalue", "86753", "sleep", "krg1", "node2"] {
        assert_eq!(lab.sh(1, &format!("grep -ac {word} /tmp/heard")).out, "0\n", "{word}");
    }
    // The ear sent each packet to its own node, once more.
    within(SEEN, || match counted(&lab, 1, "seen before") {
        n if n >= f64::from(replayed) / 2.0 => Ok(()),
        n => Err(format!("{n} of {replayed}")),
    });
    lab.sh(1, &format!("kill {sleeper}")).ok();
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                -keyout /tmp/own.key -out /tmp/own.crt -subj /CN=krg -days 9 2>/dev/null";
    lab.sh(3, make).ok();
    let (before, count) = (revision(&lab, 1), refused(&lab, 1));
    python(3, "stranger", STRANGER, "");
    for (service, status) in CLOSED {
        for papers in ["", "--cert /tmp/own.crt --key /tmp/own.key"] {
            let said = call(&lab, 3, papers, service);
            assert!(said.contains(&format!("grpc-status: {status}\n")), "{service}: {said}");
        }
    }
    let log = lab.sh(1, "cat /var/log/krgd.log").ok();
    assert!(log.contains("a call is refused"), "{log}");
    within(SEEN, || match refused(&lab, 1) - count {
        n if n >= 60.0 => Ok(()),
        n => Err(format!("{n} garbage packets were counted")),
    });
    assert_eq!(revision(&lab, 1), before, "garbage has changed something");
    states_become(&lab, 1, &[(1, "online"), (2, "online"), (3, "online")]);
    let log = lab.sh(1, "cat /var/log/krgd.log").ok();
    assert!(log.contains("refused") && !log.contains("panicked"), "{log}");
}

/// `ps` again and again in one session; `end` tells how often, and that none failed.
struct Tools<'a>(&'a Lab, u32);

impl<'a> Tools<'a> {
    fn start(lab: &'a Lab, node: u32) -> Tools<'a> {
        let line = "while [ ! -e /tmp/enough ]; do timeout 2 ps aux >/tmp/ps.out 2>>/tmp/ps.err \
                    && grep -q krg-init /tmp/ps.out && echo good || echo bad; done > /tmp/ps.all";
        lab.sh(node, &format!("setsid krg exec -- sh -c '{line}' </dev/null >/dev/null 2>&1 &"))
            .ok();
        Tools(lab, node)
    }

    #[track_caller]
    fn end(self) {
        let said =
            self.0.sh(self.1, "touch /tmp/enough; sort /tmp/ps.all | uniq -c; cat /tmp/ps.err");
        assert!(said.out.contains("good") && !said.out.contains("bad"), "{said:?}");
        assert_eq!(said.out.lines().count(), 1, "ps complained: {said:?}");
    }
}

fn gossip_key(lab: &Lab, node: u32) -> String {
    lab.sh(node, "sha256sum /var/lib/krg/identity/member.json").ok()
}

#[test]
fn three_of_four_are_removed_one_by_one() {
    let Some(lab) = lab("three_of_four_are_removed_one_by_one", 4, &[]) else { return };
    let tools = Tools::start(&lab, 1);
    let papers = gossip_key(&lab, 1);
    let mut wanted = BTreeMap::from([1, 2, 3, 4].map(|n| (n, "online")));
    for node in [3, 2, 4] {
        let before = cluster(&lab, node).expect("it answers").member;
        lab.sh(1, &format!("krg nodes del -n {node}")).ok();
        wanted.insert(node, "possible");
        let list: Vec<(u32, &str)> = wanted.iter().map(|(n, s)| (*n, *s)).collect();
        states_become(&lab, 1, &list);
        let old = lab.sh(1, "krgadm nodes").ok();
        assert!(!old.contains(&format!("{node}:")), "{old}");
        // It goes on alone, as somebody else, and nobody lets it in.
        within(SEEN, || match cluster(&lab, node)? {
            c if c.replicas.len() == 1 && !c.stale && c.member != before => Ok(()),
            c => Err(format!("{c:?}")),
        });
        lab.sh(node, "krg config set alone yes").ok();
        lab.sh(node, "krg config delete alone").ok();
        let line = format!("ss -Htn state established 'src 10.91.1.1 and dst 10.91.1.{node}'");
        within(SEEN, || match lab.sh(1, &line).ok() {
            none if none.is_empty() => Ok(()),
            some => Err(format!("live connections: {some}")),
        });
        lab.sh(1, &format!("krg config set removed/{node} yes")).ok();
    }
    tools.end();
    assert_ne!(gossip_key(&lab, 1), papers);
    all_settled(&lab, 1, 1);
    lab.sh(1, "krg config set still works").ok();
    // Without a token nobody comes back, with one everybody does, under the old number.
    let own = token(&lab, 3, "");
    assert_eq!(join(&lab, 3, 1, &own, "").code, 1);
    join(&lab, 3, 1, &token(&lab, 1, ""), "").ok();
    states_become(&lab, 1, &[(1, "online"), (2, "possible"), (3, "online"), (4, "possible")]);
    within(SEEN, || match lab.sh(3, "krg config get still").out.as_str() {
        "works\n" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn nodes_leave_and_old_commands_know() {
    let Some(lab) = lab("nodes_leave_and_old_commands_know", 3, &[]) else { return };
    for (line, wanted) in [
        ("krgadm nodes", "1:online\n2:online\n3:online\n"),
        ("mosctl whois", "This is MOSIX #1\n"),
        ("mosctl isup 3", "yes\n"),
        ("clusternode_num", "1\n"),
        ("clusternode_getstate 2", "UP\n"),
        ("clustername", &format!("{}\n", lab.name)),
    ] {
        assert_eq!(lab.sh(1, line).ok(), wanted, "{line}");
    }
    // The leader itself leaves.
    let first = leader(&lab, &[1, 2, 3]);
    lab.sh(first, "krg leave").ok();
    let rest: Vec<u32> = [1, 2, 3].into_iter().filter(|n| *n != first).collect();
    for node in &rest {
        all_settled(&lab, *node, 2);
    }
    lab.sh(rest[0], "krg config set after leaving").ok();
    assert_eq!(lab.sh(rest[0], &format!("clusternode_getstate {first}")).ok(), "DOWN\n");
    assert_eq!(lab.sh(rest[0], &format!("mosctl isup {first}")).ok(), "no\n");
    within(SEEN, || match cluster(&lab, first)? {
        c if c.replicas.len() == 1 && !c.stale => Ok(()),
        c => Err(format!("{c:?}")),
    });
    let alone = lab.sh(first, "krg leave");
    assert_eq!(alone.code, 1, "{alone:?}");
    assert!(alone.err.contains("only one"), "{alone:?}");
    // A map of numbers by address.
    let map = format!("{} 10.91.1.{} 1\n50 10.91.1.{first} 1\n", rest[0], rest[0]);
    lab.sh(rest[0], &format!("printf '{map}' > /etc/mosix.map && setpe -w")).ok();
    let printed = lab.sh(rest[0], "setpe -r").ok();
    assert!(printed.contains(&format!("50 10.91.1.{first} 1")), "{printed}");
    lab.sh(first, "sed -i /node_id/d /etc/krg/krg.toml && pkill -KILL -x krgd").ok();
    within(SEEN, || cluster(&lab, first).map(drop));
    join(&lab, first, rest[0], &token(&lab, rest[0], ""), "").ok();
    within(SEEN, || match states(&lab, rest[0])?.get(&50).map(String::as_str) {
        Some("online") => Ok(()),
        other => Err(format!("node 50 is {other:?}")),
    });
}

#[test]
fn a_cluster_starts_when_enough_are_there() {
    let Some(lab) = lab("a_cluster_starts_when_enough_are_there", 4, &[]) else { return };
    for node in [2, 3, 4] {
        lab.sh(node, "krg leave").ok();
        within(SEEN, || match cluster(&lab, node)? {
            c if c.replicas.len() == 1 && !c.stale => Ok(()),
            c => Err(format!("{c:?}")),
        });
    }
    lab.sh(2, "krg cluster init --name second --nodes-min 3").ok();
    within(SEEN, || match cluster(&lab, 2)? {
        c if c.cluster == "second" && c.nodes_min == 3 && c.waiting => Ok(()),
        c => Err(format!("{c:?}")),
    });
    states_become(&lab, 2, &[(2, "present")]);
    join(&lab, 3, 2, &token(&lab, 2, ""), "").ok();
    states_become(&lab, 2, &[(2, "present"), (3, "present")]);
    let early = lab.sh(2, "krg nodes add -n 3,4 --timeout 1s");
    assert_eq!(early.code, 1, "{early:?}");
    let line = "krg nodes add -n 4 --timeout 20s";
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| lab.sh(2, line));
        join(&lab, 4, 2, &token(&lab, 2, ""), "").ok();
        adding.join().expect("it ends").ok();
    });
    for node in [2, 3, 4] {
        states_become(&lab, node, &[(2, "online"), (3, "online"), (4, "online")]);
    }
}

#[test]
fn nodes_come_and_go_and_authorities_too_under_load() {
    let Some(lab) = lab("nodes_come_and_go", 3, &[]) else { return };
    let load = Load::start(&lab, &[1, 2, 3]);
    let tools = Tools::start(&lab, 1);
    load.goes_on(GOES_ON);
    for _ in 0..2 {
        let added = run(krg().args(["lab", "add", "--name", &lab.name])).ok();
        assert_eq!(added.trim(), "4");
        load.goes_on(GOES_ON);
        run(krg().args(["lab", "remove", "--name", &lab.name, "4"])).ok();
        load.goes_on(GOES_ON);
    }
    let serial = |node| {
        let line = "openssl x509 -in /var/lib/krg/identity/node.crt -noout -fingerprint";
        lab.sh(node, line).ok()
    };
    let (before, old) = ([1, 2, 3].map(serial), cluster(&lab, 1).expect("it answers"));
    let voter = leader(&lab, &[1]);
    lab.sh(voter, "krg cluster rotate-ca").ok();
    let after = [1, 2, 3].map(serial);
    for n in 0..3 {
        assert_ne!(before[n], after[n], "node {} has its old certificate", n + 1);
    }
    within(SEEN, || {
        let now = cluster(&lab, 1)?.authorities;
        match now.len() == 1 && now[0].fingerprint != old.authorities[0].fingerprint {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    });
    load.goes_on(GOES_ON);
    tools.end();
    let sum = load.end(&[1, 2, 3]);
    println!("nodes and authorities came and went: {sum:?}");
    assert!(sum.errors.is_empty(), "{sum:?}");
}

#[test]
fn certificates_are_renewed_before_they_end() {
    let Some(lab) = lab("certificates_are_renewed", 3, &[]) else { return };
    // 14 s each, renewed after two thirds of that.
    for node in [1, 2, 3] {
        let line = "sed -i '1i certificate_hours = 0.004' /etc/krg/krg.toml; pkill -KILL -x krgd";
        lab.sh(node, line).ok();
        within(SEEN, || cluster(&lab, node).map(drop));
    }
    all_settled(&lab, 1, 3);
    lab.sh(leader(&lab, &[1]), "krg cluster rotate-ca").ok();
    let load = Load::start(&lab, &[1, 2, 3]);
    let expires = |node| cluster(&lab, node).map(|c| c.certificate_expires_s);
    let first = [1, 2, 3].map(|node| expires(node).expect("it answers"));
    let begun = Instant::now();
    within(Duration::from_secs(30), || {
        for node in 1..=3 {
            let (now, old) = (expires(node)?, first[node as usize - 1]);
            if now < old + 15 {
                return Err(format!("node {node}: {now}, at first {old}, {:?}", begun.elapsed()));
            }
        }
        Ok(())
    });
    let sum = load.end(&[1, 2, 3]);
    assert!(sum.errors.is_empty() && sum.writes > 100, "{sum:?}");
}

#[test]
fn the_whole_cluster_goes_down_and_comes_back() {
    let Some(lab) = lab("the_whole_cluster_goes_down", 3, &[]) else { return };
    lab.sh(1, "krg config set before poweroff").ok();
    let pids = || [1, 2, 3].map(|node| lab.sh(node, "pgrep -x krgd").out.trim().to_owned());
    let first = pids();
    lab.sh(2, "krg cluster poweroff --reboot").ok();
    within(SEEN, || match pids() {
        now if now.iter().zip(&first).all(|(a, b)| a != b && !a.is_empty()) => Ok(()),
        now => Err(format!("{now:?}, before {first:?}")),
    });
    all_settled(&lab, 1, 3);
    let note = lab.sh(2, "krg cluster poweroff").ok();
    assert_eq!(note, "", "somebody was not reached");
    within(SEEN, || match pids() {
        now if now.iter().all(String::is_empty) => Ok(()),
        now => Err(format!("{now:?}")),
    });
    for node in 1..=3 {
        let log = lab.sh(node, "tail -n 1 /var/log/krgd.log").ok();
        assert!(log.contains("ended in good order"), "node {node}: {log}");
        assert_eq!(lab.sh(node, "grep -c krgproc /proc/self/mountinfo").out, "0\n");
    }
    for node in ["1", "2", "3"] {
        run(krg().args(["lab", "heal", "--no-wait", "--name", &lab.name, node])).ok();
    }
    within(SEEN, || match lab.sh(3, "krg config get before --linearizable") {
        said if said.out == "poweroff\n" => Ok(()),
        said => Err(format!("{said:?}")),
    });
    states_become(&lab, 1, &[(1, "online"), (2, "online"), (3, "online")]);
}
