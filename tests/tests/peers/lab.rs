//! The same against real daemons: node 3 of a lab is stopped, and somebody with its papers, or
//! with none, works in its place.

use super::attacks::{self, Target};
use super::lies::{self, Lie};
use super::world::World;
use krg_cluster::identity::{Identity, STATE_DIR};
use krg_rpc::pool;
use krg_rpc::tonic::Code;
use krg_sys::ns::{self, Namespaces};
use krg_tests::talk::{init_of, path_in};
use krg_tests::{LAB, Lab, can_run, within};
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const SEEN: Duration = Duration::from_secs(5);
/// A change is agreed on within this, also right after the leader has changed.
const AGREED: Duration = Duration::from_secs(10);

fn listens(node: u32) -> SocketAddr {
    SocketAddr::from(([10, 91, 1, node as u8], 7600))
}

fn papers(lab: &Lab, node: u32) -> Identity {
    let dir = path_in(&lab.name, node, STATE_DIR).expect("the node is up");
    Identity::load(&dir).expect("good papers").expect("it is a member")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs something on a thread that is in the network of a node.
fn in_network<T: Send + 'static>(
    lab: &Lab,
    node: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let init = init_of(&lab.name, node).expect("the node is up");
    let space = File::open(format!("/proc/{init}/ns/net")).expect("its network");
    std::thread::spawn(move || {
        ns::enter(space, Namespaces::NET).expect("it can be entered");
        work()
    })
}

/// Ends krgd on node 3; it stays down, and a member.
fn vacate(lab: &Lab) -> Identity {
    let papers = papers(lab, 3);
    lab.stop_krgd(3);
    papers
}

/// A lab in which node 2 has a process to look for.
fn start() -> Lab {
    let lab = Lab::start(3);
    lab.background(2, "exec sleep 86010");
    let listed = || match lab.view(1, "ps -e -o args=").out.contains("sleep 86010") {
        true => Ok(()),
        false => Err("not listed".to_owned()),
    };
    within(SEEN, listed);
    lab
}

/// Nodes 1 and 2 show each other as ever, at once, and agree.
#[track_caller]
fn unharmed(lab: &Lab, after: &str) {
    let line = "timeout 2 ps -e -o pid= -o args= || echo FAILED ps; \
                timeout 2 cat /proc/stat /proc/meminfo >/dev/null || echo FAILED cat; \
                timeout 2 cat /proc/8388609/io >/dev/null || echo FAILED live; \
                timeout 2 cat /proc/12582913/io >/dev/null 2>&1; [ $? != 124 ] || echo FAILED hung";
    for node in [1, 2] {
        let said = lab.view(node, line).ok();
        let failed = said.lines().any(|line| line.starts_with("FAILED"));
        assert!(!failed, "{after}: node {node}: {said}");
        assert!(said.contains("sleep 86010"), "{after}: node {node}: {said}");
        for row in said.lines() {
            let pid = row.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok());
            let of = pid.map(|pid| pid >> 22);
            assert!(of.is_some_and(|of| of <= 3), "{after}: node {node}: a row {row:?}");
        }
        let state = lab.sh(node, "cat /cluster/proc/nodes/node[12]/state").ok();
        assert_eq!(state, "online\nonline\n", "{after}: node {node}");
    }
    within(AGREED, || {
        let said = lab.sh(2, &format!("krg config set after '{after}'"));
        if said.code == 0 { Ok(()) } else { Err(format!("{after}: {}", said.err)) }
    });
}

/// Node 3 is itself again, and nobody has seen anything that a daemon should not do.
#[track_caller]
fn whole_again(lab: &Lab) {
    lab.fault("heal", 3);
    lab.background(3, "exec sleep 86011");
    for node in [1, 2] {
        within(SEEN, || {
            let said = lab.view(node, "ps -e -o args= && cat /proc/nodes/node3/state").out;
            match said.contains("sleep 86011") && said.ends_with("online\n") {
                true => Ok(()),
                false => Err(format!("node {node}: {said}")),
            }
        });
    }
    for node in 1..=3 {
        let log = lab.sh(node, "cat /var/log/krgd.log").out;
        assert!(!log.contains("panicked"), "node {node}: {log}");
    }
    // Nobody has joined.
    assert_eq!(
        lab.sh(1, "cat /cluster/proc/nodes/nrnodes").ok(),
        "ONLINE:3\nPRESENT:3\nPOSSIBLE:3\n"
    );
}

