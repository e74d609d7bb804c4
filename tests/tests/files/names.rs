//! Names and numbers at their limits: long, deep, many, sparse, open, gone.

use super::place::{far, make, on, own};
use krg_tests::Lab;
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;

/// Files of one directory, unless KRG_MANY says otherwise.
const MANY: u32 = 100_000;
/// Files that each node has open.
const OPEN: u32 = 1_000;

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "names");
    let hands = &mut [1, 2, 3].map(|node| Hand::new(lab, node));
    checks.check("names of 255 bytes", || long_names(hands));
    checks.check("a path of 4095 bytes", || a_long_path(lab, hands));
    checks.check("links", || links(lab, hands));
    checks.check("a sparse file", || sparse(lab, hands));
    checks.check("shared mappings", || mappings(hands));
    checks.check("a file without a name", || without_a_name(hands));
    checks.check("room that is taken and given back", || room(lab, hands));
    checks.check("copy_file_range", || copied_on_the_server(hands));
    checks.check("renaming", || renaming(hands));
    checks.check("many open files", || many_open(hands));
    checks.check("many files in a directory", || many_files(lab));
}

fn long_names(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "names"), on(1, "names"));
    // Bytes that are no text, and every byte that a name may have.
    for name in
        ["b'n' * 255", "b'\\xff\\xfe' * 127", "bytes(n for n in range(1, 256) if n != 47)"]
    {
        one.ok(&format!("put(b'{far}/' + {name}, b'text')"));
        assert_eq!(two.ok(&format!("get(b'{own}/' + {name}).decode()")), "text");
        assert_eq!(one.ok(&format!("{name} in os.listdir(b'{far}')")), "True");
        one.ok(&format!("os.unlink(b'{far}/' + {name})"));
        assert_eq!(two.ask(&format!("os.stat(b'{own}/' + {name})")), Err("ENOENT".into()));
    }
    let long = format!("put(b'{far}/' + b'n' * 256, b'')");
    assert_eq!(one.ask(&long), Err("ENAMETOOLONG".into()));
}

fn a_long_path(lab: &Lab, hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let far = far("names/deep");
    let all = format!("({far:?} + ('/' + 'd' * 200) * 30)");
    // The last directory leaves room for a slash and a name of 99 bytes.
    one.ok(&format!("fds.update(deep={all}[:4095 - 100])"));
    one.ok("os.makedirs(fds['deep'])");
    one.ok("put(fds['deep'] + '/' + 'f' * 99, b'deep')");
    assert_eq!(one.ok("len(fds['deep'] + '/' + 'f' * 99)"), "4095");
    assert_eq!(one.ok("get(fds['deep'] + '/' + 'f' * 99).decode()"), "deep");
    let long = one.ask("get(fds['deep'] + '/' + 'f' * 100)");
    assert_eq!(long, Err("ENAMETOOLONG".into()));
    let path = one.ok("fds['deep'][6:] + '/' + 'f' * 99");
    assert_eq!(two.ok(&format!("get({path:?}).decode()")), "deep");
    lab.sh(1, &format!("rm -r {far}")).ok();
}

fn links(lab: &Lab, hands: &mut [Hand; 3]) {
    let [one, two, three] = hands;
    let (own, far) = (on(2, "names"), on(1, "names"));
    one.ok(&format!("put('{far}/a', b'one file')"));
    one.ok(&format!("os.link('{far}/a', '{far}/b')"));
    let same = format!("os.path.samefile('{far}/a', '{far}/b')");
    assert_eq!((one.ok(&same), three.ok(&same)), ("True".into(), "True".into()));
    assert_eq!(two.ok(&format!("os.stat('{own}/b').st_nlink")), "2");
    two.ok(&format!("os.unlink('{own}/a')"));
    assert_eq!(three.ok(&format!("get('{far}/b').decode()")), "one file");
    for target in ["b", "/no/such/file", "../names/b", "x".repeat(4000).as_str()] {
        one.ok(&format!("os.symlink({target:?}, '{far}/s')"));
        assert_eq!(three.ok(&format!("os.readlink('{far}/s')")), target);
        assert_eq!(two.ok(&format!("os.readlink('{own}/s')")), target);
        two.ok(&format!("os.unlink('{own}/s')"));
        lab.sh(1, &format!("ls {far} > /tmp/list")).ok();
    }
    // Not between file systems, and not on directories.
    assert_eq!(one.ask(&format!("os.link('{far}/b', '/mfs/2/b')")), Err("EXDEV".into()));
    one.ok(&format!("os.mkdir('{far}/dir')"));
    assert_eq!(one.ask(&format!("os.link('{far}/dir', '{far}/dir2')")), Err("EPERM".into()));
}

