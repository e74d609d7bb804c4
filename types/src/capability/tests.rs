use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn edit(text: &str) -> Edit {
    Edit::parse(text).unwrap()
}

/// `-p +X -e 2`...
fn edits(text: &str) -> Edits {
    let mut edits = Edits::default();
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.chunks(2) {
        let which = match pair[0] {
            "-p" => &mut edits.permitted,
            "-e" => &mut edits.effective,
            "-i" => &mut edits.inheritable_permitted,
            "-d" => &mut edits.inheritable_effective,
            other => panic!("{other}"),
        };
        *which = Some(edit(pair[1]));
    }
    edits
}

#[test]
fn bits_and_names_are_those_of_kerrighed() {
    for (at, capability) in Capability::all().enumerate() {
        assert_eq!(capability as usize, at);
        assert_eq!(Capability::named(capability.name()), Some(capability));
    }
    assert_eq!(CapSet::SUPPORTED.bits(), 0o1067);
    assert_eq!(Sets::INITIAL.effective.bits(), 1);
    assert_eq!(
        Sets::JOB.effective.to_string(),
        "CHANGE_KERRIGHED_CAP,CAN_MIGRATE,CHECKPOINTABLE"
    );
}

#[test]
fn sets_are_read_as_users_write_them() {
    let (migrate, both) = (CapSet::of(&[CanMigrate]), CapSet::of(&[CanMigrate, DistantFork]));
    for (text, wanted) in [
        ("CAN_MIGRATE", Edit::Set(migrate)),
        ("+CAN_MIGRATE", Edit::Add(migrate)),
        ("-CAN_MIGRATE,DISTANT_FORK", Edit::Remove(both)),
        ("can_migrate,cap_distant_fork", Edit::Set(both)),
        ("6", Edit::Set(both)),
        ("06", Edit::Set(both)),
        ("+010", Edit::Add(CapSet::of(&[ForkDelay]))),
        ("10", Edit::Set(CapSet::of(&[CanMigrate, ForkDelay]))),
        ("0", Edit::Set(CapSet::EMPTY)),
        ("07777", Edit::Set(CapSet(0xfff))),
    ] {
        assert_eq!(Edit::parse(text), Ok(wanted), "{text}");
    }
    for (text, word) in [
        ("", ""),
        ("+", ""),
        ("NOSUCH", "NOSUCH"),
        ("CAN_MIGRATE,x", "x"),
        ("CAN_MIGRATE,", ""),
        ("+-CAN_MIGRATE", "-CAN_MIGRATE"),
        ("CAN_MIGRATE,+DEBUG", "+DEBUG"),
        ("08", "08"),
        ("4096", "4096"),
        ("99999999999", "99999999999"),
        ("0x2", "0x2"),
        ("1 ", "1 "),
    ] {
        assert_eq!(Edit::parse(text), Err(Unrecognized(word.into())), "{text}");
    }
    assert!(Edit::parse(&"DEBUG,".repeat(9_999)).is_err());
}

#[test]
fn a_change_keeps_the_rules() {
    use Refusal::*;
    let (none, migrate) = (CapSet::EMPTY, CapSet::of(&[CanMigrate]));
    let change = Sets::INITIAL;
    let bare = Sets { effective: none, ..change };
    let less = Sets { permitted: CapSet::SUPPORTED.without(migrate), ..change };
    let moves = Sets { effective: change.effective.or(migrate), ..change };
    for (old, text, in_use, wanted) in [
        (change, "", none, Ok("p=1067 e=1 ip=1067 ie=1")),
        (change, "-e +CAN_MIGRATE", none, Ok("p=1067 e=3 ip=1067 ie=1")),
        (change, "-d +CHECKPOINTABLE", none, Ok("p=1067 e=1 ip=1067 ie=21")),
        (change, "-e 0 -d 0", none, Ok("p=1067 e=0 ip=1067 ie=0")),
        (change, "-p -CAN_MIGRATE -i -CAN_MIGRATE", none, Ok("p=1065 e=1 ip=1065 ie=1")),
        (change, "-p 1 -i 1", none, Ok("p=1 e=1 ip=1 ie=1")),
        (
            change,
            "-p -CAN_MIGRATE",
            none,
            Err(NotWithin("inheritable permitted", migrate, "permitted")),
        ),
        (
            change,
            "-e +CAN_MIGRATE -p -CAN_MIGRATE -i -CAN_MIGRATE",
            none,
            Err(NotWithin("effective", migrate, "permitted")),
        ),
        (
            change,
            "-d +CAN_MIGRATE -i -CAN_MIGRATE",
            none,
            Err(NotWithin("inheritable effective", migrate, "inheritable permitted")),
        ),
        (change, "-p +DEBUG", none, Err(Unsupported(CapSet::of(&[Debug])))),
        (change, "-e +FORK_DELAY", none, Err(Unsupported(CapSet::of(&[ForkDelay])))),
        (bare, "-e +CHANGE_KERRIGHED_CAP", none, Err(MayNotChange)),
        (bare, "", none, Err(MayNotChange)),
        // What is not permitted any more does not come back.
        (less, "-p +CAN_MIGRATE -e +CAN_MIGRATE", none, Ok("p=1065 e=1 ip=1065 ie=1")),
        (moves, "-e -CAN_MIGRATE", migrate, Err(InUse(migrate))),
        (moves, "-e +DISTANT_FORK", migrate, Ok("p=1067 e=7 ip=1067 ie=1")),
        (moves, "-e -CAN_MIGRATE", none, Ok("p=1067 e=1 ip=1067 ie=1")),
        // What it has not is not in use.
        (change, "-e 1", migrate, Ok("p=1067 e=1 ip=1067 ie=1")),
    ] {
        let done = old.change(&edits(text), in_use).map(|sets| sets.to_text());
        assert_eq!(done, wanted.map(str::to_owned), "{text}");
    }
}

