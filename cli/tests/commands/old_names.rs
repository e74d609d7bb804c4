//! The commands of Kerrighed, MOSIX and OpenSSI, in their words.

use crate::nodes::krgd;
use crate::server::run;
use krg_rpc::proto::control::*;
use krg_rpc::tonic::Status;

#[test]
fn krgadm_tells_of_the_cluster() {
    let krgd = krgd();
    krgd.answer("cluster_status", Ok(ClusterReply::default()));
    assert_eq!(krgd.run("krgadm cluster").ok(), "status: up on 2 nodes\n");
    assert_eq!(krgd.run("krgadm nodes").ok(), "1:online\n2:online\n3:present\n");
    assert_eq!(krgd.run("krgadm nodes status -n 2,4").ok(), "2:online\n4:possible\n");
    krgd.answer("power_off", Ok(Done::default()));
    assert_eq!(krgd.run("krgadm cluster poweroff").ok(), "Shutting down cluster... done\n");
    assert!(!krgd.asked::<PowerOffRequest>("power_off").reboot);
    assert_eq!(krgd.run("krgadm cluster reboot").ok(), "Rebooting cluster... done\n");
    assert!(krgd.asked::<PowerOffRequest>("power_off").reboot);
    krgd.answer::<Done>("power_off", Err(Status::permission_denied("only root may")));
    let said = krgd.run("krgadm cluster reboot").failed(1, &[]);
    assert_eq!(said.out, "Rebooting cluster... fail (only root may: use sudo)\n");

    krgd.answer("cluster_status", Ok(ClusterReply { waiting: true, ..ClusterReply::default() }));
    assert_eq!(krgd.run("krgadm cluster status").ok(), "status: down\n");
    let said = krgd.run("krgadm cluster poweroff").failed(1, &[]);
    assert_eq!(said.out, "Shutting down cluster... fail (cluster not running)\n");
}

#[test]
fn krgadm_without_a_daemon() {
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        run(&words, "", &[("KRG_SOCKET", "/nonexistent/krgd.sock")])
    };
    let not_running = ["Kerrighed is not running: "];
    assert_eq!(run("krgadm cluster").failed(1, &not_running).out, "status: down\n");
    for line in ["krgadm nodes", "krgadm nodes add -a", "krgadm nodes del -n 2"] {
        assert_eq!(run(line).failed(1, &not_running).out, "", "{line}");
    }
    let said = run("krgadm cluster poweroff").failed(1, &[]);
    assert_eq!(said.out, "Shutting down cluster... fail (cluster not running)\n");
    let said = run("krgadm nodes add -n 1 --all").failed(1, &[]);
    let wanted =
        "Only one of --all, --count, --total or --nodes option is supported. Aborting.\n";
    assert_eq!(said.out, wanted);
    run("krgadm nodes add -n 3-1").failed(2, &["3-1"]);
}

