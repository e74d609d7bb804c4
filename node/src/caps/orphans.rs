//! Who loses its parent keeps what it had from it: what the kernel then calls its parent has other
//! capabilities. Pure.

use krg_migrate::caps::{Lineage, Whose};
use krg_types::capability::Sets;
use std::collections::HashMap;

/// Whose children all were when they were looked at last, as far as it makes a difference.
#[derive(Default, Debug)]
pub struct Families(HashMap<Whose, Lineage>);

impl Families {
    /// Of all processes of a node, and of what is kept, those who have lost a parent and would have
    /// other sets by that, with those that they had. Remembers how it is now.
    pub fn look(
        &mut self,
        all: Vec<Lineage>,
        kept: impl Fn(&Whose) -> Option<Sets>,
    ) -> Vec<(Whose, Sets)> {
        let mut orphans = Vec::new();
        let mut families = HashMap::new();
        for now in all {
            let Some(own) = now.own().filter(|own| kept(own).is_none()) else { continue };
            let before = self.0.remove(&own).unwrap_or_else(|| now.clone());
            let (had, has) = (before.sets(&kept), now.sets(&kept));
            if had != has {
                orphans.push((own, had));
                // Again, if that cannot be kept.
                families.insert(own, before);
            } else if has != Sets::INITIAL {
                families.insert(own, now);
            }
        }
        self.0 = families;
        orphans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::capability::{CapSet, Edit, Edits};

    fn process(pid: u32) -> Whose {
        Whose::Process { node: 1, boot: 1, pid, start: u64::from(pid) }
    }

    fn chain(pids: &[u32]) -> Lineage {
        Lineage(pids.iter().copied().map(process).collect())
    }

    #[test]
    fn orphans_keep_what_they_had() {
        let inheritable_effective = Some(Edit::Set(CapSet::SUPPORTED));
        let edits = Edits { inheritable_effective, ..Edits::default() };
        let said = Sets::INITIAL.change(&edits, CapSet::EMPTY).unwrap();
        let kept = |whose: &Whose| (*whose == process(7)).then_some(said);
        let mut families = Families::default();
        let before = vec![chain(&[1]), chain(&[7, 1]), chain(&[8, 7, 1]), chain(&[9, 8, 7, 1])];
        assert_eq!(families.look(before, kept), []);
        // Its grandchild loses a parent, and is told of until it is kept what it has.
        let after = vec![chain(&[1]), chain(&[7, 1]), chain(&[9, 1]), chain(&[10, 1])];
        for _ in 0..2 {
            assert_eq!(families.look(after.clone(), kept), [(process(9), said.fork())]);
        }
        let kept =
            |whose: &Whose| kept(whose).or_else(|| (*whose == process(9)).then(|| said.fork()));
        assert_eq!(families.look(after, kept), []);
        assert_eq!(families.look(vec![chain(&[11, 9, 1])], kept), []);
    }
}
