//! `nodes add`: lets nodes take part, in Kerrighed's words.

use super::bracketed;
use crate::args::nodes::Which;
use crate::daemon;
use anyhow::Result;
use krg_rpc::proto::control::{NodesAddProgress, NodesAddRequest};
use krg_types::limits::PROTOCOL_VERSION;
use std::io::Write;

/// Lets nodes take part, and waits for them if need be, `timeout_ms` at most. Returns the exit
/// code; what went wrong is on standard output, as it always was.
///
/// # Errors
/// When krgd does not run or is stuck, or standard output cannot be written.
pub fn add(which: Which, timeout_ms: Option<u32>) -> Result<u8> {
    // The waiting has no end of its own, so a krgd that does not answer is found out before.
    daemon::status()?;
    let empty = NodesAddRequest {
        version: PROTOCOL_VERSION,
        timeout_ms: timeout_ms.unwrap_or(0),
        ..NodesAddRequest::default()
    };
    let request = match which {
        Which::List(set) => {
            NodesAddRequest { nodes: set.iter().map(|n| n.get()).collect(), ..empty }
        }
        Which::Count(count) => NodesAddRequest { count, ..empty },
        Which::Total(total) => NodesAddRequest { total, ..empty },
        Which::All => NodesAddRequest { all: true, ..empty },
    };
    let mut words = Words::default();
    let followed = daemon::follow(
        None,
        async |mut krgd| krgd.nodes_add(request).await,
        |progress| put(&words.next(&progress)),
    );
    match followed {
        Err(e) if daemon::is_absent(&e) => Err(e),
        Err(e) => put(&words.fail(&format!("{e:#}"))).map(|()| 1),
        Ok(()) if words.stage != Stage::Done => put(&words.fail("krgd ended")).map(|()| 1),
        Ok(()) => Ok(0),
    }
}

fn put(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Stage {
    #[default]
    Nothing,
    Waiting,
    Adding,
    Done,
}

/// What was printed so far, so that the next bit fits.
#[derive(Default)]
struct Words {
    stage: Stage,
    /// How many characters the numbers at the end of the line take.
    width: usize,
}

impl Words {
    fn next(&mut self, progress: &NodesAddProgress) -> String {
        let mut text = String::new();
        if self.stage == Stage::Done {
            return text;
        }
        let asked = !progress.wanted.is_empty() || progress.needed > 0;
        if asked && self.stage <= Stage::Waiting {
            text += &self.wait(progress);
        }
        if (progress.adding || progress.done) && self.stage < Stage::Adding {
            if self.stage == Stage::Waiting {
                text += " done\n";
            }
            text += &match progress.added.as_slice() {
                [] => "No present node to add.\n".into(),
                added => format!("Adding nodes {}... ", bracketed(added)),
            };
            let nobody = progress.added.is_empty();
            self.stage = if nobody { Stage::Done } else { Stage::Adding };
        }
        if progress.done && self.stage == Stage::Adding {
            text += "done\n";
            self.stage = Stage::Done;
        }
        text
    }

    /// The numbers, over the ones that are there.
    fn wait(&mut self, progress: &NodesAddProgress) -> String {
        let mut text = "\u{8}".repeat(self.width);
        if self.stage == Stage::Nothing {
            text += &match progress.needed {
                0 => "Waiting for nodes to join... ".to_owned(),
                needed => format!("Waiting for {needed} nodes to join... "),
            };
            self.stage = Stage::Waiting;
        }
        let numbers: String = match progress.needed {
            0 => {
                let there = |n: &u32| u8::from(progress.there.contains(n));
                progress.wanted.iter().map(|n| format!("{n:4}:{}", there(n))).collect()
            }
            needed => format!("{:4}/{needed:<4}", progress.have),
        };
        self.width = numbers.len();
        text + &numbers
    }

    fn fail(&mut self, why: &str) -> String {
        let text = match self.stage {
            Stage::Nothing => format!("Adding nodes... fail ({why})\n"),
            Stage::Waiting => format!(" fail ({why})\n"),
            Stage::Adding | Stage::Done => format!("fail ({why})\n"),
        };
        self.stage = Stage::Done;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(steps: &[NodesAddProgress]) -> String {
        let mut words = Words::default();
        steps.iter().map(|step| words.next(step)).collect()
    }

    fn adding(added: &[u32], done: bool) -> NodesAddProgress {
        NodesAddProgress { adding: true, done, added: added.to_vec(), ..Default::default() }
    }

    #[test]
    fn nodes_by_number() {
        let wait = |there: &[u32]| NodesAddProgress {
            wanted: vec![2, 13],
            there: there.to_vec(),
            ..NodesAddProgress::default()
        };
        let steps = [
            wait(&[]),
            wait(&[13]),
            wait(&[2, 13]),
            adding(&[2, 13], false),
            adding(&[2, 13], true),
        ];
        let back = "\u{8}".repeat(12);
        let wanted = format!(
            "Waiting for nodes to join...    2:0  13:0{back}   2:0  13:1{back}   2:1  13:1 \
             done\nAdding nodes [2,13]... done\n"
        );
        assert_eq!(all(&steps), wanted);
    }

    #[test]
    fn nodes_by_count() {
        let wait = |have| NodesAddProgress { needed: 3, have, ..NodesAddProgress::default() };
        let back = "\u{8}".repeat(9);
        let wanted = format!(
            "Waiting for 3 nodes to join...    1/3   {back}   3/3    done\n\
             Adding nodes [2,3,4]... done\n"
        );
        assert_eq!(all(&[wait(1), wait(3), adding(&[2, 3, 4], true)]), wanted);
    }

    #[test]
    fn nobody_to_add_and_failures() {
        assert_eq!(all(&[adding(&[], true)]), "No present node to add.\n");
        assert_eq!(all(&[adding(&[2], true), adding(&[2], true)]), "Adding nodes [2]... done\n");
        let mut words = Words::default();
        let text = words.next(&adding(&[2], false)) + &words.fail("no leader");
        assert_eq!(text, "Adding nodes [2]... fail (no leader)\n");
        let mut words = Words::default();
        let wait = NodesAddProgress { wanted: vec![9], ..NodesAddProgress::default() };
        let text = words.next(&wait) + &words.fail("timeout");
        assert_eq!(text, "Waiting for nodes to join...    9:0 fail (timeout)\n");
    }
}