#[test]
fn setpe_sets_and_reads_the_map() {
    let krgd = krgd();
    krgd.answer("map_set", Ok(Done::default()));
    let file = krgd.dir().join("map");
    std::fs::write(&file, "# map\n1 10.0.0.1 99\n120 node01 1\n120 10.1.0.1 ALIAS\n").unwrap();
    let path = file.to_str().unwrap();
    let entry = |first, host: &str, count| MapEntry { first, host: host.into(), count };
    let entries = vec![entry(1, "10.0.0.1", 99), entry(120, "node01", 1)];
    let wanted = Map { version: 1, entries };
    let said = krgd.command(&["setpe", "-w", "-f", path, "-c", "-g", "0"], "");
    assert!(said.err.contains("-c has no effect") && said.err.contains("-g has no"), "{said:?}");
    assert!(said.err.contains("ALIAS"), "{said:?}");
    assert_eq!(said.ok(), "");
    assert_eq!(krgd.asked::<Map>("map_set"), wanted);
    krgd.command(&["setpe", "-W", "-f", "-"], "7 ::1 2").ok();
    assert_eq!(krgd.asked::<Map>("map_set").entries, [entry(7, "::1", 2)]);

    let bad = |text: &str, words: &[&str]| {
        krgd.command(&["setpe", "-w", "-f", "-"], text).failed(1, words);
    };
    bad("1 a 1\n300 b 1\n", &["line 2", "`300` is no node number: 1 to 255"]);
    bad("# nothing\n", &["names no node"]);
    bad(&"#\n".repeat(600_000), &["larger than any map"]);
    krgd.command(&["setpe", "-w", "-f", "/nonexistent/map"], "").failed(1, &["/nonexistent/map"]);
    assert_eq!(krgd.times("map_set"), 0);

    krgd.answer("map_get", Ok(wanted));
    assert_eq!(krgd.run("setpe -r").ok(), "1 10.0.0.1 99\n120 node01 1\n");
    krgd.command(&["setpe", "-r", "-f", path], "").ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1 10.0.0.1 99\n120 node01 1\n");
    krgd.answer("leave", Ok(Done::default()));
    krgd.run("setpe -off").ok();
    assert!(!krgd.asked::<LeaveRequest>("leave").force);
}

#[test]
fn mosctl_tells_who_is_who() {
    let krgd = krgd();
    let entries = vec![MapEntry { first: 30, host: "10.9.0.1".into(), count: 9 }];
    krgd.answer("map_get", Ok(Map { version: 1, entries }));
    for (who, id) in [("", 1), (" 2", 2), (" 10.0.0.3", 3), (" n4", 4), (" 10.9.0.3", 32)] {
        let text = krgd.run(&format!("mosctl whois{who}")).ok();
        assert_eq!(text, format!("This is MOSIX #{id}\n"));
    }
    krgd.run("mosctl whois 9").failed(1, &["there is no node 9"]);
    krgd.run("mosctl whois 10.9.0.10").failed(1, &["no node has this name"]);
    krgd.run("mosctl whois 999").failed(1, &["1 to 255"]);
    for (id, answer) in [("", "yes"), (" 2", "yes"), (" 3", "no"), (" 200", "no")] {
        assert_eq!(krgd.run(&format!("mosctl isup{id}")).ok(), format!("{answer}\n"));
    }
}

#[test]
fn mosctl_refuses_files_and_gives_them_again() {
    let krgd = krgd();
    krgd.answer("config_set", Ok(ConfigSetReply { revision: 12, done: true }));
    for (word, key, off) in [
        ("nomfs", "mfs/1/off", "true"),
        ("mfs", "mfs/1/off", "false"),
        ("block", "guests/1/off", "true"),
        ("noblock", "guests/1/off", "false"),
    ] {
        assert_eq!(krgd.run(&format!("mosctl {word}")).ok(), "", "MOSIX's said nothing either");
        let asked = krgd.asked::<ConfigSetRequest>("config_set");
        assert_eq!((asked.key.as_str(), asked.value.as_deref()), (key, Some(off)));
        assert_eq!(asked.if_revision, None);
    }
    let no: Result<ConfigSetReply, _> = Err(Status::permission_denied("only root may do this"));
    krgd.answer("config_set", no);
    krgd.run("mosctl nomfs").failed(1, &["only root"]);
    krgd.run("mosctl nomfs 2").failed(2, &["2"]);
}

#[test]
fn openssi_tells_numbers_states_and_names() {
    let krgd = krgd();
    assert_eq!(krgd.run("clusternode_num").ok(), "1\n");
    assert_eq!(krgd.run("clusternode_getstate 2").ok(), "UP\n");
    krgd.run("clusternode_getstate 3").failed(1, &["does not tell"]);
    krgd.run("clusternode_getstate 9").failed(1, &["there is no node 9"]);
    assert_eq!(krgd.run("clustername").ok(), "attic\n");
    krgd.answer("status", Ok(StatusReply::default()));
    krgd.run("clustername").failed(1, &["no name"]);
}
