//! Who may do what: through `/mfs/2` a user may do what he may on node 2, and nothing else.

use super::place::{make, on};
use krg_tests::Lab;
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;

const USER: u32 = 1000;

/// A case: its name, what root makes on node 2 in an empty directory, and what the user then does
/// there. `f` is a file that belongs to root, 0600.
type Case = (&'static str, &'static str, &'static str);

const FILES: [Case; 16] = [
    ("owner reads", "chown 1000 f; chmod 400 f", "get('f')"),
    ("owner without a bit", "chown 1000 f; chmod 0 f", "get('f')"),
    ("owner's class counts, not the group's", "chown 1000:1000 f; chmod 070 f", "get('f')"),
    ("group", "chgrp 1000 f; chmod 040 f", "get('f')"),
    ("supplementary group", "chgrp 2000 f; chmod 040 f", "get('f')"),
    ("another supplementary group", "chgrp 2001 f; chmod 060 f", "op('x', 'f')"),
    ("a group that he is not in", "chgrp 2002 f; chmod 040 f", "get('f')"),
    ("others read", "chmod 4 f", "get('f')"),
    ("others do not", "chmod 660 f", "get('f')"),
    ("a file that is read-only", "chown 1000 f; chmod 400 f", "put('f', b'x')"),
    ("truncate", "chmod 644 f", "os.truncate('f', 0)"),
    ("an entry of the user", "setfacl -m u:1000:rw f", "put('f', b'x')"),
    ("an entry against the user", "chmod 666 f; setfacl -m u:1000:--- f", "get('f')"),
    ("an entry of a group", "setfacl -m g:2000:r f", "get('f')"),
    ("the mask", "setfacl -m u:1000:rw,m::r f", "put('f', b'x')"),
    ("access(2)", "setfacl -m u:1000:x f", "[os.access('f', n) for n in (1, 2, 4)]"),
];

const DIRECTORIES: [Case; 11] = [
    ("no search", "mkdir d; cp f d; chmod 644 d/f; chmod 744 d", "get('d/f')"),
    ("search, no list", "mkdir d; cp f d; chmod 644 d/f; chmod 711 d", "get('d/f')"),
    ("list, no search", "mkdir d; chmod 711 d", "os.listdir('d')"),
    ("sticky: another's file", "mkdir -m 1777 d; cp f d", "os.unlink('d/f')"),
    ("sticky: another's name", "mkdir -m 1777 d; cp f d", "os.rename('d/f', 'd/g')"),
    ("sticky: his own", "mkdir -m 1777 d; cp f d; chown 1000 d/f", "os.unlink('d/f')"),
    ("setgid: a file", "mkdir d; chgrp 2000 d; chmod 2777 d", "put('d/n', b'x')"),
    ("setgid: a directory", "mkdir d; chgrp 2000 d; chmod 2777 d", "os.mkdir('d/n')"),
    (
        "default entries",
        "mkdir -m 777 d; setfacl -dm u:1:rw,g:2000:rwx,o::- d",
        "put('d/n', b'')",
    ),
    ("default entries: mkdir", "mkdir -m 777 d; setfacl -dm u:1:rwx d", "os.mkdir('d/n', 0o770)"),
    ("not writable", "mkdir d", "os.mkdir('d/n')"),
];

const CHANGES: [Case; 11] = [
    ("chmod of another's", "chmod 666 f", "os.chmod('f', 0o600)"),
    ("chown", "chown 1000 f", "os.chown('f', 1001, -1)"),
    ("chgrp to a group of his", "chown 1000 f", "os.chown('f', -1, 2000)"),
    ("chgrp to another", "chown 1000 f", "os.chown('f', -1, 2002)"),
    ("setgid of another group", "chown 1000:2002 f", "os.chmod('f', 0o2755)"),
    ("setgid of his group", "chown 1000:2000 f", "os.chmod('f', 0o2755)"),
    ("a write takes set-id bits away", "chmod 6777 f", "put('f', b'x')"),
    ("times that he may set to now", "chmod 666 f", "os.utime('f')"),
    ("times that he may not choose", "chmod 666 f", "os.utime('f', (1, 1))"),
    ("extended attributes", "chmod 644 f", "os.setxattr('f', 'user.x', b'y')"),
    ("trusted ones", "setfattr -n trusted.x -v y f; chmod 644 f", "os.listxattr('f')"),
];

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "access");
    for (groups, list) in [("with groups", "2000,2001"), ("without", "")] {
        let users = &mut [1, 2].map(|node| Hand::of_user(lab, node, USER, USER, list));
        for (n, case) in FILES.iter().chain(&DIRECTORIES).chain(&CHANGES).enumerate() {
            // In a place of its own: one that was there before could still be known on node 1.
            let place = format!("access/{n}-{}", list.len());
            checks.check(&format!("{}, {groups}", case.0), || same(lab, users, &place, case));
        }
    }
    checks.check("a user is the first to walk in", || first_walks(lab));
    checks.check("what only root may read", || secrets(lab));
    checks.check("root is root", || root_is_root(lab));
}

