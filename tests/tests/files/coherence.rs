//! What a node has of another node's file is what is in it: when it is opened, when it is locked,
//! and otherwise within a second.

use super::place::{TOLD, long, make, on, seed};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// The longest that the file gets.
const SIZE_MAX: usize = 300_000;
/// What each node adds to a number.
const INCREMENTS: u32 = 200;
const O_RDWR: u32 = 0o2;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "same");
    let hands = &mut [1, 2, 3].map(|node| Hand::new(lab, node));
    checks.check("one's close is everybody's open", || close_to_open(hands));
    checks.check("a lock shows what was written under it", || under_a_lock(hands));
    checks.check("what is open is fresh within a second", || open_files_follow(hands));
    checks.check("names come and go within a second", || names_follow(hands));
    checks.check("a node sees its own writes at once", || own_writes(hands));
    checks.check("a mapping of a file that is open to append", || mapping_to_append(hands));
    checks.check("writes over each other", || overlapping_writes(hands));
    checks.check("a directory that is read in parts", || directory_in_parts(hands));
    checks.check("tail -f", || tail(lab));
}

/// A file as it should be.
struct Model {
    bytes: Vec<u8>,
    /// What is written next: no two writes write the same.
    mark: u32,
    chance: StdRng,
}

/// One step of a turn, as `turn` of the hand's script takes it.
struct Step {
    what: &'static str,
    at: usize,
    len: usize,
}

impl Model {
    fn write(&mut self, at: usize, len: usize) {
        self.mark += 1;
        let end = at + len;
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        let mark = self.mark.to_le_bytes();
        let data = mark.iter().cycle().copied();
        self.bytes[at..end].iter_mut().zip(data).for_each(|(byte, new)| *byte = new);
    }

    fn said(&self, at: usize, len: usize) -> String {
        let end = (at + len).min(self.bytes.len());
        format!("{len}:{}", crc32fast::hash(&self.bytes[at.min(end)..end]))
    }

    fn whole(&self) -> String {
        self.said(0, self.bytes.len())
    }

    /// Something that can be done to a file of this length.
    fn step(&mut self, appends: bool) -> Step {
        let size = self.bytes.len();
        let at = self.chance.gen_range(0..SIZE_MAX - 70_000);
        let len = match self.chance.gen_range(0..3) {
            0 => self.chance.gen_range(1..100),
            1 => self.chance.gen_range(1..5_000),
            _ => self.chance.gen_range(1..70_000),
        };
        let inside = at < size && at + len <= size;
        match self.chance.gen_range(0..7) {
            0 => Step { what: "truncate", at, len: 0 },
            1 if inside => Step { what: "map", at, len },
            // The mapping of a file that is open to append has a step of its own.
            2 if inside && !appends => Step { what: "mapwrite", at, len },
            3 => Step { what: "read", at, len },
            _ if !appends => Step { what: "write", at, len },
            _ if size + len <= SIZE_MAX => Step { what: "append", at: size, len },
            _ => Step { what: "truncate", at: size / 2, len: 0 },
        }
    }

    /// Does it to the model; what the hand should say of it.
    fn does(&mut self, step: &Step) -> Option<String> {
        match step.what {
            "truncate" => self.bytes.resize(step.at, 0),
            "read" | "map" => return Some(self.said(step.at, step.len)),
            _ => self.write(step.at, step.len),
        }
        None
    }
}

/// Three nodes take turns with one file, and every one finds what the one before has left.
fn close_to_open(hands: &mut [Hand; 3]) {
    let seed = seed();
    let chance = StdRng::seed_from_u64(seed);
    let mut model = Model { bytes: Vec::new(), mark: 0, chance };
    hands[1].ok(&format!("put({:?}, b'')", on(2, "same/turns")));
    let (begun, mut turns) = (Instant::now(), 0);
    while begun.elapsed() < long() {
        let node = model.chance.gen_range(0..3);
        let appends = model.chance.gen_ratio(1, 4);
        let truncates = model.chance.gen_ratio(1, 10);
        let mut flags = O_RDWR;
        if appends {
            flags |= O_APPEND;
        }
        if truncates {
            flags |= O_TRUNC;
            model.bytes.clear();
        }
        let (mut steps, mut wanted) = (String::new(), vec![model.whole()]);
        for _ in 0..model.chance.gen_range(0..5) {
            let step = model.step(appends);
            wanted.extend(model.does(&step));
            let Step { what, at, len } = step;
            steps += &format!("({what:?}, {at}, {len}, {}), ", model.mark);
        }
        wanted.push(model.whole());
        let path = on(node as u32 + 1, "same/turns");
        let said = hands[node].ok(&format!("turn({path:?}, {flags}, [{steps}])"));
        let again = format!("KRG_SEED={seed}, turn {turns} on node {}: {steps}", node + 1);
        assert_eq!(said, wanted.join(" "), "{again}");
        turns += 1;
    }
    assert!(turns > 20, "only {turns} turns");
    eprintln!("{turns} turns, KRG_SEED={seed}");
}

