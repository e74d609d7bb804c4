//! The directory with an entry for each node, and the mounts in it that first uses make. One lab;
//! a step that fails does not hide those after it.

use krg_tests::checks::Checks;
use krg_tests::{LAB, Lab, Said, can_run, within};
use std::time::Duration;

/// What dies is there again within this.
const SOON: Duration = Duration::from_secs(8);

/// Of a big cluster.
const NODES: u32 = 32;
/// What a node that is down looks like.
const NOBODY: &str = "d---------";

/// One of them.
type Step = fn(&Lab);

#[test]
fn file_trees_are_reached_by_number() {
    if !can_run("file_trees_are_reached_by_number", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    for node in 1..=3 {
        lab.sh(node, &format!("echo {node} > /node")).ok();
    }
    let mut checks = Checks::default();
    let steps: [(&str, Step); 12] = [
        ("looking", looking_mounts_nothing),
        ("first uses", every_first_use_crosses),
        ("sessions", sessions_and_users_cross),
        ("names", only_members_have_names),
        ("selected", selected_is_inherited),
        ("dead mounts", a_mount_that_dies_comes_back),
        ("krgd restarts", mounts_outlive_krgd),
        ("umount", umount_takes_the_trees_along),
        ("fstab", fstab_and_options),
        ("backups", what_stays_on_one_file_system_stays_out),
        ("a dead node", a_dead_node_looks_dead_and_holds_nobody_up),
        ("a node taken out", a_removed_nodes_tree_is_unmounted),
    ];
    for (name, step) in steps {
        checks.check(name, || step(&lab));
    }
    checks.check("the end", || nothing_stays(lab));
    checks.finish();
}

/// Of thirty-two nodes ten die, while they are in use: the listing is there in time all the same.
#[test]
fn a_third_of_a_cluster_may_be_dead() {
    if !can_run("a_third_of_a_cluster_may_be_dead", &LAB) {
        return;
    }
    let lab = Lab::start(NODES);
    lab.sh(1, "ls -d /mfs/2*/tmp /mfs/30/tmp").ok();
    let listed = || {
        let said = lab.sh(1, "LC_ALL=C ls -l /mfs");
        assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
        assert!(said.took < Duration::from_secs(1), "ls -l took {:?}", said.took);
        said.out
    };
    assert_eq!(listed().matches(NOBODY).count(), 0);
    let dead = 21..=30;
    std::thread::scope(|scope| {
        for node in dead.clone() {
            let lab = &lab;
            scope.spawn(move || lab.fault("kill", node));
        }
    });
    let wanted = dead.count();
    within(SOON, || {
        let said = listed();
        assert_eq!(said.lines().filter(|l| l.starts_with('d')).count() as u32, NODES, "{said}");
        if said.matches(NOBODY).count() == wanted { Ok(()) } else { Err(said) }
    });
    let line = format!("cat /mfs/{NODES}/etc/hostname /mfs/10/etc/hostname");
    assert_eq!(lab.sh(1, &line).ok(), format!("node{NODES}\nnode10\n"));
}

/// Numbers of the nodes whose tree is mounted in node 1.
fn mounted(lab: &Lab) -> Vec<String> {
    let table = lab.sh(1, "cat /proc/self/mountinfo").ok();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut nodes: Vec<String> =
        points.filter_map(|at| at.strip_prefix("/mfs/")).map(str::to_owned).collect();
    nodes.sort();
    nodes
}

/// As before the first use of anything: a tree may be on its way still.
fn unmount_all(lab: &Lab) {
    within(SOON, || {
        for node in mounted(lab) {
            lab.sh(1, &format!("umount -l /mfs/{node}"));
        }
        let left = mounted(lab);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // The kernel may take the entry of a mounted tree for that a moment longer, and mkdir(2) does
    // not walk again.
    std::thread::park_timeout(Duration::from_millis(150));
}

/// A line in node 1 that must not take long.
#[track_caller]
fn quick(lab: &Lab, line: &str) -> Said {
    let said = lab.exec(1, &["timeout", "5", "bash", "-c", line]);
    assert_ne!(said.code, 124, "{line} hangs");
    said
}

fn looking_mounts_nothing(lab: &Lab) {
    let listed = quick(lab, "ls -la /mfs").ok();
    for name in ["1", "2", "3", ".selected", "here -> 1", "home -> 1", "magic -> 1"] {
        assert!(listed.lines().any(|l| l.ends_with(&format!(" {name}"))), "{name}: {listed}");
    }
    assert_eq!(listed.matches("dr-xr-xr-x 2 root root").count(), 3, "{listed}");
    quick(lab, "stat /mfs/2 /mfs/*; find /mfs -maxdepth 1; df -a; stat -f /mfs; test -d /mfs/3")
        .ok();
    let inodes = "stat -c %i /mfs /mfs/1 /mfs/2 /mfs/3 | tr '\\n' ' '";
    assert_eq!(quick(lab, inodes).ok(), "1 101 102 103 ");
    assert_eq!(mounted(lab), [""; 0]);
}

fn every_first_use_crosses(lab: &Lab) {
    for (line, out) in [
        ("ls /mfs/2 | grep -x node", "node\n"),
        ("cd /mfs/2 && cat node", "2\n"),
        ("cat /mfs/2/node", "2\n"),
        ("stat -c %F /mfs/2/node", "regular file\n"),
        ("stat -f -c %n /mfs/2", "/mfs/2\n"),
        ("find /mfs/2 -maxdepth 1 -name node", "/mfs/2/node\n"),
        ("test -x /mfs/2; echo $?", "0\n"),
        ("python3 -c 'import os; print(os.access(\"/mfs/2/node\", os.R_OK))'", "True\n"),
        ("python3 -c 'import os; print(\"node\" in os.listdir(\"/mfs/2\"))'", "True\n"),
        ("tar cf - -C /mfs/2 node | tar tf -", "node\n"),
        ("cat /mfs/2/no-such-name 2>&1 | grep -o 'No such file'", "No such file\n"),
        ("cat /mfs/2/no/such/name 2>&1 | grep -o 'No such file'", "No such file\n"),
    ] {
        unmount_all(lab);
        assert_eq!(quick(lab, line).ok(), out, "{line}");
        assert_eq!(mounted(lab), ["2"], "{line}");
    }
    // Those that make something: whatever the tree says, it is asked.
    for line in ["mkdir", "mkfifo", "ln -s x", "touch", "chmod 644", "rm -f"] {
        unmount_all(lab);
        let said = quick(lab, &format!("{line} /mfs/2/krg-test"));
        assert!(!said.err.contains("Stale"), "{line}: {said:?}");
        assert_eq!(mounted(lab), ["2"], "{line}");
        quick(lab, "rm -rf /mfs/2/krg-test");
    }
    // Many at once share one mount.
    unmount_all(lab);
    let many = "for i in $(seq 20); do cat /mfs/2/node & done; wait";
    assert_eq!(quick(lab, many).ok(), "2\n".repeat(20));
    assert_eq!(mounted(lab), ["2"]);
    assert_eq!(quick(lab, "cat /mfs/here/node /mfs/1/node /mfs/3/node").ok(), "1\n1\n3\n");
}

fn sessions_and_users_cross(lab: &Lab) {
    unmount_all(lab);
    assert_eq!(quick(lab, "krg exec -- cat /mfs/2/node").ok(), "2\n");
    let held = "krg exec -- sh -c 'umount -l /mfs/3 2>/dev/null; cat /mfs/3/node'";
    assert_eq!(quick(lab, held).ok(), "3\n");
    unmount_all(lab);
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    assert_eq!(quick(lab, &format!("{nobody} cat /mfs/2/node")).ok(), "2\n");
    unmount_all(lab);
    let container = "unshare -p -f --propagation slave --mount-proc";
    assert_eq!(quick(lab, &format!("{container} cat /mfs/2/node")).ok(), "2\n");
    assert!(quick(lab, &format!("{container} ls -l /mfs")).ok().contains("selected -> 1"));
}

fn only_members_have_names(lab: &Lab) {
    for name in ["0", "4", "02", "256", "node2", "x"] {
        let said = quick(lab, &format!("ls /mfs/{name}"));
        assert!(said.code != 0 && said.err.contains("No such file"), "{name}: {said:?}");
    }
    for line in ["touch /mfs/x", "mkdir /mfs/9", "rm /mfs/.selected", "rm /mfs/here"] {
        let said = quick(lab, line);
        assert!(said.code != 0 && said.err.contains("Read-only"), "{line}: {said:?}");
    }
}

fn selected_is_inherited(lab: &Lab) {
    let line = "readlink /mfs/selected; echo 2 > /mfs/.selected; readlink /mfs/selected; \
                sh -c 'sh -c \"cat /mfs/selected/node; :\"; :'; \
                (echo 3 > /mfs/.selected; cat /mfs/selected/node; cat /mfs/.selected); \
                cat /mfs/.selected";
    let said = quick(lab, line).ok();
    // The subshell is a process of its own, and what it selects is its own.
    assert_eq!(said, "1\n2\n2\n3\n3\n2\n");
    assert_eq!(quick(lab, "readlink /mfs/selected").ok(), "1\n", "of nobody else");
    for bad in ["0", "4", "x", "", "2 3", "-1", "99999999999999999999", "02"] {
        let said = quick(lab, &format!("export LC_ALL=C; echo '{bad}' > /mfs/.selected"));
        assert!(said.code != 0 && said.err.contains("Invalid argument"), "{bad}: {said:?}");
    }
}

/// The processes of node 1 that serve a mount of the trees: their pids, by their arguments.
fn servers(lab: &Lab) -> Vec<(String, String)> {
    let lines = lab.sh(1, "pgrep -x -a krg-mfs").out;
    let words = lines.lines().filter_map(|l| l.split_once(' '));
    words.map(|(pid, args)| (args.to_owned(), pid.to_owned())).collect()
}

#[track_caller]
fn kill(lab: &Lab, what: &str) {
    let all = servers(lab);
    let found = all.iter().find(|(args, _)| args.ends_with(what));
    let (_, pid) = found.unwrap_or_else(|| panic!("{what} in {all:?}"));
    lab.sh(1, &format!("kill -KILL {pid}")).ok();
}

fn a_mount_that_dies_comes_back(lab: &Lab) {
    let reads = |path: &str, text: &str| {
        within(SOON, || match quick(lab, &format!("cat {path}")) {
            said if said.out == text => Ok(()),
            said => Err(format!("{said:?}")),
        });
    };
    reads("/mfs/2/node", "2\n");
    kill(lab, "mount-node /mfs/2 2");
    reads("/mfs/2/node", "2\n");
    kill(lab, "mount-mfs /mfs");
    reads("/mfs/2/node", "2\n");
    reads("/mfs/3/node", "3\n");
    // All at once.
    lab.sh(1, "pkill -KILL -x krg-mfs").ok();
    reads("/mfs/2/node", "2\n");
    within(SOON, || match lab.sh(1, "grep -c ' /mfs ' /proc/self/mountinfo").out.as_str() {
        "1\n" => Ok(()),
        other => Err(format!("{other} directories")),
    });
    lab.sh(1, "pkill -KILL -x krg-files").ok();
    within(SOON, || match lab.sh(1, "pgrep -c -x krg-files").out.as_str() {
        "1\n" => Ok(()),
        other => Err(format!("{other} file servers")),
    });
}

fn mounts_outlive_krgd(lab: &Lab) {
    quick(lab, "cat /mfs/2/node /mfs/3/node").ok();
    let before = servers(lab);
    let files = lab.sh(1, "pgrep -x krg-files").ok();
    assert_eq!(before.len(), 3, "{before:?}");
    lab.sh(1, "pkill -KILL -x krgd").ok();
    assert_eq!(quick(lab, "cat /mfs/2/node").ok(), "2\n", "while krgd is away");
    within(SOON, || match lab.sh(1, "krg nodes").code {
        0 => Ok(()),
        code => Err(format!("krg nodes: {code}")),
    });
    assert_eq!(servers(lab), before, "they go on serving");
    assert_eq!(lab.sh(1, "pgrep -x krg-files").ok(), files);
    assert_eq!(quick(lab, "cat /mfs/2/node").ok(), "2\n");
    // The new krgd has them in its care.
    kill(lab, "mount-node /mfs/3 3");
    within(SOON, || match quick(lab, "cat /mfs/3/node") {
        said if said.out == "3\n" => Ok(()),
        said => Err(format!("{said:?}")),
    });
    unmount_all(lab);
    assert_eq!(quick(lab, "cat /mfs/2/node").ok(), "2\n");
}

fn umount_takes_the_trees_along(lab: &Lab) {
    quick(lab, "cat /mfs/2/node").ok();
    let held = quick(lab, "export LC_ALL=C; cd /mfs/2 && umount /mfs");
    assert!(held.code != 0 && held.err.contains("busy"), "{held:?}");
    quick(lab, "cat /mfs/2/node && umount /mfs && ! mountpoint -q /mfs").ok();
    within(SOON, || match servers(lab) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(quick(lab, "ls -A /mfs").ok(), "");
    quick(lab, "mount -t mfs none /mfs && cat /mfs/2/node").ok();
    // Lazily, while somebody is in it: he is done undisturbed, and the place is free.
    let line =
        "cd /mfs/2 && umount -l /mfs && mount -t mfs none /mfs && cat /mfs/3/node && cat node";
    assert_eq!(quick(lab, line).ok(), "3\n2\n");
    within(SOON, || match servers(lab).len() {
        2 => Ok(()),
        other => Err(format!("{other} processes: {:?}", servers(lab))),
    });
    // A second one elsewhere.
    quick(lab, "mkdir -p /mnt/m && mount -t mfs none /mnt/m && cat /mnt/m/2/node").ok();
    quick(lab, "umount /mnt/m && ! mountpoint -q /mnt/m").ok();
}

fn fstab_and_options(lab: &Lab) {
    quick(lab, "echo 'none /mfs mfs defaults 0 0' >> /etc/fstab; mount /mfs; mount -a").ok();
    quick(lab, "umount /mfs && mount /mfs && cat /mfs/2/node && mount -a").ok();
    quick(lab, "umount /mfs && mount -t mfs -o dfsa=1,soft any /mfs && cat /mfs/2/node").ok();
    for bad in ["harder", "dfsa=7", "bogus"] {
        let said = quick(lab, &format!("mkdir -p /mnt/n; mount -t mfs -o {bad} none /mnt/n"));
        assert!(said.code != 0 && said.err.contains(bad), "{bad}: {said:?}");
    }
    let said = quick(lab, "mount -t mfs none /mnt/krg-missing");
    assert!(said.code != 0 && said.err.contains("/mnt/krg-missing"), "{said:?}");
}

/// What is told to stay on one file system sees the directory, and nothing of any node.
fn what_stays_on_one_file_system_stays_out(lab: &Lab) {
    let line = "mkdir -p /tmp/box/m && echo x > /tmp/box/file && mount -t mfs none /tmp/box/m";
    lab.sh(1, &format!("{line} && cat /tmp/box/m/2/node /tmp/box/m/3/node")).ok();
    for (line, wanted) in [
        ("find box -xdev | sort", "box\nbox/file\nbox/m\n"),
        ("tar --one-file-system -cf - box | tar t | sort", "box/\nbox/file\nbox/m/\n"),
        ("rsync -ax box/ rsynced && find rsynced | sort", "rsynced\nrsynced/file\nrsynced/m\n"),
        ("cp -ax box copied && find copied | sort", "copied\ncopied/file\ncopied/m\n"),
        ("du -ax box | cut -f2 | sort", "box\nbox/file\n"),
        ("find / -xdev -maxdepth 3 -path \"/mfs*\"", "/mfs\n"),
    ] {
        assert_eq!(quick(lab, &format!("cd /tmp && {line}")).out, wanted, "{line}");
    }
    let said = quick(lab, "df --output=target").ok();
    assert!(said.lines().any(|l| l == "/tmp/box/m/2"), "{said}");
    lab.sh(1, "umount -R /tmp/box/m && rm -r /tmp/box /tmp/rsynced /tmp/copied").ok();
}

fn a_dead_node_looks_dead_and_holds_nobody_up(lab: &Lab) {
    unmount_all(lab);
    lab.fault("kill", 3);
    within(SOON, || {
        let said = quick(lab, "ls -l /mfs");
        assert!(said.took < Duration::from_secs(1), "{said:?}");
        let dead = said.out.lines().any(|l| l.starts_with("d---------") && l.ends_with(" 3"));
        if dead { Ok(()) } else { Err(said.out) }
    });
    for line in ["ls /mfs/3", "cat /mfs/3/node", "stat -f /mfs/3", "cd /mfs/3", "mkdir /mfs/3/x"]
    {
        let said = quick(lab, line);
        assert!(said.code != 0 && said.err.contains("Host is down"), "{line}: {said:?}");
        assert!(said.took < Duration::from_secs(1), "{line}: {:?}", said.took);
    }
    assert_eq!(mounted(lab), [""; 0]);
    assert_eq!(quick(lab, "cat /mfs/2/node").ok(), "2\n");
    lab.fault("heal", 3);
    lab.sh(3, "echo 3 > /node").ok();
    within(SOON, || match quick(lab, "cat /mfs/3/node") {
        said if said.out == "3\n" => Ok(()),
        said => Err(format!("{said:?}")),
    });
}

fn a_removed_nodes_tree_is_unmounted(lab: &Lab) {
    quick(lab, "cat /mfs/2/node /mfs/3/node").ok();
    lab.sh(1, "krg nodes del -n 3").ok();
    within(SOON, || match (mounted(lab), quick(lab, "ls /mfs/3")) {
        (left, said) if left == ["2"] && said.err.contains("No such file") => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    assert_eq!(quick(lab, "cat /mfs/2/node").ok(), "2\n");
}

/// No process is left in the mount namespace of node 1, and with them its mounts are gone.
fn nothing_stays(lab: Lab) {
    let space = lab.sh(1, "readlink /proc/self/ns/mnt").ok();
    drop(lab);
    within(SOON, || {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let there = all.filter_map(|e| std::fs::read_link(e.path().join("ns/mnt")).ok());
        match there.filter(|link| link.to_string_lossy() == space.trim()).count() {
            0 => Ok(()),
            n => Err(format!("{n} processes")),
        }
    });
}
