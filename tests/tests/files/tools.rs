//! What people do with files, done to node 2's from another node.

use super::place::{far, make, own};
use krg_tests::Lab;
use krg_tests::checks::Checks;
use std::path::Path;

/// Increments of each node.
const INCREMENTS: usize = 100;
/// What is asked of stress-ng, seconds.
const STRESS_S: u32 = 5;

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "work");
    let tree = "mkdir -p /tmp/tree && cp -a /etc /usr/share/perl5 /tmp/tree && ln /tmp/tree/etc/\
                passwd /tmp/tree/hard && ln -s etc/passwd /tmp/tree/soft && setfacl -m u:1000:rw \
                /tmp/tree/etc/hosts && setfattr -n user.krg -v x /tmp/tree/etc/group";
    lab.sh(1, tree).ok();
    checks.check("cp -a and diff -r", || copy(lab));
    checks.check("tar out and in", || tar(lab));
    checks.check("rsync -aHAX", || rsync(lab));
    checks.check("git", || git(lab));
    checks.check("vim", || vim(lab));
    checks.check("lines appended by two nodes", || lines(lab));
    checks.check("sqlite, rollback journal", || database(lab, "delete"));
    checks.check("sqlite, write-ahead log", || database(lab, "wal"));
    checks.check("df and statfs", || space(lab));
    checks.check("cargo", || cargo(lab));
    checks.check("postgresql", || postgresql(lab));
    checks.check("stress-ng", || stress(lab));
}

/// Source and target are node 2's; the compiler, its hard links, locks and mappings are node 1's.
fn cargo(lab: &Lab) {
    let bin = Path::new(env!("CARGO")).parent().expect("it is in a directory");
    let there = far("work/small");
    let line = format!(
        "PATH={}:$PATH; cargo new -q --vcs none {there} && cd {there} && \
         for m in a b c d; do echo \"pub fn f() -> &'static str {{ \\\"$m\\\" }}\" > src/$m.rs; \
         done && \
         echo 'mod a; mod b; mod c; mod d; fn main() {{ \
         println!(\"{{}}{{}}{{}}{{}}\", a::f(), b::f(), c::f(), d::f()) }}' > src/main.rs && \
         cargo build -q --offline && ./target/debug/small && \
         sed -i s/a/x/2 src/a.rs && cargo run -q --offline && \
         cargo build --offline 2>&1 | grep -c Compiling; cargo clean -q",
        bin.display()
    );
    assert_eq!(lab.sh(1, &line).ok(), "abcd\nxbcd\n0\n");
}

/// A database whose files are node 2's, in a server on node 1: made, used by four at once, ended in
/// order and in haste, and every sum is right.
fn postgresql(lab: &Lab) {
    let there = far("work/pg");
    let line = format!(
        "set -e; PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH; cd /tmp; \
         mkdir {there}; chown postgres:postgres {there}; chmod 700 {there}; \
         pg() {{ setpriv --reuid=postgres --regid=postgres --clear-groups -- \"$@\"; }}; \
         begin() {{ pg pg_ctl -D {there}/data -l /tmp/pg.log -w -o \
         '-c listen_addresses= -c unix_socket_directories=/tmp' start > /dev/null; }}; \
         pg initdb -D {there}/data -U postgres -A trust --no-locale -k > /dev/null; begin; \
         export PGHOST=/tmp PGUSER=postgres; createdb bench; \
         pgbench -q -i -s 1 bench 2> /dev/null; \
         pgbench -c 4 -j 2 -t 200 bench | grep 'transactions actually'; \
         pg pg_ctl -D {there}/data -m immediate -w stop > /dev/null; begin; \
         psql -Atc 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) \
         from pgbench_branches), (select sum(delta) from pgbench_history) = \
         (select sum(tbalance) from pgbench_tellers), count(*) from pgbench_history' bench; \
         pg pg_ctl -D {there}/data -m fast -w stop > /dev/null; \
         pg pg_checksums -D {there}/data --check | grep 'Bad checksums'"
    );
    let said = lab.exec(1, &["bash", "-c", &line]).ok();
    let wanted =
        "number of transactions actually processed: 800/800\nt|t|800\nBad checksums:  0\n";
    assert_eq!(said, wanted);
}