/// Who locks a file sees what was written under the lock before, also in what is open already.
fn under_a_lock(hands: &mut [Hand; 3]) {
    let [one, two, three] = hands;
    two.ok(&format!("put({:?}, b'0' * 8192)", on(2, "same/counter")));
    for (hand, node) in [(&mut *one, 1), (two, 2), (three, 3)] {
        hand.ok(&format!("op('c', {:?})", on(node, "same/counter")));
        hand.ok("rd('c', 8192)");
    }
    for round in 1..60_usize {
        let hand = &mut hands[round % 3];
        hand.ok("lock('c', 'w', True)");
        let seen = hand.ok("int(rd('c', 4).decode())");
        assert_eq!(seen, (round - 1).to_string(), "node {} in round {round}", round % 3 + 1);
        hand.ok(&format!("wr('c', b'{round:04}')"));
        hand.ok("lock('c', 'u')");
    }
    hands.iter_mut().for_each(|hand| drop(hand.ok("cl('c')")));
    // And all at once.
    hands[1].ok(&format!("put({:?}, b'0' * 8)", on(2, "same/counter")));
    for (node, hand) in (1..).zip(hands.iter_mut()) {
        hand.send(&format!("count({:?}, {INCREMENTS})", on(node, "same/counter")));
    }
    for hand in hands.iter_mut() {
        let said = hand.answer(Duration::from_secs(60));
        assert!(matches!(said, Some(Ok(_))), "{said:?}");
    }
    let total = hands[1].ok(&format!("int(get({:?}))", on(2, "same/counter")));
    assert_eq!(total, (3 * INCREMENTS).to_string());
}

#[track_caller]
fn becomes(hand: &mut Hand, step: &str, wanted: &str, limit: Duration) {
    within(limit, || match hand.ask(step) {
        Ok(value) if value == wanted => Ok(()),
        Err(errno) if errno == wanted => Ok(()),
        other => Err(format!("{step}: {other:?}, not {wanted}")),
    });
}

/// What is open is read as it is, a second later: also the first time.
fn open_files_follow(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "same/open"), on(1, "same/open"));
    two.ok(&format!("put({own:?}, b'old old')"));
    for read_before in [true, false] {
        two.ok(&format!("put({own:?}, b'old old')"));
        std::thread::park_timeout(TOLD);
        one.ok(&format!("os.stat({far:?})"));
        one.ok(&format!("op('f', {far:?}, os.O_RDONLY)"));
        if read_before {
            one.ok("rd('f')");
        }
        two.ok(&format!("put({own:?}, b'new new')"));
        std::thread::park_timeout(TOLD);
        assert_eq!(one.ok("rd('f').decode()"), "new new", "read before: {read_before}");
        two.ok(&format!("put({own:?}, b'longer than before')"));
        becomes(one, "rd('f').decode()", "longer than before", TOLD);
        becomes(one, "os.fstat(fds['f']).st_size", "18", TOLD);
        one.ok("cl('f')");
    }
}

/// A name that another node makes, moves or removes.
fn names_follow(hands: &mut [Hand; 3]) {
    let [one, two, three] = hands;
    let (own, far) = (on(2, "same/name"), on(1, "same/name"));
    let stat = format!("os.stat({far:?}).st_size");
    assert_eq!(one.ask(&stat), Err("ENOENT".into()));
    two.ok(&format!("put({own:?}, b'12345')"));
    becomes(one, &stat, "5", TOLD);
    three.ok(&format!("os.rename({far:?}, {far:?} + '2')"));
    becomes(one, &stat, "ENOENT", TOLD);
    becomes(two, &stat.replace("/mfs/2", ""), "ENOENT", TOLD);
    let other = format!("os.stat({far:?} + '2').st_mode & 0o777");
    becomes(one, &other, "420", TOLD);
    two.ok(&format!("os.chmod({own:?} + '2', 0o600)"));
    becomes(one, &other, "384", TOLD);
    two.ok(&format!("os.unlink({own:?} + '2')"));
    becomes(one, &other, "ENOENT", TOLD);
    let list = format!("sorted(os.listdir({:?}))", on(1, "same/dir"));
    two.ok(&format!("os.mkdir({:?})", on(2, "same/dir")));
    becomes(one, &list, "[]", TOLD);
    two.ok(&format!("put({:?}, b'')", on(2, "same/dir/a")));
    becomes(one, &list, "['a']", TOLD);
}