/// Tells a lie in node 3's place until dropped.
struct Place {
    told: Arc<AtomicU32>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    fn take(lab: &Lab, papers: &Identity, lie: Lie) -> Place {
        let (told, papers) = (Arc::new(AtomicU32::new(0)), papers.clone());
        let (end, ended) = oneshot::channel();
        let count = told.clone();
        let thread = in_network(lab, 3, move || {
            runtime().block_on(async {
                let listener = TcpListener::bind(listens(3)).await.expect("the place is free");
                tokio::select! {
                    () = lies::tell(lie, &papers, listener, count) => {}
                    _ = ended => {}
                }
            });
        });
        Place { told, end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|e| e.is_ok()) || std::thread::panicking(), "the liar failed");
    }
}

#[test]
fn a_member_gone_bad_harms_nobody_else() {
    if !can_run("a_member_gone_bad", &LAB) {
        return;
    }
    let lab = start();
    let papers = vacate(&lab);
    for lie in lies::all(3) {
        let name = lie.name;
        let place = Place::take(&lab, &papers, lie);
        within(SEEN, || {
            lab.view(1, "ps -e >/dev/null");
            match place.told.load(Ordering::Relaxed) {
                0 => Err(format!("{name}: {}", lab.sh(1, "krg nodes status").out)),
                _ => Ok(()),
            }
        });
        unharmed(&lab, name);
    }
    whole_again(&lab);
}

#[test]
fn hostile_callers_change_nothing() {
    if !can_run("hostile_callers", &LAB) {
        return;
    }
    let lab = start();
    let target = Target {
        cluster: lab.name.clone(),
        own: papers(&lab, 3).member,
        to: papers(&lab, 1).member,
        address: listens(1),
    };
    let papers = vacate(&lab);
    let strangers = World::new(3);
    let authority = krg_rpc::tls::fingerprint(&papers.authorities[0]);
    let told = in_network(&lab, 3, move || {
        let address = target.address;
        gossip_garbage(address);
        runtime().block_on(async {
            attacks::plain_garbage(address).await;
            for papers in [None, Some(&papers), Some(strangers.papers(3))] {
                attacks::garbage_in_tls(address, papers).await;
            }
            let member = pool::secure_channel(
                address.to_string(),
                target.to,
                papers.credentials().expect("good papers"),
            );
            let nobody = || pool::pinned_channel(address.to_string(), authority);
            let mut told = attacks::wrong_bodies(&member).await;
            told.extend(attacks::wrong_questions(&target, &member).await);
            let mut outside = attacks::wrong_bodies(&nobody()).await;
            outside.extend(attacks::wrong_questions(&target, &nobody()).await);
            (told, outside)
        })
    });
    let (told, outside) = told.join().expect("the attacks are made");
    assert!(told.len() > 100 && outside.len() > 100);
    for (what, code) in told {
        let empty = what.contains("Watch") && code == Code::Ok;
        let bad = [Code::Ok, Code::DeadlineExceeded, Code::Unavailable];
        assert!(empty || !bad.contains(&code), "{what}: {code:?}");
    }
    for (what, code) in outside {
        // Only the door for joiners looks at what it is given; every other is closed.
        let join = what.starts_with("join") || what.contains(".Join/") || what.contains("/none");
        let refused = code == Code::PermissionDenied;
        assert!(refused || join && code != Code::Ok, "outside: {what}: {code:?}");
    }
    unharmed(&lab, "hostile callers");
    whole_again(&lab);
}

/// Datagrams that no member has sealed.
fn gossip_garbage(address: SocketAddr) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    for bytes in [0, 1, 16, 100, 1_400, 60_000] {
        for fill in [0, 1, 0xff] {
            socket.send_to(&vec![fill; bytes], address).expect("it is sent");
        }
    }
}
