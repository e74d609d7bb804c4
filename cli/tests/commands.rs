//! The program as built, against a krgd that writes down what it is asked: what each command asks,
//! what it prints, how it ends.

#[path = "commands/server.rs"]
mod server;

#[path = "commands/cluster.rs"]
mod cluster;
#[path = "commands/config.rs"]
mod config;
#[path = "commands/nodes.rs"]
mod nodes;
#[path = "commands/old_names.rs"]
mod old_names;

use server::{Krgd, run};

/// Without a krgd every command says so and fails; none of them hangs.
#[test]
fn no_daemon_is_said() {
    let nowhere = [("KRG_SOCKET", "/nonexistent/krgd.sock")];
    let token = "k".repeat(64);
    for line in [
        "krg nodes",
        "krg nodes del --all",
        "krg cluster status",
        "krg cluster init --name x",
        "krg cluster poweroff",
        "krg cluster rotate-ca",
        "krg cluster recover --force",
        "krg cluster token create",
        "krg leave",
        "krg config get a",
        "krg config set a b",
        "krg config watch a",
        "krg meta backup -",
        "krg metrics",
        "setpe -r",
        "setpe -off",
        "mosctl whois",
        "mosctl nomfs",
        "clusternode_num",
        "clusternode_getstate 1",
        "clustername",
        &format!("krg join n1 --token {token}"),
    ] {
        let said = run(&line.split(' ').collect::<Vec<_>>(), "", &nowhere);
        let said = said.failed(1, &["/nonexistent/krgd.sock", "No such file"]);
        assert_eq!(said.out, "", "{line}");
    }
}

#[test]
fn a_krgd_that_is_stuck_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("krgd.sock");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    for line in ["krg nodes", "krg nodes add -a", "krg cluster status", "clusternode_num"] {
        let begun = std::time::Instant::now();
        let words: Vec<&str> = line.split(' ').collect();
        let said = run(&words, "", &[("KRG_SOCKET", &path.to_string_lossy())]);
        said.failed(1, &["krgd does not answer within 2 s"]);
        assert!(begun.elapsed().as_secs() < 5, "{line}");
    }
}

#[test]
fn refusals_of_krgd_are_its_words() {
    let krgd = Krgd::start();
    let denied = krg_rpc::tonic::Status::permission_denied("only root may");
    krgd.answer::<krg_rpc::proto::control::Done>("leave", Err(denied));
    let said = krgd.run("krg leave").failed(1, &[]);
    assert_eq!(said.err, "krg: only root may: use sudo\n");
    krgd.run("krg cluster poweroff").failed(1, &["restart it if krg was upgraded"]);
}

#[test]
fn bad_command_lines_ask_nothing() {
    let krgd = Krgd::start();
    let long = "k".repeat(300);
    for (line, words) in [
        ("krg nodes status -n 3-1", vec!["3-1"]),
        ("krg nodes status -n 0", vec!["`0` is not a node number (1 to 255)"]),
        ("krg nodes del -n 1,256", vec!["256"]),
        ("krg nodes add -c 0", vec!["0", "1..=255"]),
        ("krg nodes add -c 256", vec!["256"]),
        ("krg nodes add", vec!["One of --all"]),
        ("krg nodes add -a -c 1", vec!["Only one of --all, --count, --total or --nodes"]),
        ("krg nodes add -a --timeout soon", vec!["soon", "90s, 15m, 24h or 7d"]),
        ("krg nodes del -a --force", vec!["--nodes"]),
        ("krg cluster init --name a/b", vec!["1 to 64 letters"]),
        ("krg cluster init --session 10000", vec!["10000"]),
        ("krg cluster init --node 256", vec!["256"]),
        ("krg cluster init --nodes-min 0", vec!["0"]),
        ("krg cluster token create --valid 1w", vec!["1w", "24h"]),
        ("krg cluster token create --valid 31d", vec!["30d at most"]),
        ("krg cluster token create --count 256", vec!["256"]),
        (&format!("krg cluster token create --note {long}"), vec!["256 bytes"]),
        (&format!("krg cluster token revoke {long}"), vec!["token list"]),
        ("krg join n1", vec!["token create"]),
        ("krg join n1 --token abc123", vec!["no whole token"]),
        ("krg join n1:0 --token -", vec!["no port"]),
        ("krg join a/b --token -", vec!["no address"]),
        ("krg join n1 --node 0", vec!["1 to 255"]),
        (&format!("krg config get {long}"), vec!["256 bytes"]),
        (&format!("krg config set a {}", "v".repeat(8193)), vec!["8192 bytes"]),
        ("krg config set a b --if-revision -1", vec!["-1"]),
        ("krg config list a\tb", vec!["no spaces"]),
        ("clusternode_getstate 256", vec!["256"]),
        ("clusternode_getstate", vec!["<N>"]),
        ("mosctl isup 300", vec!["300"]),
        ("mosctl getload", vec!["getload", "whois", "isup", "nomfs"]),
        ("setpe -w -off", vec!["--off"]),
        ("setpe -f x", vec!["-w"]),
    ] {
        krgd.run(line).failed(2, &words);
    }
    for method in ["status", "nodes_add", "nodes_del", "init", "token_create", "join"] {
        assert_eq!(krgd.times(method), 0, "{method}");
    }
    for method in ["config_get", "config_set", "leave", "map_set"] {
        assert_eq!(krgd.times(method), 0, "{method}");
    }
}

#[test]
fn every_command_has_help_with_examples_and_a_page() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_string_lossy().into_owned();
    run(&["krg", "man", &path], "", &[]).ok();
    for line in [
        "krg nodes",
        "krg nodes status",
        "krg nodes add",
        "krg nodes del",
        "krg cluster status",
        "krg cluster init",
        "krg cluster poweroff",
        "krg cluster rotate-ca",
        "krg cluster recover",
        "krg cluster token create",
        "krg cluster token list",
        "krg cluster token revoke",
        "krg join",
        "krg leave",
        "krg config get",
        "krg config list",
        "krg config set",
        "krg config delete",
        "krg config watch",
        "krg meta backup",
        "krg meta restore",
        "krg metrics",
        "krgadm",
        "setpe",
        "mosctl",
    ] {
        let help: Vec<&str> = line.split(' ').chain(["--help"]).collect();
        let help = run(&help, "", &[]).ok();
        assert!(help.contains("Usage: ") && help.contains("Examples:"), "{line}: {help}");
        let page = dir.path().join(format!("{}.1", line.replace(' ', "-")));
        let page = std::fs::read_to_string(&page).expect("its page");
        assert!(page.contains(".SH SYNOPSIS"), "{line}: {page}");
    }
    for name in ["clusternode_num", "clusternode_getstate", "clustername"] {
        assert!(dir.path().join(format!("{name}.1")).exists(), "{name}");
        assert!(run(&["krg", "names"], "", &[]).ok().lines().any(|l| l == name), "{name}");
    }
}