/// What happens to processes, in order.
enum Step {
    Fork(u32, u32),
    Change(u32, &'static str),
}

#[test]
fn children_have_what_was_inheritable_when_they_were_born() {
    use Step::*;
    // The checkpoint frontier of the course of 2009: own set / set of the sons.
    let steps = [
        Fork(1, 2),
        Change(1, "-d +CHECKPOINTABLE"),
        Fork(1, 3),
        Fork(3, 4),
        Fork(3, 5),
        Fork(5, 6),
        Fork(2, 7),
        // A son may have less than was meant for him, and his sons too.
        Change(3, "-d -CHECKPOINTABLE"),
        Fork(3, 8),
        Change(3, "-i -CHECKPOINTABLE"),
        Fork(3, 9),
    ];
    let mut all = HashMap::from([(1, Sets::INITIAL)]);
    for step in steps {
        match step {
            Fork(parent, child) => {
                let born = all[&parent].fork();
                assert_eq!(born.fork(), born, "once is enough");
                all.insert(child, born);
            }
            Change(pid, text) => {
                let sets = all[&pid].change(&edits(text), CapSet::EMPTY).unwrap();
                all.insert(pid, sets);
            }
        }
    }
    for (pid, wanted) in [
        (1, "/C"),
        (2, "/"),
        (3, "C/"),
        (4, "C/C"),
        (5, "C/C"),
        (6, "C/C"),
        (7, "/"),
        (8, "/"),
        (9, "/"),
    ] {
        let sets: &Sets = &all[&pid];
        let c = |set: CapSet| if set.has(Checkpointable) { "C" } else { "" };
        let shown = format!("{}/{}", c(sets.effective), c(sets.inheritable_effective));
        assert_eq!(shown, wanted, "P{pid}");
    }
    assert!(all[&8].permitted.has(Checkpointable) && !all[&9].permitted.has(Checkpointable));
}

#[test]
fn a_job_has_what_was_asked_for() {
    let of = |text| Sets::of_job(edit(text)).map(|sets| sets.to_text());
    assert_eq!(of("+SEE_LOCAL_PROC_STAT"), Ok("p=1067 e=1023 ip=1067 ie=1023".into()));
    assert_eq!(of("-CAN_MIGRATE"), Ok("p=1067 e=21 ip=1067 ie=21".into()));
    assert_eq!(of("0"), Ok("p=1067 e=0 ip=1067 ie=0".into()));
    assert!(of("+DEBUG").is_err());
}

proptest! {
    #[test]
    fn no_change_breaks_what_holds_of_all_sets(
        all in prop::collection::vec(prop::option::of((0..3u8, 0..4096u32)), 4..40)
    ) {
        let mut sets = Sets::INITIAL;
        for four in all.chunks_exact(4) {
            let edit = |at: usize| four[at].map(|(op, bits)| {
                let set = CapSet(bits as u16);
                [Edit::Set(set), Edit::Add(set), Edit::Remove(set)][usize::from(op)]
            });
            let edits = Edits {
                permitted: edit(0), effective: edit(1),
                inheritable_permitted: edit(2), inheritable_effective: edit(3),
            };
            if let Ok(new) = sets.change(&edits, CapSet::EMPTY) {
                prop_assert!(new.permitted.is_within(sets.permitted));
                sets = new;
            }
            for sets in [sets, sets.fork()] {
                prop_assert!(sets.effective.is_within(sets.permitted));
                prop_assert!(sets.inheritable_permitted.is_within(sets.permitted));
                prop_assert!(sets.inheritable_effective.is_within(sets.inheritable_permitted));
                prop_assert_eq!(Sets::parse(&sets.to_text()), Some(sets));
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,40}") {
        let _ = Edit::parse(&text);
        let _ = Sets::parse(&text);
    }
}
