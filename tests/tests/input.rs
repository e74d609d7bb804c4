//! Bad input gets a clear error, and loses nothing.

use krg_tests::{LAB, Lab, Said, bin_dir, can_run, krg, run};
use std::process::Command;

#[track_caller]
fn refused(said: &Said, words: &[&str]) {
    assert_ne!(said.code, 0, "{said:?}");
    assert_ne!(said.code, 101, "a panic is no answer: {said:?}");
    for word in words {
        assert!(said.err.contains(word), "`{word}` is not in: {}", said.err);
    }
}

fn krgd(config: &str, options: &[&str]) -> Said {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("krg.toml");
    std::fs::write(&path, config).expect("it is written");
    run(Command::new(bin_dir().join("krgd")).arg("--config").arg(&path).args(options))
}

#[test]
fn configuration_errors_name_the_line() {
    let good = krgd("node_id = 3\n", &["--check"]).ok();
    assert!(good.contains("node_id = 3") && good.contains("forget_after_s"), "{good}");
    refused(&krgd("node_id = 3\n\nnode_name = 'x'\n", &["--check"]), &["line 3", "node_name"]);
    refused(&krgd("[view]\nmont = 'x'\n", &["--check"]), &["line 2", "mont", "mount"]);
    refused(&krgd("node_id = 'x'\n", &["--check"]), &["line 1"]);
    refused(&krgd("node_id = 256\n", &["--check"]), &["256"]);
    // Nodes were once listed in the file: the old key is named, and what there is now.
    let peers = krgd("[[peer]]\nid = 1\naddress = '127.0.0.1:1'\n", &["--check"]);
    refused(&peers, &["line 1", "`peer`", "state_dir"]);
    refused(&krgd("= [", &["--check"]), &["line 1"]);
    let said = run(Command::new(bin_dir().join("krgd")).args(["--config", "/no/such/file"]));
    refused(&said, &["/no/such/file"]);
}

#[test]
fn every_key_is_read_and_bounded() {
    let text = "state_dir = '/s'\nadvertise = '192.0.2.1:7600'\nmetrics = '127.0.0.1:9600'\n\
                nodes_min = 3\ncertificate_hours = 0.5\nsession = 12\ncluster = 'attic'\n";
    let shown = krgd(text, &["--check"]).ok();
    let lines = ["state_dir = \"/s\"", "advertise = \"192.0.2.1:7600\"", "nodes_min = 3"];
    for line in lines.iter().chain(&["metrics = \"127.0.0.1:9600\"", "certificate_hours = 0.5"]) {
        assert!(shown.contains(line), "`{line}` is not in {shown}");
    }
    for (bad, words) in [
        ("state_dir = 7", &["line 1"][..]),
        ("advertise = '0.0.0.0:7600'", &["advertise", "cannot reach"]),
        ("advertise = '192.0.2.1:0'", &["advertise", "cannot reach"]),
        ("advertise = 'node1'", &["line 1"]),
        ("metrics = '9600'", &["line 1"]),
        ("metrics = 9600", &["line 1"]),
        ("nodes_min = 0", &["nodes_min", "1 to 255"]),
        ("nodes_min = 256", &["nodes_min", "1 to 255"]),
        ("nodes_min = -1", &["line 1"]),
        ("certificate_hours = 0", &["certificate_hours"]),
        ("certificate_hours = nan", &["certificate_hours"]),
        ("certificate_hours = 1e9", &["certificate_hours", "87600"]),
        ("session = 10000", &["session", "9999"]),
        ("cluster = 'a b'", &["cluster", "a b"]),
        ("listen = 'nowhere'", &["line 1"]),
    ] {
        refused(&krgd(bad, &["--check"]), words);
    }
}