/// A node's own writes are there at once, through whatever it reads them.
fn own_writes(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let far = on(1, "same/mine");
    two.ok(&format!("put({:?}, b'old old old')", on(2, "same/mine")));
    for (change, wanted) in [
        ("wr('w', b'new')", "new old old"),
        ("os.ftruncate(fds['w'], 3)", "new"),
        ("os.ftruncate(fds['w'], 5)", "new\0\0"),
        ("wr('w', b'x' * 11)", "xxxxxxxxxxx"),
        ("fallocate('w', 3, 0, 2)", "\0\0xxxxxxxxx"),
    ] {
        std::thread::park_timeout(TOLD);
        one.ok(&format!("os.stat({far:?})"));
        one.ok(&format!("op('r', {far:?}, os.O_RDONLY)"));
        one.ok(&format!("op('w', {far:?}, os.O_WRONLY)"));
        one.ok(change);
        assert_eq!(one.ok("rd('r').decode()"), wanted, "after {change}");
        one.ok("cl('r')");
        one.ok("cl('w')");
    }
    one.ok(&format!("op('a', {far:?}, os.O_RDWR | os.O_APPEND)"));
    one.ok("rd('a')");
    let own = on(2, "same/mine");
    two.ok(&format!("open({own:?}, 'ab').write(b'far')"));
    one.ok("os.write(fds['a'], b'near')");
    assert_eq!(one.ok("rd('a')[11:].decode()"), "farnear", "append where the end really is");
    one.ok("cl('a')");
}

/// What is written to a mapping goes to its place, whatever the file was opened with.
fn mapping_to_append(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "same/map"), on(1, "same/map"));
    two.ok(&format!("put({own:?}, b'-' * 10000)"));
    one.ok(&format!("op('a', {far:?}, os.O_RDWR | os.O_APPEND)"));
    one.ok("fds.update(m=mmap.mmap(fds['a'], 0))");
    one.ok("fds['m'].write(b'mapped')");
    one.ok("fds.pop('m').close()");
    one.ok("os.write(fds['a'], b'appended')");
    one.ok("cl('a')");
    let seen = two.ok(&format!("(get({own:?})[:7] + get({own:?})[9999:]).decode()"));
    assert_eq!(seen, "mapped--appended");
}

/// The last of many quick writes to the same place is what stays.
fn overlapping_writes(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "same/over"), on(1, "same/over"));
    for round in 0..40 {
        one.ok(&format!("op('o', {far:?}, os.O_RDWR | os.O_CREAT | os.O_TRUNC)"));
        // Long and short ones: they go different ways.
        let many = "[wr('o', bytes([97 + n]) * (100000 if n % 3 else 10), n % 2) and n \
                    for n in range(20)][0]";
        one.ok(many);
        one.ok("cl('o')");
        let seen = two.ok(&format!("get({own:?})[:12].decode()"));
        assert_eq!(seen, "sttttttttttt", "round {round}");
    }
}

/// A node reads a directory in parts: what it does in between is not undone by what was read
/// before.
fn directory_in_parts(hands: &mut [Hand; 3]) {
    let [one, two, _] = hands;
    let (own, far) = (on(2, "same/many"), on(1, "same/many"));
    two.ok(&format!("os.mkdir({own:?})"));
    two.ok(&format!("[put({own:?} + f'/{{n:04}}', b'1') for n in range(1000)][0]"));
    one.ok(&format!("fds.update(d=os.scandir({far:?}), at={far:?} + '/')"));
    one.ok("fds.update(seen=[next(fds['d']).name for n in range(10)])");
    one.ok(
        "fds.update(rest=[n for n in map('{:04}'.format, range(1000)) if n not in fds['seen']])",
    );
    one.ok("[put(fds['at'] + n, b'longer') for n in fds['rest'][::2]][0]");
    one.ok("[os.unlink(fds['at'] + n) for n in fds['rest'][1::2]][0]");
    one.ok("len(list(fds['d']))");
    let short = "[n for n in fds['rest'][::2] if os.stat(fds['at'] + n).st_size != 6]";
    assert_eq!(one.ok(short), "[]", "these are as they were before");
    let there = "[n for n in fds['rest'][1::2] if os.path.exists(fds['at'] + n)]";
    assert_eq!(one.ok(there), "[]", "these are gone");
    // The same with what another node does.
    one.ok("fds.update(d=os.scandir(fds['at']))");
    one.ok("next(fds['d']).name");
    two.ok(&format!("[os.unlink({own:?} + '/' + n) for n in os.listdir({own:?})][0]"));
    std::thread::park_timeout(Duration::from_millis(200));
    one.ok("len(list(fds['d']))");
    let there = "[n for n in fds['rest'][::2] if os.path.exists(fds['at'] + n)]";
    becomes(one, there, "[]", TOLD);
}

/// Lines that a process of node 2 writes are seen by `tail -f` on node 1 within a second.
fn tail(lab: &Lab) {
    let (own, far) = (on(2, "same/log"), on(1, "same/log"));
    lab.sh(2, &format!("echo first > {own}")).ok();
    let pid = lab.background(1, &format!("exec tail -f -s 0.1 {far} > /tmp/tail.out 2>&1"));
    let seen = |wanted: usize| {
        within(TOLD, || match lab.sh(1, "cat /tmp/tail.out").out {
            text if text.lines().count() == wanted => Ok(()),
            text => Err(format!("{wanted} lines? {text}")),
        });
    };
    seen(1);
    for line in 2..6 {
        lab.sh(2, &format!("echo line {line} >> {own}")).ok();
        seen(line);
    }
    lab.sh(1, &format!("kill {pid}")).ok();
}
