//! `krg config`, `krg meta`, `krg metrics`.

use crate::server::Krgd;
use krg_rpc::proto::control::*;
use krg_rpc::tonic::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

fn reply(stale: bool) -> ConfigReply {
    let pair = |key: &str, value: &str, revision| ConfigPair {
        key: key.into(),
        value: value.into(),
        revision,
    };
    ConfigReply {
        pairs: vec![pair("a/b", "x y", 3), pair("a/c", "two\nlines", 4)],
        revision: 9,
        stale,
        leader_age_ms: stale.then_some(12_300),
    }
}

#[test]
fn values_are_read_and_stale_ones_marked() {
    let krgd = Krgd::start();
    krgd.answer("config_get", Ok(reply(false)));
    let said = krgd.run("krg config get a/b --linearizable");
    assert_eq!((said.err.as_str(), said.code), ("", 0));
    assert_eq!(said.out, "x y\n");
    let wanted =
        ConfigGetRequest { version: 1, key: "a/b".into(), prefix: false, linearizable: true };
    assert_eq!(krgd.asked::<ConfigGetRequest>("config_get"), wanted);
    assert_eq!(krgd.run("krg config list").ok(), "3 a/b x y\n4 a/c two\\nlines\n");
    let wanted = ConfigGetRequest { version: 1, prefix: true, ..ConfigGetRequest::default() };
    assert_eq!(krgd.asked::<ConfigGetRequest>("config_get"), wanted);
    krgd.run("krg config get a").failed(1, &["there is no key a"]);

    krgd.answer("config_get", Ok(reply(true)));
    let said = krgd.run("krg config get a/c");
    assert_eq!(said.err, "krg: stale: no leader for 12.3 s\n");
    assert_eq!(said.ok(), "two\nlines\n");
    let json = krgd.run("krg config list a/ --json").ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["stale"].as_bool(), json["leader_age_ms"].as_u64()),
        (Some(true), Some(12_300))
    );
    assert_eq!(
        (json["pairs"][1]["value"].as_str(), json["revision"].as_u64()),
        (Some("two\nlines"), Some(9))
    );
}

#[test]
fn values_are_set_if_they_may() {
    let krgd = Krgd::start();
    krgd.answer("config_set", Ok(ConfigSetReply { revision: 12, done: true }));
    assert_eq!(krgd.run("krg config set a -5 --if-revision 0").ok(), "12\n");
    let asked = krgd.asked::<ConfigSetRequest>("config_set");
    assert_eq!((asked.key.as_str(), asked.value.as_deref()), ("a", Some("-5")));
    assert_eq!((asked.if_revision, asked.timeout_ms), (Some(0), 9000));
    krgd.command(&["krg", "config", "set", "a", "-"], "one\ntwo\n").ok();
    let asked = krgd.asked::<ConfigSetRequest>("config_set");
    assert_eq!((asked.value.as_deref(), asked.if_revision), (Some("one\ntwo"), None));
    krgd.command(&["krg", "config", "set", "a", ""], "").ok();
    assert_eq!(krgd.asked::<ConfigSetRequest>("config_set").value.as_deref(), Some(""));
    krgd.run("krg config delete a").ok();
    assert_eq!(krgd.asked::<ConfigSetRequest>("config_set").value, None);
    let long = "v".repeat(8194);
    krgd.command(&["krg", "config", "set", "a", "-"], &long).failed(1, &["8192 bytes"]);
    assert_eq!(krgd.times("config_set"), 0);

    krgd.answer("config_set", Ok(ConfigSetReply { revision: 7, done: false }));
    let said = krgd.run("krg config set a b --if-revision 5");
    assert_eq!(said.failed(3, &["a is at revision 7: nothing was changed"]).out, "");
    krgd.answer("config_set", Ok(ConfigSetReply { revision: 0, done: false }));
    krgd.run("krg config delete a --if-revision 5").failed(3, &["a is not there"]);
}

#[test]
fn changes_are_watched() {
    let krgd = Krgd::start();
    let event = |revision, value: Option<&str>, gap| {
        let (key, value) = ("k".into(), value.map(str::to_owned));
        Ok(ConfigEvent { revision, key, value, gap })
    };
    krgd.stream("config_watch", vec![event(5, Some("a\nb"), true), event(6, None, false)]);
    let said = krgd.run("krg config watch k --prefix --from 3");
    assert_eq!(said.out, "5 k a\\nb\n6 k (deleted)\n");
    said.failed(1, &["older changes", "go on with --from 7"]);
    let wanted = ConfigWatchRequest { version: 1, key: "k".into(), prefix: true, from: 3 };
    assert_eq!(krgd.asked::<ConfigWatchRequest>("config_watch"), wanted);
    let said = krgd.run("krg config watch k --json");
    let line = "{\"gap\":true,\"key\":\"k\",\"revision\":5,\"value\":\"a\\nb\"}";
    assert_eq!(said.out.lines().next(), Some(line));
    krgd.command(&["krg", "config", "watch", ""], "").failed(1, &["--prefix"]);
}