/// The same answer, and the same outcome.
fn same(lab: &Lab, users: &mut [Hand; 2], place: &str, (_, make, step): &Case) {
    let line = format!(
        "mkdir -m 777 /tmp/{place} && cd /tmp/{place} && for n in 1 2; do mkdir -m 777 $n; \
         (cd $n; umask 077; echo text > f; umask 022; {make}) || exit; done"
    );
    lab.sh(2, &line).ok();
    let said = [1, 2].map(|node: u32| {
        let user = &mut users[node as usize - 1];
        let dir = on(node, &format!("{place}/{node}"));
        user.ok(&format!("os.chdir({dir:?})"));
        let said = user.ask(step);
        user.ok("os.chdir('/')");
        user.ok("[cl(name) for name in list(fds)]");
        said
    });
    let outcome = [1, 2].map(|n| {
        let line = format!(
            "cd /tmp/{place}/{n}; find . -mindepth 1 -printf '%P %y %m %U %G %s\\n' | sort; \
             getfacl -Rn . ; cat f"
        );
        lab.sh(2, &line).ok()
    });
    assert_eq!(said[0], said[1], "what it says here, and on node 2");
    assert_eq!(outcome[0], outcome[1], "what comes of it");
}

/// A tree is there for whoever uses it first.
fn first_walks(lab: &Lab) {
    let line = "for n in $(seq 20); do setpriv --reuid=1000 --regid=1000 --clear-groups \
                ls -d /mfs/3/tmp || exit; umount -l /mfs/3; done";
    assert_eq!(lab.sh(1, line).ok(), "/mfs/3/tmp\n".repeat(20));
}

fn secrets(lab: &Lab) {
    let mut user = Hand::of_user(lab, 3, USER, USER, "");
    assert_eq!(user.ask("get('/mfs/1/etc/shadow')"), Err("EACCES".into()));
    assert_eq!(user.ask("os.listdir('/mfs/1/root')"), Err("EACCES".into()));
    assert!(user.ok("get('/mfs/1/etc/passwd').decode().count('root')").parse::<u32>().is_ok());
    let mut root = Hand::new(lab, 3);
    root.ok("get('/mfs/1/etc/shadow')");
    // What root's looking has put into caches is not the user's for that.
    assert_eq!(user.ask("get('/mfs/1/etc/shadow')"), Err("EACCES".into()));
    assert_eq!(user.ask("os.listdir('/mfs/1/root')"), Err("EACCES".into()));
    assert_eq!(user.ask("put('/mfs/1/etc/motd', b'')"), Err("EACCES".into()));
}

fn root_is_root(lab: &Lab) {
    let line = "cd /mfs/2/tmp/access && rm -rf r && mkdir r && echo x > r/f && chmod 0 r/f && \
                chown 1000:2000 r/f && cat r/f && mknod r/dev c 1 3 && mkfifo r/fifo && \
                stat -c '%u %g %a' r/f && stat -c '%F %t %T' r/dev && rm -r r";
    assert_eq!(lab.sh(1, line).ok(), "x\n1000 2000 0\ncharacter special file 1 3\n");
}
