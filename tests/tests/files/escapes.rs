//! Ways out of what a node shows, and ways in for who has no certificate: there are none.

use super::place::{far, make, own};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};
use std::time::Duration;

/// How often a name is read while it changes.
const READS: u32 = 10_000;
/// A file server that was killed is there again.
const BACK_MAX: Duration = Duration::from_secs(5);
/// The port of node 2's file server: the one after its daemon's.
const DOOR: &str = "10.91.1.2:7601";

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "esc");
    checks.check("links lead nowhere on the other node", || links(lab));
    checks.check("no proc, no sys, no dev", || no_kernel_files(lab));
    checks.check("no tree in a tree", || no_tree_in_a_tree(lab));
    checks.check("no secrets", || no_secrets(lab));
    checks.check("a name that is now this and now that", || race(lab));
    checks.check("strangers at the door", || strangers(lab));
}

/// A link is followed where it is read.
fn links(lab: &Lab) {
    for node in 1..=3 {
        lab.sh(node, &format!("echo {node} > /which; mkdir -p /here; echo {node} > /here/which"))
            .ok();
    }
    let line = "cd /tmp/esc; ln -s / root; ln -s /which abs; ln -s ../../../../../../which up; \
                ln -s root/here chain; ln -s /proc/1/environ proc; mkdir sub; \
                ln -s ../../which near; ln -s /mfs/2/which back";
    lab.sh(2, line).ok();
    let mut one = Hand::new(lab, 1);
    for (link, wanted) in [
        ("root/which", "1"),
        ("abs", "1"),
        ("up", "1"),
        ("chain/which", "1"),
        // From /mfs/2/tmp/esc two up is /mfs/2.
        ("near", "2"),
        ("back", "2"),
        ("sub/../../../which", "2"),
        ("sub/../../../../which", "missing"),
        ("sub/../../../../../which", "1"),
        ("sub/../../../../../../../../../which", "1"),
    ] {
        let said = one.ask(&format!("get({:?}).decode().strip()", far(&format!("esc/{link}"))));
        let said = said.unwrap_or_else(|errno| match errno.as_str() {
            "ENOENT" => "missing".into(),
            other => other.into(),
        });
        assert_eq!(said, wanted, "{link}");
    }
    assert_eq!(one.ok(&format!("os.readlink({:?})", far("esc/root"))), "/");
    // /proc/1 of node 1, not of node 2.
    let environ = format!("get({:?}) == get('/proc/1/environ')", far("esc/proc"));
    assert_eq!(one.ok(&environ), "True");
}

fn no_kernel_files(lab: &Lab) {
    for name in ["proc/self", "proc/1", "proc/cpuinfo", "sys/kernel", "sys/fs", "dev/pts/ptmx"] {
        let said = lab.sh(1, &format!("LC_ALL=C ls -d /mfs/2/{name}"));
        assert!(said.code != 0 && said.err.contains("No such file"), "{name}: {said:?}");
    }
    // A device is shown, and is of no use.
    lab.sh(2, "mknod -m 666 /tmp/esc/zero c 1 5").ok();
    let said = lab.sh(1, &format!("timeout 5 head -c 1 {}", far("esc/zero")));
    assert!(said.code == 1 && said.out.is_empty(), "{said:?}");
}

fn no_tree_in_a_tree(lab: &Lab) {
    lab.sh(2, "ls /mfs/1 /mfs/3 /mfs/2").ok();
    for at in ["/mfs/2/mfs", "/mfs/2/cluster/proc", "/mfs/1/mfs/1"] {
        let said = lab.sh(1, &format!("ls -A {at}"));
        assert_eq!(said.out, "", "{at}: {said:?}");
    }
}

/// What makes a node a member is in these directories.
fn no_secrets(lab: &Lab) {
    lab.sh(2, "find /var/lib/krg /run/krg -type f | grep -q .").ok();
    let hidden = |dir: &str| {
        let said = lab.sh(1, &format!("find {dir} -mindepth 1; cat {dir}/*"));
        assert_eq!(said.out, "", "{dir}: {said:?}");
    };
    // Their names are no secret.
    assert!(lab.sh(1, "ls /mfs/2/var/lib").ok().lines().any(|name| name == "krg"));
    let secrets = ["/mfs/2/var/lib/krg", "/mfs/2/run/krg"];
    secrets.iter().for_each(|dir| hidden(dir));
    // Nor where else the same directory is mounted.
    lab.sh(2, "mkdir -p /tmp/esc/bind && mount --bind /var/lib/krg /tmp/esc/bind").ok();
    lab.sh(2, "mkdir -p /tmp/esc/run && mount --bind /run/krg /tmp/esc/run").ok();
    let before = lab.sh(2, "pgrep -x krg-files").ok();
    lab.sh(2, "pkill -KILL -x krg-files").ok();
    within(BACK_MAX, || {
        let now = lab.sh(2, "pgrep -x krg-files").out;
        let said = lab.sh(1, "cat /mfs/2/which");
        if now != before && said.code == 0 { Ok(()) } else { Err(said.err) }
    });
    ["/mfs/2/tmp/esc/bind", "/mfs/2/tmp/esc/run"].iter().for_each(|dir| hidden(dir));
    secrets.iter().for_each(|dir| hidden(dir));
    lab.sh(2, "umount /tmp/esc/bind /tmp/esc/run").ok();
}

