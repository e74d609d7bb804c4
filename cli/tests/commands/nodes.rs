//! `krg nodes`.

use crate::server::Krgd;
use krg_rpc::proto::control::*;
use krg_rpc::tonic::Status;

/// A krgd of node 1 that knows nodes in all states.
pub fn krgd() -> Krgd {
    let krgd = Krgd::start();
    let node = |(id, state): (u32, &str)| Node {
        id,
        address: format!("10.0.0.{id}:7600"),
        hostname: format!("n{id}"),
        state: state.into(),
        role: "voter".into(),
        ssi_state: if state == "online" { "UP".into() } else { String::new() },
        load: (id == 1).then_some(Load {
            age_ms: 500,
            load_percent: 150,
            cpus: 2,
            ..Default::default()
        }),
        ..Node::default()
    };
    let nodes =
        [(1, "online"), (2, "online"), (3, "present"), (4, "possible")].map(node).to_vec();
    let reply = StatusReply { node: 1, cluster: "attic".into(), nodes, ..StatusReply::default() };
    krgd.answer("status", Ok(reply));
    krgd
}

#[test]
fn all_nodes_are_listed() {
    let krgd = krgd();
    let wanted = "\
NODE  HOSTNAME  ADDRESS        STATE     ROLE   VERSION  LOAD            SEEN   WHY
1*    n1        10.0.0.1:7600  online    voter  -        1.50/2 (0.5 s)  never
2     n2        10.0.0.2:7600  online    voter  -        -               never
3     n3        10.0.0.3:7600  present   voter  -        -               never
4     n4        10.0.0.4:7600  possible  voter  -        -               never
";
    assert_eq!(krgd.run("krg nodes").ok(), wanted);
    assert_eq!(krgd.run("krg nodes status -n 1-4").ok(), wanted);
    let json = krgd.run("krg nodes -n 1,3 --json").ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_eq!(json[0]["load"]["load_percent"], 150);
    assert_eq!((json[1]["load"].is_null(), json[1]["this_node"].as_bool()), (true, Some(false)));
    krgd.run("krg nodes -n 9").failed(1, &["there is no node 9 (nodes: 1-4)"]);
}

#[test]
fn nodes_are_added() {
    let krgd = krgd();
    let wait = |there: &[u32]| {
        let (wanted, there) = (vec![3], there.to_vec());
        Ok(NodesAddProgress { wanted, there, ..NodesAddProgress::default() })
    };
    let added = |done| {
        Ok(NodesAddProgress { adding: true, done, added: vec![3], ..NodesAddProgress::default() })
    };
    krgd.stream("nodes_add", vec![wait(&[]), wait(&[3]), added(false), added(true)]);
    let wanted = "Waiting for nodes to join...    3:0\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}   3:1 done\n\
                  Adding nodes [3]... done\n";
    assert_eq!(krgd.run("krgadm nodes add -n 3").ok(), wanted);
    let asked = NodesAddRequest { version: 1, nodes: vec![3], ..NodesAddRequest::default() };
    assert_eq!(krgd.asked::<NodesAddRequest>("nodes_add"), asked);
    assert_eq!(krgd.run("krg nodes add -n 3 --timeout 90s").ok(), wanted);
    let asked = NodesAddRequest { timeout_ms: 90_000, ..asked };
    assert_eq!(krgd.asked::<NodesAddRequest>("nodes_add"), asked);
    for (option, wanted) in [
        ("-c 2", NodesAddRequest { version: 1, count: 2, ..NodesAddRequest::default() }),
        ("--total 4", NodesAddRequest { version: 1, total: 4, ..NodesAddRequest::default() }),
        ("-a", NodesAddRequest { version: 1, all: true, ..NodesAddRequest::default() }),
    ] {
        krgd.run(&format!("krgadm nodes add {option}")).ok();
        assert_eq!(krgd.asked::<NodesAddRequest>("nodes_add"), wanted);
    }
    krgd.stream(
        "nodes_add",
        vec![wait(&[]), Err(Status::deadline_exceeded("node 3 is not there"))],
    );
    let said = krgd.run("krgadm nodes add -n 3").failed(1, &[]);
    assert!(said.out.ends_with("   3:0 fail (node 3 is not there)\n"), "{said:?}");
}

#[test]
fn nodes_are_removed() {
    let krgd = krgd();
    krgd.answer("nodes_del", Ok(NodesDelReply { removed: vec![2] }));
    assert_eq!(krgd.run("krgadm nodes del -n 2").ok(), "Removing nodes [2]... done\n");
    assert_eq!(krgd.asked::<NodesDelRequest>("nodes_del").nodes, [2]);
    assert_eq!(krgd.run("krgadm nodes del --all").ok(), "Removing nodes [2]... done\n");
    assert_eq!(krgd.asked::<NodesDelRequest>("nodes_del").nodes, [2]);
    let nobody = "Unable to suppress current node.\n\
                  Unable to suppress node 3 (must be 'online').\n\
                  No online node to remove.\n";
    assert_eq!(krgd.run("krgadm nodes del -n 1,3").ok(), nobody);
    let said = krgd.run("krg nodes del -n 1,3").failed(1, &["nodes del --force"]);
    assert_eq!((said.out.as_str(), krgd.times("nodes_del")), (nobody, 0));
    krgd.run("krg nodes del -n 3 --force").ok();
    assert_eq!(krgd.asked::<NodesDelRequest>("nodes_del").nodes, [3]);
    for line in ["krgadm nodes del -c 2", "krg nodes del --count 3"] {
        let said = krgd.run(line).failed(1, &[]);
        assert_eq!(said.out, "Not enough nodes to remove. Aborting.\n");
    }
    assert_eq!(krgd.run("krgadm nodes del -t 2").ok(), "No online node to remove.\n");
    krgd.answer::<NodesDelReply>("nodes_del", Err(Status::unavailable("no leader")));
    let said = krgd.run("krgadm nodes del -n 2").failed(1, &[]);
    assert_eq!(said.out, "Removing nodes [2]... fail (no leader)\n");
}