#[test]
fn a_backup_is_whole_or_not_there() {
    let krgd = Krgd::start();
    let piece = |data: &[u8]| Ok(Piece { data: data.to_vec(), version: 1 });
    krgd.stream("backup", vec![piece(b"one"), piece(b"two")]);
    assert_eq!(krgd.run("krg meta backup -").ok(), "onetwo");
    let file = krgd.dir().join("b");
    let backup = |options: &[&str]| {
        let words = [&["krg", "meta", "backup"], options, &[file.to_str().unwrap()]].concat();
        krgd.command(&words, "")
    };
    assert!(backup(&[]).ok().ends_with("b: 6 bytes\n"));
    assert_eq!(std::fs::read(&file).unwrap(), b"onetwo");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    backup(&[]).failed(1, &["there already", "--force"]);

    krgd.stream("backup", vec![piece(b"half"), Err(Status::internal("the store ended"))]);
    backup(&["--force"]).failed(1, &["the store ended"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"onetwo");
    krgd.stream::<Piece>("backup", vec![]);
    backup(&["--force"]).failed(1, &["there is no backup"]);
    krgd.stream("backup", vec![piece(b"new")]);
    backup(&["--force"]).ok();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    let left: Vec<_> = std::fs::read_dir(krgd.dir()).unwrap().collect();
    assert_eq!(left.len(), 2, "the socket and the backup: {left:?}");
    krgd.run("krg meta backup /nonexistent/b").failed(1, &["cannot write /nonexistent/b"]);
}

#[test]
fn a_backup_is_put_back() {
    let krgd = Krgd::start();
    krgd.answer("restore", Ok(Done { note: "restored".into() }));
    let file = krgd.dir().join("b");
    let data: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
    std::fs::write(&file, &data).unwrap();
    let restore = |path: &str| krgd.command(&["krg", "meta", "restore", path], "text");
    assert_eq!(restore(file.to_str().unwrap()).ok(), "restored\n");
    let pieces = krgd.asked::<Vec<Piece>>("restore");
    assert_eq!(pieces[0].version, 1);
    assert_eq!(pieces.into_iter().flat_map(|p| p.data).collect::<Vec<_>>(), data);
    restore("-").ok();
    assert_eq!(krgd.asked::<Vec<Piece>>("restore")[0].data, b"text");
    std::fs::write(&file, "").unwrap();
    restore(file.to_str().unwrap()).failed(1, &["no backup"]);
    restore(krgd.dir().to_str().unwrap()).failed(1, &["no file"]);
    restore("/nonexistent/b").failed(1, &["cannot read /nonexistent/b"]);
    krgd.command(&["krg", "meta", "restore", "-"], "").failed(1, &["empty"]);
    assert_eq!(krgd.times("restore"), 0);
}

#[test]
fn metrics_are_passed_on() {
    let krgd = Krgd::start();
    let data = b"# HELP krg_x X\nkrg_x 1\n".to_vec();
    krgd.answer("metrics", Ok(Piece { data, version: 1 }));
    assert_eq!(krgd.run("krg metrics").ok(), "# HELP krg_x X\nkrg_x 1\n");
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

#[test]
fn a_watch_prints_at_once_and_ends_quietly() {
    let krgd = Krgd::start();
    let event = |revision| {
        let (key, value) = ("k".into(), Some("v".into()));
        Ok(ConfigEvent { revision, key, value, gap: false })
    };
    krgd.endless("config_watch", vec![event(1), event(2)]);
    let mut child = krgd.spawn("krg config watch k");
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "1 k v");
    assert_eq!(out.next().unwrap().unwrap(), "2 k v");
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");

    // Nobody reads any more: SIGPIPE ends it, without a word.
    krgd.stream("config_watch", (0..100_000).map(event).collect());
    let mut child = krgd.spawn("krg config watch k");
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), Some(Signal::SIGPIPE as i32));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    let krgd = Krgd::start();
    krgd.endless("backup", vec![Ok(Piece { data: b"half".to_vec(), version: 1 })]);
    let path = krgd.dir().join("b");
    let mut child = krgd.spawn(&format!("krg meta backup {}", path.display()));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let written = || {
        let all = std::fs::read_dir(krgd.dir()).unwrap().map(|e| e.unwrap());
        all.filter(|e| e.file_name().to_string_lossy().starts_with(".krg-backup-"))
            .any(|e| e.metadata().is_ok_and(|m| m.len() == 4))
    };
    while !written() {
        assert!(std::time::Instant::now() < deadline, "the first piece is not written");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    interrupt(&child);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(err.contains("interrupted"), "{err}");
    let left: Vec<_> = std::fs::read_dir(krgd.dir()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the socket: {left:?}");
}
