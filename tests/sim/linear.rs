//! One key of the configuration as a sequential object, and its history for stateright.

use super::history::{Asked, Op, Outcome};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::BTreeMap;

/// Questions whose outcome is unknown have threads of their own, from this number on.
const UNKNOWN: u64 = 1 << 32;
/// A key with more unknown outcomes is not checked here: the tester would take too long. The
/// other invariants hold it to account all the same.
const UNKNOWN_MAX: usize = 8;

/// A key: its value and the revision that set it (0: by a question whose outcome is unknown).
#[derive(Clone, Default, Debug)]
struct Key(Option<(String, u64)>);

/// What is asked of it.
#[derive(Clone, Debug)]
enum KeyOp {
    Set { value: String, if_revision: Option<u64> },
    Read,
}

/// What it answers.
#[derive(Clone, PartialEq, Debug)]
enum KeyRet {
    Done(u64),
    NotNow(u64),
    Read(Option<(String, u64)>),
}

impl Key {
    fn revision(&self) -> u64 {
        self.0.as_ref().map_or(0, |(_, revision)| *revision)
    }

    /// A write of unknown outcome has set it: its revision is not known.
    fn is_unsure(&self) -> bool {
        matches!(self.0, Some((_, 0)))
    }
}

impl SequentialSpec for Key {
    type Op = KeyOp;
    type Ret = KeyRet;

    /// Asked for what nobody was told the answer of.
    fn invoke(&mut self, op: &KeyOp) -> KeyRet {
        match op {
            KeyOp::Read => KeyRet::Read(self.0.clone()),
            KeyOp::Set { if_revision: Some(wanted), .. }
                if !self.is_unsure() && *wanted != self.revision() =>
            {
                KeyRet::NotNow(self.revision())
            }
            KeyOp::Set { value, .. } => {
                self.0 = Some((value.clone(), 0));
                KeyRet::Done(0)
            }
        }
    }

    fn is_valid_step(&mut self, op: &KeyOp, ret: &KeyRet) -> bool {
        match (op, ret) {
            (KeyOp::Read, KeyRet::Read(told)) => {
                let same = match (&self.0, told) {
                    (Some((value, 0)), Some((read, _))) => value == read,
                    (here, told) => here == told,
                };
                if same {
                    self.0.clone_from(told);
                }
                same
            }
            (KeyOp::Set { value, if_revision }, KeyRet::Done(revision)) => {
                let holds = if_revision.is_none_or(|r| self.is_unsure() || r == self.revision());
                let grows = *revision > self.revision();
                self.0 = Some((value.clone(), *revision));
                holds && grows
            }
            (KeyOp::Set { if_revision: Some(wanted), .. }, KeyRet::NotNow(found)) => {
                if self.is_unsure()
                    && let Some((_, revision)) = &mut self.0
                {
                    *revision = *found;
                }
                *found == self.revision() && found != wanted
            }
            _ => false,
        }
    }
}

/// Checks the histories of all keys.
///
/// # Errors
/// Which key's has no such order, and the history.
pub fn check(all: &[Asked]) -> Result<(), String> {
    let mut keys: BTreeMap<&str, Vec<(usize, &Asked)>> = BTreeMap::new();
    for (n, asked) in all.iter().enumerate() {
        if let Op::Set { key, .. } | Op::Read { key } = &asked.op {
            keys.entry(key).or_default().push((n, asked));
        }
    }
    for (key, asked) in keys {
        let unknown = |a: &&(usize, &Asked)| matches!(kept(a.1), Some(None));
        if asked.iter().filter(unknown).count() > UNKNOWN_MAX {
            continue;
        }
        if !is_linearizable(&asked)? {
            let lines: Vec<String> = asked.iter().map(|(n, a)| format!("{n}: {a:?}")).collect();
            return Err(format!("{key}:\n{}", lines.join("\n")));
        }
    }
    Ok(())
}

/// The answer as the tester wants it: nothing at all for what surely was not done, `Some(None)`
/// for what may have been.
fn kept(asked: &Asked) -> Option<Option<KeyRet>> {
    match (&asked.op, asked.outcome()) {
        (_, Some(Outcome::Done(revision))) => Some(Some(KeyRet::Done(*revision))),
        (_, Some(Outcome::NotNow(revision))) => Some(Some(KeyRet::NotNow(*revision))),
        (_, Some(Outcome::Read(_, row))) => Some(Some(KeyRet::Read(row.clone()))),
        (Op::Set { .. }, None | Some(Outcome::Unknown(_))) => Some(None),
        _ => None,
    }
}

fn is_linearizable(asked: &[(usize, &Asked)]) -> Result<bool, String> {
    let mut events = Vec::new();
    for (n, asked) in asked {
        let Some(ret) = kept(asked) else { continue };
        let op = match &asked.op {
            Op::Set { value, if_revision, .. } => {
                KeyOp::Set { value: value.clone(), if_revision: *if_revision }
            }
            _ => KeyOp::Read,
        };
        let thread = if ret.is_some() { asked.client } else { UNKNOWN + *n as u64 };
        // At the same moment questions come before answers: they are taken as concurrent, unless
        // they are of the same client.
        events.push((asked.invoked, *n, thread, Some(op), None));
        if let (Some(ret), Some((returned, _))) = (ret, &asked.returned) {
            events.push((*returned, *n, thread, None, Some(ret)));
        }
    }
    events.sort_by_key(|(at, n, _, op, _)| (*at, op.is_none(), *n));
    let mut tester = LinearizabilityTester::new(Key::default());
    for (_, _, thread, op, ret) in events {
        match (op, ret) {
            (Some(op), _) => drop(tester.on_invoke(thread, op)?),
            (_, Some(ret)) => drop(tester.on_return(thread, ret)?),
            _ => {}
        }
    }
    Ok(tester.is_consistent())
}
