//! What is known of a file besides its bytes.

use super::place::{TOLD, make, on};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "attr");
    let hands = &mut [1, 2].map(|node| Hand::new(lab, node));
    checks.check("times", || times(hands));
    checks.check("extended attributes", || extended(hands));
    checks.check("access control lists", || lists(lab));
    checks.check("attributes are node 2's", || the_same(hands));
    checks.check("a directory after each change in it", || directories(hands));
    checks.check("a program that runs", || running(hands));
}

/// Nobody on its node writes to it or empties it, also not one who opens it to read.
fn running(hands: &mut [Hand; 2]) {
    let [one, two] = hands;
    let (own, far) = (on(2, "attr/sleep"), on(1, "attr/sleep"));
    let size = one.ok("os.stat('/usr/bin/sleep').st_size");
    one.ok(&format!("shutil.copy('/usr/bin/sleep', {far:?})"));
    one.ok(&format!("globals().update(child=subprocess.Popen([{far:?}, '100']))"));
    for flags in ["os.O_WRONLY", "os.O_RDWR", "os.O_RDONLY | os.O_TRUNC"] {
        let said = one.ask(&format!("os.open({far:?}, {flags})"));
        assert_eq!(said, Err("ETXTBSY".to_owned()), "{flags}");
        assert_eq!(two.ok(&format!("os.stat({own:?}).st_size")), size, "{flags}");
    }
    assert_eq!(one.ok("child.poll()"), "None");
    one.ok("child.kill() or child.wait()");
    one.ok(&format!("os.close(os.open({far:?}, os.O_RDONLY | os.O_TRUNC))"));
    assert_eq!(two.ok(&format!("os.stat({own:?}).st_size")), "0");
}

/// Nanoseconds, the far past, and one of both only.
fn times(hands: &mut [Hand; 2]) {
    let [one, two] = hands;
    let (own, far) = (on(2, "attr/times"), on(1, "attr/times"));
    let omit = "(0, UTIME_OMIT)";
    one.ok(&format!("put({far:?}, b'x')"));
    let both =
        |path: &str| format!("os.stat({path:?}).st_atime_ns, os.stat({path:?}).st_mtime_ns");
    for (atime, mtime, wanted) in [
        ("(1, 2)", "(3, 4)", "(1000000002, 3000000004)"),
        (omit, "(1700000000, 999999999)", "(1000000002, 1700000000999999999)"),
        ("(-5, 1)", omit, "(-4999999999, 1700000000999999999)"),
        ("(-86400, 999999999)", "(-1, 0)", "(-86399000000001, -1000000000)"),
        ("(4294967296, 5)", "(-2147483648, 0)", "(4294967296000000005, -2147483648000000000)"),
        (omit, omit, "(4294967296000000005, -2147483648000000000)"),
    ] {
        one.ok(&format!("times({far:?}, {atime}, {mtime})"));
        assert_eq!(one.ok(&both(&far)), wanted, "{atime} {mtime}");
        assert_eq!(two.ok(&both(&own)), wanted, "{atime} {mtime} on node 2");
    }
    one.ok(&format!("times({far:?}, (0, UTIME_NOW), {omit})"));
    // Now is node 2's now, whose clock is another.
    let age = two.ok(&format!("abs(time.time() - os.stat({own:?}).st_atime) < 5"));
    assert_eq!(age, "True");
}

fn extended(hands: &mut [Hand; 2]) {
    let [one, two] = hands;
    let (own, far) = (on(2, "attr/x"), on(1, "attr/x"));
    one.ok(&format!("put({far:?}, b'x')"));
    one.ok(&format!("os.setxattr({far:?}, 'trusted.a', bytes(range(256)))"));
    let there = |path: &str| format!("os.getxattr({path:?}, 'trusted.a') == bytes(range(256))");
    assert_eq!((one.ok(&there(&far)), two.ok(&there(&own))), ("True".into(), "True".into()));
    let again = format!("os.setxattr({far:?}, 'trusted.a', b'', os.XATTR_CREATE)");
    assert_eq!(one.ask(&again), Err("EEXIST".into()));
    let other = format!("os.setxattr({far:?}, 'trusted.b', b'', os.XATTR_REPLACE)");
    assert_eq!(one.ask(&other), Err("ENODATA".into()));
    two.ok(&format!("os.setxattr({own:?}, 'trusted.b', b'from 2')"));
    assert_eq!(one.ok(&format!("sorted(os.listxattr({far:?}))")), "['trusted.a', 'trusted.b']");
    assert_eq!(one.ok(&format!("os.getxattr({far:?}, 'trusted.b').decode()")), "from 2");
    one.ok(&format!("os.removexattr({far:?}, 'trusted.a')"));
    assert_eq!(two.ok(&format!("os.listxattr({own:?})")), "['trusted.b']");
    assert_eq!(one.ask(&format!("os.getxattr({far:?}, 'trusted.a')")), Err("ENODATA".into()));
    // On the node's disk there are those of users, too, and large ones.
    let (own, far) = ("/var/tmp/krg-x", "/mfs/2/var/tmp/krg-x");
    one.ok(&format!("put({far:?}, b'x')"));
    one.ok(&format!("os.setxattr({far:?}, 'user.a', b'y' * 3000)"));
    assert_eq!(two.ok(&format!("len(os.getxattr({own:?}, 'user.a'))")), "3000");
    one.ok(&format!("os.unlink({far:?})"));
}