/// All of its stressors for file systems at once, but that of one that most kernels lack.
fn stress(lab: &Lab) {
    lab.sh(2, &format!("mkdir -m 1777 {}", own("work/stress"))).ok();
    let at = far("work/stress");
    let line = format!(
        "cd /tmp && stress-ng --class filesystem --exclude binderfs --all 1 \
         --timeout {STRESS_S} --verify --oomable --temp-path {at} 2>&1"
    );
    let said = lab.sh(1, &line);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains("successful run completed"), "{}", said.out);
    assert_eq!(lab.sh(1, &format!("ls -A {at}")).ok(), "");
}

fn copy(lab: &Lab) {
    let there = far("work/copy");
    let line = format!(
        "cp -a /tmp/tree {there} && diff -r --no-dereference /tmp/tree {there} && \
         cp -a {there} /tmp/back && diff -r --no-dereference /tmp/tree /tmp/back"
    );
    lab.sh(1, &line).ok();
    // As node 2 itself sees it, with owners, modes, times, links and sizes of files.
    let list = "find . -printf '%P %y %m %U %G %n %T@ %l\\n' | sort; \
                find . -type f -printf '%P %s\\n' | sort";
    let at = |node, dir: &str| lab.sh(node, &format!("cd {dir} && {list}")).ok();
    let wanted = at(1, "/tmp/tree");
    assert!(wanted.lines().count() > 500, "{wanted}");
    assert_eq!(at(2, &own("work/copy")), wanted);
    assert_eq!(at(1, &there), wanted);
}

fn tar(lab: &Lab) {
    let there = far("work/tar");
    let line = format!(
        "mkdir {there} && tar -C /tmp -cf {there}/a.tar tree && tar -C {there} -xpf \
         {there}/a.tar && tar -C {there} -df {there}/a.tar && tar -C /tmp -df {there}/a.tar"
    );
    assert_eq!(lab.sh(1, &line).ok(), "");
    lab.sh(2, &format!("diff -r --no-dereference {} {}/tree", own("work/copy"), own("work/tar")))
        .ok();
}

fn rsync(lab: &Lab) {
    let there = far("work/rsync");
    let line = format!("rsync -aHAX --itemize-changes /tmp/tree/ {there}");
    assert!(lab.sh(1, &line).ok().lines().count() > 500);
    assert_eq!(lab.sh(1, &line).ok(), "", "the second run transfers nothing");
    // The other way, to a third node.
    let line = format!("rsync -aHAX --itemize-changes {there}/ /tmp/tree");
    assert!(lab.sh(3, &line).ok().lines().count() > 500);
    assert_eq!(lab.sh(3, &line).ok(), "");
    let acl = "getfacl -p /tmp/tree/etc/hosts; getfattr -d /tmp/tree/etc/group";
    assert_eq!(lab.sh(3, acl).ok(), lab.sh(1, acl).ok());
}

fn git(lab: &Lab) {
    let there = far("work/git");
    let line = format!(
        "export HOME=/tmp GIT_PAGER=cat; git config --global user.email a@example.org && \
         git config --global user.name a && git config --global --add safe.directory '*' && \
         git init -q {there} && cd {there} && cp -a /usr/share/perl5/. . && git add . && \
         git commit -qm one && rm -r $(ls | head -3) && git commit -qam two && \
         git status --porcelain && git fsck --strict && git gc -q && \
         git clone -q . {there}.clone && cd {there}.clone && git status --porcelain && \
         git checkout -q HEAD^ && git log --oneline | wc -l"
    );
    let said = lab.sh(1, &line);
    assert_eq!(said.clone().ok(), "1\n", "{said:?}");
    // Node 2 sees a whole repository, too.
    let line = format!(
        "export HOME=/tmp; git config --global --add safe.directory '*'; \
                        cd {} && git status --porcelain && git fsck --strict",
        own("work/git")
    );
    assert_eq!(lab.sh(2, &line).ok(), "");
}

