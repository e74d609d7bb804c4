//! `krg cluster`, `krg join`, `krg leave`.

use crate::server::{Krgd, run};
use krg_rpc::proto::control::*;
use krg_rpc::tonic::Status;

fn done(note: &str) -> Result<Done, Status> {
    Ok(Done { note: note.into() })
}

#[test]
fn status_is_printed_and_says_stale() {
    let krgd = Krgd::start();
    let node = Node { id: 1, seen_ms: Some(0), ..Node::default() };
    krgd.answer("status", Ok(StatusReply { node: 1, nodes: vec![node], ..Default::default() }));
    let replica = Replica { node: 1, member: 257, role: "voter".into(), ..Replica::default() };
    let reply = ClusterReply {
        cluster: "attic".into(),
        session: 7,
        node: 1,
        member: 257,
        leader_age_ms: Some(12_300),
        replicas: vec![replica],
        ..ClusterReply::default()
    };
    krgd.answer("cluster_status", Ok(reply));
    let text = krgd.run("krg cluster status").ok();
    assert!(
        text.starts_with("cluster attic, session 7: stale: no leader for 12.3 s\n"),
        "{text}"
    );
    let json = krgd.run("krg cluster status --json").ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["stale"].as_bool(), json["leader"].is_null()), (Some(true), true));
    assert_eq!(json["replicas"][0]["seen_ms"], 0);
}

#[test]
fn the_cluster_is_made_stopped_and_recovered() {
    let krgd = Krgd::start();
    krgd.answer("init", done(""));
    let line = "krg cluster init --name attic --session 9999 --node 255 --nodes-min 3";
    assert_eq!(krgd.run(line).ok(), "");
    let wanted =
        InitRequest { version: 1, name: "attic".into(), session: 9999, node: 255, nodes_min: 3 };
    assert_eq!(krgd.asked::<InitRequest>("init"), wanted);
    krgd.run("krg cluster init").ok();
    assert_eq!(
        krgd.asked::<InitRequest>("init"),
        InitRequest { version: 1, ..Default::default() }
    );

    krgd.answer("power_off", done("3 nodes stop"));
    assert_eq!(krgd.run("krg cluster poweroff --reboot").ok(), "3 nodes stop\n");
    assert!(krgd.asked::<PowerOffRequest>("power_off").reboot);

    krgd.answer("recover", done(""));
    let said = krgd.run("krg cluster recover").failed(2, &["--force", "Nothing was done"]);
    assert_eq!((said.out.as_str(), krgd.times("recover")), ("", 0));
    krgd.run("krg cluster recover --force").ok();
    assert!(krgd.asked::<RecoverRequest>("recover").force);
}

#[test]
fn a_rotation_shows_how_far_it_is() {
    let krgd = Krgd::start();
    let step = |steps, note: &str, done| Ok(Progress { note: note.into(), done, steps, of: 2 });
    krgd.stream("rotate_ca", vec![step(1, "a new authority", false), step(2, "done", true)]);
    let text = krgd.run("krg cluster rotate-ca --force").ok();
    assert_eq!(text, "1/2  a new authority\n2/2  done\n");
    assert!(krgd.asked::<RotateCaRequest>("rotate_ca").force);
    krgd.stream("rotate_ca", vec![step(1, "a new authority", false)]);
    krgd.run("krg cluster rotate-ca").failed(1, &["not done"]);
    let lost = Err(Status::unavailable("node 3 does not answer"));
    krgd.stream("rotate_ca", vec![step(1, "a new authority", false), lost]);
    let said = krgd.run("krg cluster rotate-ca").failed(1, &[]);
    assert_eq!(said.err, "krg: node 3 does not answer\n");
}

#[test]
fn tokens_alone_are_on_standard_output() {
    let krgd = Krgd::start();
    let reply = TokenCreateReply { tokens: vec!["t1".into(), "t2".into()], valid_ms: 900_000 };
    krgd.answer("token_create", Ok(reply));
    let words =
        ["krg", "cluster", "token", "create", "--valid", "15m", "--count", "2", "--note", "a b"];
    let said = krgd.command(&words, "");
    assert!(said.err.contains("15 min") && said.err.contains("krg join"), "{said:?}");
    assert_eq!(said.ok(), "t1\nt2\n");
    let wanted =
        TokenCreateRequest { version: 1, valid_ms: 900_000, count: 2, note: "a b".into() };
    assert_eq!(krgd.asked::<TokenCreateRequest>("token_create"), wanted);
    let said = krgd.run("krg cluster token create --json");
    assert_eq!(said.err, "");
    let json: serde_json::Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(
        (json["tokens"][1].as_str(), json["valid_ms"].as_u64()),
        (Some("t2"), Some(900_000))
    );
    assert_eq!(krgd.asked::<TokenCreateRequest>("token_create").valid_ms, 86_400_000);

    let token = |id: &str, state: &str, used_by| TokenInfo {
        id: id.into(),
        left_ms: 7_200_000,
        state: state.into(),
        note: "x\ny".into(),
        used_by,
    };
    let tokens = vec![token("ab12", "open", 0), token("cd34", "used", 3)];
    krgd.answer("token_list", Ok(TokenListReply { tokens }));
    let wanted = "\
ID    STATE  LEFT   NODE  NOTE
ab12  open   2.0 h  -     x\\ny
cd34  used   -      3     x\\ny
";
    assert_eq!(krgd.run("krg cluster token list").ok(), wanted);
    krgd.answer("token_revoke", done(""));
    krgd.run("krg cluster token revoke ab12").ok();
    assert_eq!(krgd.asked::<TokenRevokeRequest>("token_revoke").id, "ab12");
}

#[test]
fn a_token_need_not_be_in_the_process_list() {
    let krgd = Krgd::start();
    let reply = JoinReply { node: 4, cluster: "attic".into(), nodes: 4 };
    krgd.answer("join", Ok(reply));
    let token = "k".repeat(64);
    let said = krgd.command(
        &["krg", "join", "192.0.2.1", "--token", "-", "--node", "4", "--force"],
        &format!("{token}\nrest"),
    );
    assert_eq!(said.ok(), "this machine is node 4 of the cluster attic, which has 4 nodes now\n");
    let wanted = JoinRequest {
        version: 1,
        address: "192.0.2.1:7600".into(),
        token: token.clone(),
        node: 4,
        force: true,
    };
    assert_eq!(krgd.asked::<JoinRequest>("join"), wanted);

    let socket = krgd.dir().join("krgd.sock").to_string_lossy().into_owned();
    let environment = [("KRG_SOCKET", socket.as_str()), ("KRG_TOKEN", token.as_str())];
    run(&["krg", "join", "[::1]:70"], "", &environment).ok();
    let asked = krgd.asked::<JoinRequest>("join");
    assert_eq!((asked.address.as_str(), asked.token), ("[::1]:70", token));
    let help = run(&["krg", "join", "--help"], "", &[("KRG_TOKEN", "secret-words")]).ok();
    assert!(!help.contains("secret-words"), "{help}");

    for half in ["", "\n", "abc123\n"] {
        krgd.command(&["krg", "join", "n1", "--token", "-"], half).failed(2, &["token"]);
    }
    assert_eq!(krgd.times("join"), 0);
    krgd.answer("leave", done("this machine is a cluster of its own"));
    assert_eq!(krgd.run("krg leave --force").ok(), "this machine is a cluster of its own\n");
    assert!(krgd.asked::<LeaveRequest>("leave").force);
}