/// What is done in a directory changes it, whoever does it.
fn directories(hands: &mut [Hand; 2]) {
    let [one, two] = hands;
    let (own, far) = (on(2, "attr/dirs"), on(1, "attr/dirs"));
    one.ok(&format!("os.mkdir({far:?})"));
    let told = |dir: &str| {
        let names = "('st_ino', 'st_dev', 'st_atime', 'st_atime_ns')";
        format!(
            "{{n: getattr(os.stat({dir:?}), n) for n in dir(os.stat({dir:?})) \
             if n.startswith('st_') and n not in {names}}}"
        )
    };
    for step in [
        "put(D + '/a', b'x')",
        "os.mkdir(D + '/d')",
        "os.symlink('a', D + '/l')",
        "os.link(D + '/a', D + '/b')",
        "os.rename(D + '/a', D + '/c')",
        "os.chmod(D, 0o700)",
        "put(D + '/e', b'x')",
        "os.chown(D, 7, 8)",
        "os.unlink(D + '/b')",
        "os.setxattr(D, 'trusted.x', b'y')",
        "os.rmdir(D + '/d')",
        "os.utime(D, (1, 2))",
        "os.mkdir(D + '/d')",
        "os.rename(D + '/c', D + '/d/c')",
        "os.listdir(D)",
        "os.unlink(D + '/e')",
    ] {
        one.ok(&step.replace('D', &format!("{far:?}")));
        assert_eq!(one.ok(&told(&far)), two.ok(&told(&own)), "after {step}");
        // Also when the other side has changed it since.
        one.ok(&format!("put({far:?} + '/other', b'x')"));
        two.ok(&format!("os.unlink({own:?} + '/other')"));
        let wanted = two.ok(&told(&own));
        within(TOLD, || {
            let seen = one.ok(&told(&far));
            if seen == wanted { Ok(()) } else { Err(format!("{seen}, not {wanted}")) }
        });
    }
}

fn lists(lab: &Lab) {
    let (own, far) = (on(2, "attr/acl"), on(1, "attr/acl"));
    let line = format!(
        "mkdir {far} && cd {far} && setfacl -m u:1000:rwx,g:2000:r-x,m::rx . && \
         setfacl -dm u:1000:rwx,o::- . && touch file && mkdir sub && chmod g-x file && \
         getfacl -Rn ."
    );
    let said = lab.sh(1, &line).ok();
    for entry in ["user:1000:rwx\t#effective:r-x", "default:user:1000:rwx", "mask::r-x"] {
        assert!(said.contains(entry), "{entry} in {said}");
    }
    assert_eq!(lab.sh(2, &format!("cd {own} && getfacl -Rn .")).ok(), said);
    lab.sh(2, &format!("setfacl -b {own}/file")).ok();
    within(TOLD, || {
        let said = lab.sh(1, &format!("getfacl -n -c {far}/file")).ok();
        if said.contains("1000") { Err(said) } else { Ok(()) }
    });
    lab.sh(
        1,
        &format!(
            "getfacl -Rn {far} > /tmp/acl; setfacl -Rb {far}; \
                        cd / && setfacl --restore=/tmp/acl"
        ),
    )
    .ok();
    let again = lab.sh(1, &format!("getfacl -Rn {far} | diff - /tmp/acl")).ok();
    assert_eq!(again, "");
}

/// Number, links, owner, size, blocks, type: as node 2 says.
fn the_same(hands: &mut [Hand; 2]) {
    let [one, two] = hands;
    let (own, far) = (on(2, "attr/all"), on(1, "attr/all"));
    two.ok(&format!("os.mkdir({own:?})"));
    two.ok(&format!("put('{own}/file', b'x' * 10000) or os.chmod('{own}/file', 0o4751)"));
    two.ok(&format!("os.chown('{own}/file', 1000, 2000) or os.mkfifo('{own}/fifo', 0o622)"));
    two.ok(&format!(
        "os.symlink('file', '{own}/link') or os.mknod('{own}/dev', 0o20600, 0x1234)"
    ));
    for name in ["", "file", "fifo", "link", "dev"] {
        let stat = |at: &str| {
            format!(
                "[getattr(os.lstat('{at}/{name}'), 'st_' + n) for n in ('mode', 'nlink', 'uid', \
                 'gid', 'size', 'blocks', 'rdev', 'mtime_ns', 'ctime_ns')]"
            )
        };
        assert_eq!(one.ok(&stat(&far)), two.ok(&stat(&own)), "{name}");
    }
    let number =
        |at: &str| format!("os.lstat('{at}/file').st_ino == os.lstat('{at}/link').st_ino");
    assert_eq!(one.ok(&number(&far)), "False");
}