#[test]
fn unknown_commands_and_flags_are_named() {
    refused(&run(krg().arg("migrat")), &["migrat"]);
    refused(&run(krg().args(["nodes", "status", "--bogus"])), &["--bogus"]);
    refused(&run(krg().args(["nodes", "status", "-n", "3-1"])), &["3-1"]);
    refused(&run(krg().args(["ps", "--simulate", "0"])), &["1 to 255"]);
    refused(&run(krg().args(["ps", "--simulate", "many"])), &["1 to 255"]);
    refused(&run(krg().args(["lab", "start", "--name", "../x"])), &["../x"]);
    refused(&run(krg().args(["exec"])), &["COMMAND"]);
    for sub in ["ps", "exec", "nodes", "doctor", "lab"] {
        let help = run(krg().args([sub, "--help"])).ok();
        assert!(help.contains("Usage"), "{sub}: {help}");
    }
    assert!(run(krg().args(["ps", "--help"])).ok().contains("Examples"));
}

#[test]
fn simulated_nodes_need_no_daemon() {
    let table = run(krg().args(["ps", "--simulate", "3"])).ok();
    let pid = (3 << 22 | std::process::id()).to_string();
    let rows = table.lines().filter(|l| l.split_whitespace().nth(2) == Some(&*pid));
    assert_eq!(rows.count(), 1, "this process on node 3: {table}");
}

