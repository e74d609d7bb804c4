//! A proposal is done once, however often it is sent (the Raft dissertation, section 6.3). Some
//! proposals take one number of a sequence that nobody else uses: its next number is always 2.

use super::Invariant;
use crate::sim::history::{Op, Outcome};
use crate::sim::oracle::Now;
use crate::sim::world::{Heard, lock};
use krg_meta::table::{decode_row, sequences};

#[derive(Default)]
pub struct ExactlyOnce;

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for (machine, _, heard) in now.heard {
            let Heard::Event(event) = heard else { continue };
            for change in event.changes.iter().filter(|c| c.table == "sequences") {
                let row = change.value.as_ref().map(|row| decode_row::<sequences::Next>(row));
                if change.key.starts_with("once/")
                    && !matches!(&row, Some(Ok(r)) if r.value.0 == 2)
                {
                    let (key, revision) = (&change.key, event.revision);
                    return Err(format!("machine {machine}: {key}: {row:?} at {revision}"));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let Some(glance) = now.glances.first() else { return Ok(()) };
        let next = |name: &str| glance.view.state.sequences.get(name).map_or(1, |next| next.0);
        let (mut told, mut untold) = (0, 0);
        for asked in &lock(&now.world.history).all {
            match (&asked.op, asked.outcome()) {
                (Op::Once { name }, Some(Outcome::Number(1))) if next(name) == 2 => {}
                (Op::Once { name }, Some(Outcome::Number(n))) => {
                    return Err(format!("{name} gave {n}, its next is {}", next(name)));
                }
                (Op::Once { name }, Some(Outcome::NotDone(_))) if next(name) != 1 => {
                    return Err(format!("{name} was refused and is at {}", next(name)));
                }
                (Op::Take { .. }, Some(Outcome::Number(_))) => told += 1,
                (Op::Take { .. }, Some(Outcome::Unknown(_)) | None) => untold += 1,
                _ => {}
            }
        }
        let given = next("shared") - 1;
        match (told..=told + untold).contains(&given) {
            true => Ok(()),
            false => Err(format!("{given} numbers given out, {told} told, {untold} unknown")),
        }
    }
}