fn vim(lab: &Lab) {
    let there = far("work/poem");
    lab.sh(2, &format!("printf 'one\\ntwo\\n' > {}", own("work/poem"))).ok();
    let line = format!("vim.tiny -es -u NONE -c '%s/two/three/' -c 'wq' {there} < /dev/null");
    lab.sh(1, &line).ok();
    assert_eq!(lab.sh(2, &format!("cat {}", own("work/poem"))).ok(), "one\nthree\n");
    let left = lab.sh(2, &format!("ls -A {} | grep poem", own("work"))).ok();
    assert_eq!(left, "poem\n", "no swap or backup file is left");
}

/// What each of three nodes appends is all there, each line whole.
fn lines(lab: &Lab) {
    let script = |node: u32, path: &str| {
        format!(
            "i=0; while [ $i -lt 400 ]; do echo node {node} line $i >> {path}; \
                 i=$((i + 1)); done"
        )
    };
    let at = [far("work/lines"), own("work/lines"), far("work/lines")];
    std::thread::scope(|scope| {
        for (node, path) in (1..).zip(&at) {
            scope.spawn(move || lab.sh(node, &script(node, path)).ok());
        }
    });
    let text = lab.sh(2, &format!("sort {} | uniq | wc -l; wc -l < {0}", at[1])).ok();
    assert_eq!(text, "1200\n1200\n");
    assert_eq!(lab.sh(1, &format!("sort {} | uniq | wc -l", at[0])).ok(), "1200\n");
}

/// A counter that every node increments: exact in the end. In the mode that needs shared memory
/// the other nodes get an error, and never a wrong number.
fn database(lab: &Lab, mode: &str) {
    let (own, far) = (own(&format!("work/{mode}.db")), far(&format!("work/{mode}.db")));
    let create = "CREATE TABLE c(n INT); INSERT INTO c VALUES(0);";
    let create = format!("PRAGMA journal_mode={mode}; {create}");
    lab.exec(2, &["sqlite3", &own, &create]).ok();
    let script = |path: &str| {
        format!(
            "done=0; for i in $(seq {INCREMENTS}); do sqlite3 -cmd '.timeout 20000' {path} \
             'BEGIN IMMEDIATE; UPDATE c SET n = n + 1; COMMIT;' && done=$((done + 1)); done \
             2> /tmp/errors; echo $done"
        )
    };
    let done = std::thread::scope(|scope| {
        let run = |(node, path): (u32, &String)| {
            let line = script(path);
            scope.spawn(move || lab.sh(node, &line).ok())
        };
        let all: Vec<_> = [(1, &far), (2, &own), (3, &far)].into_iter().map(run).collect();
        let count = |text: String| text.trim().parse::<usize>().expect("a count");
        all.into_iter().map(|t| count(t.join().expect("it ran"))).collect::<Vec<_>>()
    });
    let said = lab.exec(2, &["sqlite3", &own, "SELECT n FROM c; PRAGMA integrity_check;"]).ok();
    let errors = || [1, 2, 3].map(|node| lab.sh(node, "sort /tmp/errors | uniq -c").out);
    let total: usize = done.iter().sum();
    assert_eq!(said, format!("{total}\nok\n"), "{done:?}: {:#?}", errors());
    let wanted = if mode == "wal" { [0, INCREMENTS, 0] } else { [INCREMENTS; 3] };
    assert_eq!(done, wanted, "{:#?}", errors());
}

fn space(lab: &Lab) {
    let numbers = |node, path: &str| {
        lab.sh(node, &format!("stat -f -c '%b %c %S %l' {path}; df --output=size {path}")).ok()
    };
    assert_eq!(numbers(1, &far("work")), numbers(2, &own("work")));
}