#[test]
fn man_pages_and_completions_are_made() {
    let dir = tempfile::tempdir().expect("a folder");
    run(krg().arg("man").arg(dir.path())).ok();
    for page in ["krg.1", "krg-ps.1", "krg-exec.1", "krg-nodes.1", "krgd.8", "krg-proc.5"] {
        let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(text.contains(".SH"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(krg().args(["completions", shell])).ok().contains("nodes"), "{shell}");
    }
}

#[test]
fn commands_in_a_cluster_say_what_is_wrong() {
    if !can_run("commands_in_a_cluster", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    refused(&lab.sh(1, "krg nodes status -n 1,9"), &["no node 9", "1,2"]);
    refused(&lab.sh(1, "krgadm nodes status -n 9"), &["no node 9"]);
    refused(&lab.sh(1, "krgadm nodes stat"), &["stat"]);
    assert_eq!(lab.sh(1, "krgadm nodes status").ok(), "1:online\n2:online\n");
    assert_eq!(lab.sh(1, "krgadm nodes").ok(), "1:online\n2:online\n");
    assert_eq!(lab.sh(1, "krgadm nodes -n 2").ok(), "2:online\n");
    assert_eq!(lab.sh(1, "krgadm cluster").ok(), "status: up on 2 nodes\n");
    // Names that are not there.
    for path in ["4194304", "8388999", "16777217", "nodes/node3", "nodes/node01", "999999999999"]
    {
        let said = lab.sh(1, &format!("cat /cluster/proc/{path}/stat"));
        refused(&said, &["No such file"]);
    }
    assert_eq!(lab.view(1, "ps -q 8388999").code, 1);
    refused(&lab.sh(1, "echo 1 > /cluster/proc/stat"), &[]);
    refused(&lab.sh(1, "mkdir /cluster/proc/x; rm /cluster/proc/stat"), &[]);
    // Mount points.
    let mount = |dir: &str| lab.sh(1, &format!("mount -t krgproc none {dir}"));
    refused(&mount("/mnt/none"), &["/mnt/none", "mkdir"]);
    refused(&mount("/cluster/proc"), &["busy"]);
    refused(&lab.sh(1, "mount -t krgproc -o bogus=1 none /mnt"), &["bogus=1"]);
    lab.sh(1, "mkdir /mnt/v && mount -t krgproc none /mnt/v && test -e /mnt/v/stat").ok();
    refused(&mount("/mnt/v"), &["busy"]);
    lab.sh(1, "cd /mnt/v && ! umount /mnt/v && test -e /mnt/v/.local/stat").ok();
    let line = "p=$(pgrep -n -x krg-mount); umount /mnt/v && ! mountpoint -q /mnt/v && \
                timeout 5 tail --pid=$p -f /dev/null";
    lab.sh(1, line).ok();
    // A second daemon, and a port that is taken.
    refused(&lab.sh(1, "krgd"), &["another krgd"]);
    let line = "printf 'run_dir = \"/tmp/r\"\\nlisten = \"10.91.1.1:7600\"\\n' > /tmp/k.toml; \
                krgd --config /tmp/k.toml";
    refused(&lab.sh(1, line), &["10.91.1.1:7600"]);
    let line = "printf 'run_dir = \"/tmp/r\"\\nlisten = \"10.91.1.1:7700\"\\n' > /tmp/k.toml; \
                krgd --config /tmp/k.toml";
    refused(&lab.sh(1, line), &["another krgd", "/var/lib/krg"]);
    assert_eq!(
        lab.sh(1, "cat /cluster/proc/nodes/nrnodes").ok(),
        "ONLINE:2\nPRESENT:2\nPOSSIBLE:2\n"
    );
}

/// A krgd beside the node's own, for two seconds.
const BESIDE: &str = "run_dir = \"/tmp/rb\"\nstate_dir = \"/tmp/sb\"\n\
                      listen = \"127.0.0.1:7609\"\n[view]\nmount = \"\"\n\
                      [mfs]\nmount = \"\"\n";

#[test]
fn kerrighed_nodes_is_read_and_its_bad_lines_are_named() {
    if !can_run("kerrighed_nodes", &LAB) {
        return;
    }
    let lab = Lab::start(1);
    let krgd = |nodes: &str| {
        let files = format!("printf '%s' '{nodes}' > /etc/kerrighed_nodes; ");
        let config = format!("printf '%s' '{BESIDE}' > /tmp/kb.toml; ");
        lab.sh(1, &format!("{files}{config}timeout 2 krgd --config /tmp/kb.toml"))
    };
    for (bad, words) in [
        ("session=0\n", &["line 1", "1 to 9999"][..]),
        ("# fine\nsession=10000\n", &["line 2", "1 to 9999"]),
        ("session=x\n", &["line 1", "not a number"]),
        ("nbmin=256\n", &["line 1", "nbmin"]),
        ("nbmax=3\n", &["line 1", "nbmax"]),
        ("node1:1\n\nnode2\n", &["line 3", "hostname:nodeid"]),
        ("node1:0\n", &["line 1"]),
        ("node1:1\nnode2:1\n", &["line 2", "twice"]),
        ("node1:1\nnode1:2\n", &["line 2", "node1", "twice"]),
        (":1\n", &["line 1"]),
    ] {
        let said = krgd(bad);
        refused(&said, words);
        refused(&said, &["/etc/kerrighed_nodes"]);
    }
    assert_ne!(lab.sh(1, "ls /tmp/sb").code, 0, "nothing was made of any of them");
    let checked = lab.sh(1, "krgd --config /tmp/kb.toml --check");
    refused(&checked, &["/etc/kerrighed_nodes", "line 1"]);
    let good = "# a cluster\nsession=12\nnbmin=1\nother:4\nnode1 : 5 # this one\n";
    assert_eq!(krgd(good).code, 124, "it runs until it is told to end");
    let checked = lab.sh(1, "krgd --config /tmp/kb.toml --check").ok();
    assert!(checked.contains("session = 12") && checked.contains("node_id = 5"), "{checked}");
    let member = lab.sh(1, "cat /tmp/sb/identity/member.json").ok();
    assert!(member.contains("\"session\": 12,") && member.contains("\"node\": 5,"), "{member}");
    // What the node's own krgd was started with stays as it is.
    assert_eq!(lab.sh(1, "krgadm nodes").ok(), "1:online\n");
}

#[test]
fn a_half_written_identity_is_named_and_left_as_it_is() {
    if !can_run("a_half_written_identity", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    let member = "grep '\"member\"' /var/lib/krg/identity/member.json | head -1";
    let before = lab.sh(2, member).ok();
    lab.stop_krgd(2);
    lab.sh(2, "cp -a /var/lib/krg /tmp/good").ok();
    let dir = "/var/lib/krg/identity";
    let ruin = |line: &str, words: &[&str]| {
        lab.sh(2, &format!("cd {dir} && {line} && cp -a /var/lib/krg /tmp/bad")).ok();
        let said = lab.sh(2, "timeout 10 krgd");
        refused(&said, words);
        assert_ne!(said.code, 124, "{line}: it runs");
        // Neither repaired nor removed: somebody may still want to look at it.
        lab.sh(2, "diff -r /var/lib/krg /tmp/bad && rm -rf /tmp/bad /var/lib/krg/*").ok();
        lab.sh(2, "cp -a /tmp/good/. /var/lib/krg").ok();
    };
    for name in ["node.key", "node.crt", "ca.crt", "member.json"] {
        let path = format!("{dir}/{name}");
        for bytes in ["0", "1", "-1", "/2"] {
            let size = match bytes {
                "/2" => format!("$(($(stat -c %s {name}) / 2))"),
                "-1" => "-30".to_owned(),
                bytes => bytes.to_owned(),
            };
            ruin(&format!("truncate -s {size} {name}"), &[&path, "backup", "krg join"]);
        }
        ruin(&format!("rm {name}"), &[&path, "missing"]);
        ruin(&format!("head -c 300000 /dev/zero > {name}"), &[&path]);
    }
    ruin("cp ca.crt node.crt", &["node.crt"]);
    ruin("sed -i s/member/nember/ member.json", &["member.json"]);
    ruin("chmod 644 node.key", &["node.key", "chmod 600"]);
    lab.fault("heal", 2);
    assert_eq!(lab.sh(2, member).ok(), before, "it is the member that it was");
    assert_eq!(lab.sh(1, "krgadm nodes").ok(), "1:online\n2:online\n");
}

#[test]
fn a_user_who_is_not_root_has_sessions_too() {
    if !can_run("a_user_who_is_not_root", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    let nobody = |line: &str| {
        let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"];
        lab.exec(1, &[&user[..], &[line]].concat())
    };
    assert!(nobody("krg ps -e").ok().contains("8388609"), "node 2's init is listed");
    assert_eq!(nobody("krg exec -- id -u").ok(), "65534\n");
    assert_eq!(nobody("krg exec -- cat /proc/self/comm").ok(), "cat\n");
    refused(&nobody("krg exec -- cat /proc/8388609/environ"), &["Permission denied"]);
    assert_eq!(nobody("krg exec -- python3 -c 'import os; print(os.getsid(8388609))'").code, 0);
    assert!(nobody("krg nodes status").ok().contains("node2"));
}

#[test]
fn krgd_says_what_it_lacks() {
    if !can_run("krgd_says_what_it_lacks", &LAB) {
        return;
    }
    let lab = Lab::start(1);
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    refused(&lab.sh(1, &format!("{nobody} krgd")), &["root"]);
    refused(&lab.sh(1, &format!("{nobody} mount -t krgproc none /mnt")), &[]);
    // Without /dev/fuse it says so, serves the other nodes, and mounts when it is back.
    let line = "pkill -x krgd; p=$(pgrep -x krgd-or-none); mkdir -p /tmp/nodev; \
                unshare -m sh -c 'mount --bind /dev/null /dev/fuse; \
                printf \"listen = \\\"127.0.0.1:7601\\\"\\nrun_dir = \\\"/tmp/r2\\\"\\n\
                state_dir = \\\"/tmp/s2\\\"\\n[view]\\nmount = \\\"/mnt/x\\\"\\n\
                [mfs]\\nmount = \\\"\\\"\\n\" > /tmp/k2.toml; \
                timeout 2 krgd --config /tmp/k2.toml' 2>&1; true";
    let said = lab.sh(1, line).ok();
    assert!(said.contains("/mnt/x") && said.contains("krg doctor"), "{said}");
    let doctor = lab.sh(1, "krg doctor --json").out;
    assert!(doctor.contains("\"fuse\""), "{doctor}");
}