/// Each look finds one of two sides, and may find the same for a second.
const BOTH_MAX: Duration = Duration::from_secs(60);

/// A directory that is a link to `/` every other moment: what is read is what is in it, or node
/// 1's own, never what is outside of it on node 2.
fn race(lab: &Lab) {
    let line = "mkdir -p /tmp/esc/race/d && cd /tmp/esc/race && echo inside > d/file && \
                ln -sfn / l && echo outside > /file";
    lab.sh(2, line).ok();
    lab.sh(1, "rm -f /file").ok();
    let (mut one, mut two) = (Hand::new(lab, 1), Hand::new(lab, 2));
    two.ok("fds.update(stop=threading.Event())");
    let swap = "rename('/tmp/esc/race/d', '/tmp/esc/race/l', RENAME_EXCHANGE)";
    let lines = format!(
        "threading.Thread(daemon=True, target=lambda: \
         [{swap} for n in iter(fds['stop'].is_set, True)]).start()"
    );
    two.ok(&lines);
    let path = far("esc/race/d/file");
    let tried = format!("tried({READS}, lambda: get({path:?}).decode().strip())");
    // Where changes are not told, a name is what it was for a second: again, until it was both.
    within(BOTH_MAX, || {
        let said = one.ok(&tried);
        for word in said.split_whitespace() {
            let (what, _) = word.split_once(':').expect("a value and a count");
            assert!(["inside", "ENOENT", "ENOTDIR", "ELOOP"].contains(&what), "{said}");
        }
        if said.contains("inside") { Ok(()) } else { Err(said) }
    });
    two.ok("fds['stop'].set()");
    assert_eq!(lab.sh(2, "cat /file").ok(), "outside\n");
}

/// Who has no certificate of the cluster is turned away before a byte of his is looked at.
fn strangers(lab: &Lab) {
    let before = lab.sh(2, "pgrep -x krg-files").ok();
    let mut three = Hand::new(lab, 3);
    let (host, port) = DOOR.split_once(':').expect("an address");
    for bytes in [
        "b''",
        "b'GET / HTTP/1.1\\r\\n\\r\\n'",
        "os.urandom(100000)",
        // A frame that says it is 4 GiB, and one of a TLS record that is as long as can be.
        "b'\\xff' * 64",
        "b'\\x16\\x03\\x01\\xff\\xff' + bytes(70000)",
        "b'\\x17\\x03\\x03\\x40\\x00' + bytes(70000)",
    ] {
        let said = three.ok(&format!("knock({host:?}, {port}, {bytes})"));
        assert!(said == "closed" || said.starts_with("1503"), "{bytes}: {said}");
    }
    let line = format!(
        "cd /tmp && openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=node1 \
         2>/dev/null; for with in '' '-cert c -key k'; do echo x | timeout 5 openssl s_client \
         -connect {DOOR} -tls1_3 $with -quiet 2>&1; echo code $?; done"
    );
    let said = lab.sh(3, &line).out;
    assert_eq!(said.matches("code 1").count(), 2, "{said}");
    // Many who say nothing keep nobody out.
    let many = format!("fds.update((n, call({host:?}, {port})) for n in range(300)) or len(fds)");
    assert_eq!(three.ok(&many), "300");
    lab.sh(1, &format!("umount -l /mfs/2; cat {}", far("esc/near"))).ok();
    assert_eq!(lab.sh(2, "pgrep -x krg-files").ok(), before, "the server is the same");
    let log = lab.sh(2, "cat /var/log/krgd.log").ok();
    assert!(!log.contains("panicked"), "{log}");
    drop(three);
    assert_eq!(lab.sh(1, &format!("cat {}", far("esc/near"))).ok(), "2\n");
    lab.sh(2, &format!("test -d {}", own("esc"))).ok();
}