fn sparse(lab: &Lab, hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "names/sparse"), on(1, "names/sparse"));
    one.ok(&format!("op('s', {far:?}, os.O_RDWR | os.O_CREAT)"));
    one.ok("os.ftruncate(fds['s'], 5 << 30)");
    one.ok("wr('s', b'middle', 3 << 30)");
    one.ok("os.fsync(fds['s'])");
    let seek = |at: &str, how: &str| format!("os.lseek(fds['s'], {at}, os.SEEK_{how})");
    let (middle, after) = ((3_u64 << 30).to_string(), ((3_u64 << 30) + 4096).to_string());
    assert_eq!(one.ok(&seek("0", "DATA")), middle);
    assert_eq!(one.ok(&seek("3 << 30", "HOLE")), after);
    assert_eq!(one.ok(&seek("0", "HOLE")), "0");
    assert_eq!(one.ask(&seek("4 << 30", "DATA")), Err("ENXIO".into()));
    assert_eq!(one.ok(&seek("0", "END")), (5_u64 << 30).to_string());
    assert_eq!(one.ok("rd('s', 8, (3 << 30) - 1).hex()"), "006d6964646c6500");
    assert_eq!(two.ok(&format!("os.stat({own:?}).st_size")), (5_u64 << 30).to_string());
    one.ok("cl('s')");
    for (node, path) in [(1, &far), (2, &own)] {
        let kib: u64 =
            lab.sh(node, &format!("du -k {path} | cut -f1")).ok().trim().parse().expect("KiB");
        assert!(kib <= 64, "{kib} KiB on node {node}");
    }
    // A tool that looks for holes copies it in no time.
    let copy = format!("timeout 5 cp --sparse=always {far} {far}2 && rm {far} {far}2");
    lab.sh(1, &copy).ok();
}

fn mappings(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "names/map"), on(1, "names/map"));
    two.ok(&format!("put({own:?}, b'-' * 20000)"));
    one.ok(&format!("op('m', {far:?})"));
    one.ok("fds.update(map=mmap.mmap(fds['m'], 0))");
    one.ok("fds['map'].write(b'begin')");
    one.ok("fds['map'].seek(19997)");
    one.ok("fds['map'].write(b'end')");
    // What is mapped is what is read, at once; and node 2's after it was flushed.
    assert_eq!(one.ok("rd('m', 6).decode() + rd('m', 9, 19996).decode()"), "begin--end");
    one.ok("fds['map'].flush()");
    let seen = two.ok(&format!("(get({own:?})[:6] + get({own:?})[19996:]).decode()"));
    assert_eq!(seen, "begin--end");
    one.ok("wr('m', b'WRITE')");
    assert_eq!(one.ok("fds['map'][:6].decode()"), "WRITE-");
    one.ok("fds.pop('map').close()");
    one.ok("cl('m')");
}

/// A file whose last name is removed goes on for who has it open.
fn without_a_name(hands: &mut [Hand; 3]) {
    let [one, two, three] = hands;
    let (own, far) = (on(2, "names/gone"), on(1, "names/gone"));
    for remove in 0..3 {
        two.ok(&format!("put({own:?}, b'here')"));
        one.ok(&format!("op('g', {far:?})"));
        match remove {
            0 => one.ok(&format!("os.unlink({far:?})")),
            1 => two.ok(&format!("os.unlink({own:?})")),
            _ => {
                three.ok(&format!("put({far:?} + '2', b'') or os.rename({far:?} + '2', {far:?})"))
            }
        };
        assert_eq!(one.ok("rd('g').decode()"), "here");
        one.ok("wr('g', b'still here')");
        one.ok("os.ftruncate(fds['g'], 7)");
        one.ok("os.fchmod(fds['g'], 0o600)");
        let stat = "os.fstat(fds['g']).st_size, os.fstat(fds['g']).st_nlink";
        assert_eq!(one.ok(stat), "(7, 0)", "removed by {remove}");
        assert_eq!(one.ok("rd('g').decode()"), "still h");
        one.ok("cl('g')");
        two.ask(&format!("os.unlink({own:?})")).ok();
    }
}

fn room(lab: &Lab, hands: &mut [Hand; 3]) {
    let [one, ..] = hands;
    one.ok(&format!("op('r', {:?}, os.O_RDWR | os.O_CREAT)", far("names/room")));
    let blocks = "os.fstat(fds['r']).st_size, os.fstat(fds['r']).st_blocks // 8";
    one.ok("fallocate('r', 0, 0, 1 << 20)");
    assert_eq!(one.ok(blocks), "(1048576, 256)");
    // FALLOC_FL_KEEP_SIZE
    one.ok("fallocate('r', 1, 1 << 20, 1 << 20)");
    assert_eq!(one.ok(blocks), "(1048576, 512)");
    one.ok("wr('r', b'x' * 8192)");
    // FALLOC_FL_PUNCH_HOLE
    one.ok("fallocate('r', 3, 4096, 4096)");
    assert_eq!(one.ok("rd('r', 3, 4095).hex()"), "780000");
    assert_eq!(one.ok(blocks), "(1048576, 511)");
    one.ok("cl('r')");
    lab.sh(1, &format!("rm {}", far("names/room"))).ok();
}

fn copied_on_the_server(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "names/copy"), on(1, "names/copy"));
    two.ok(&format!("put('{own}1', bytes(range(256)) * 40000)"));
    one.ok(&format!("op('f', '{far}1')"));
    one.ok(&format!("op('t', '{far}2', os.O_RDWR | os.O_CREAT)"));
    one.ok("wr('f', b'changed', 1000)");
    let copy = "copy('f', 't', 10240000, 0, 5)";
    assert_eq!(one.ok(copy), "10240000");
    one.ok("cl('f')");
    let same = format!("get('{own}2')[5:] == get('{own}1') and get('{own}1')[1000:1007]");
    assert_eq!(two.ok(&same), "6368616e676564");
    assert_eq!(one.ok("rd('t', 7, 1005).decode()"), "changed");
    one.ok("cl('t')");
}

fn renaming(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "names"), on(1, "names"));
    let read = |hand: &mut Hand, at: &str, name: &str| {
        hand.ask(&format!("get('{at}/{name}').decode()")).unwrap_or_else(|errno| errno)
    };
    one.ok(&format!("put('{far}/x', b'x') or put('{far}/y', b'y')"));
    let kept = one.ask(&format!("rename('{far}/x', '{far}/y', RENAME_NOREPLACE)"));
    assert_eq!(kept, Err("EEXIST".into()));
    one.ok(&format!("rename('{far}/x', '{far}/y', RENAME_EXCHANGE)"));
    for (hand, at) in [(&mut *one, &far), (two, &own)] {
        assert_eq!((read(hand, at, "x"), read(hand, at, "y")), ("y".into(), "x".into()));
    }
    one.ok(&format!("rename('{far}/x', '{far}/z', RENAME_NOREPLACE)"));
    one.ok(&format!("os.rename('{far}/z', '{far}/y')"));
    for (hand, at) in [(&mut *one, &far), (two, &own)] {
        let seen = ["x", "y", "z"].map(|name| read(hand, at, name));
        assert_eq!(seen, ["ENOENT", "y", "ENOENT"]);
    }
    one.ok(&format!("os.makedirs('{far}/p/q')"));
    let loops = one.ask(&format!("os.rename('{far}/p', '{far}/p/q/r')"));
    assert_eq!(loops, Err("EINVAL".into()));
    let other = one.ask(&format!("os.rename('{far}/y', '/mfs/2/y')"));
    assert_eq!(other, Err("EXDEV".into()));
}

fn many_open(hands: &mut [Hand; 3]) {
    let paths = [far("names/open"), own("names/open"), far("names/open")];
    for (node, (hand, path)) in (1..).zip(hands.iter_mut().zip(&paths)) {
        let at = if node == 2 { "/mfs/1/tmp/open".to_owned() } else { path.clone() };
        hand.ok(&format!("os.makedirs({at:?}, exist_ok=True)"));
        hand.ok("more_files(2000)");
        hand.ok(&format!(
            "[op(n, f'{at}/{node}-{{n}}', os.O_RDWR | os.O_CREAT) for n in range({OPEN})][0]"
        ));
        hand.ok(&format!("[wr(n, b'%06d' % n) for n in range({OPEN})][0]"));
    }
    for hand in hands {
        let wrong = format!("[n for n in range({OPEN}) if rd(n) != b'%06d' % n]");
        assert_eq!(hand.ok(&wrong), "[]");
        hand.ok(&format!("[cl(n) for n in range({OPEN})][0]"));
    }
}

fn many_files(lab: &Lab) {
    let many = std::env::var("KRG_MANY").ok();
    let many = many.map_or(MANY, |s| s.parse().expect("KRG_MANY is a number"));
    let (own, far) = (own("names/many"), far("names/many"));
    // Half of them from here, half from there.
    let make = |node, dir: &str, from, to| {
        let line =
            format!("mkdir -p {dir} && cd {dir} && seq -f name%.0f {from} {to} | xargs touch");
        lab.sh(node, &line).ok();
    };
    make(1, &far, 1, many / 10);
    make(2, &own, many / 10 + 1, many);
    let count = |line: &str| -> u32 {
        let said = lab.sh(1, &format!("cd {far} && {line} | sort | uniq | wc -l")).ok();
        said.trim().parse().expect("a count")
    };
    assert_eq!(count("ls -f"), many + 2);
    assert_eq!(count("ls"), many);
    assert_eq!(count("find . -type f"), many);
    assert_eq!(count("find . -empty -links 1 -type f -printf '%f\\n'"), many);
    // Some of them from here, the others from there.
    lab.sh(1, &format!("cd {far} && seq -f name%.0f 1 {} | xargs rm", many / 10)).ok();
    lab.sh(
        2,
        &format!("cd {own} && seq -f name%.0f {} {} | xargs rm", many / 10 + 1, many - 100),
    )
    .ok();
    assert_eq!(count("ls"), 100);
    lab.sh(1, &format!("rm -r {far}")).ok();
    let left = lab.sh(2, &format!("ls {}", super::place::own("names"))).out;
    assert!(!left.contains("many"), "{left}");
}
