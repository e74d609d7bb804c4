//! Sets and changes of them, as they are told.

use krg_rpc::proto::capability as wire;
use krg_types::capability::{CapSet, Edit, Edits, Refusal, Sets};

/// As they are told.
pub fn told(sets: &Sets) -> wire::Sets {
    wire::Sets {
        permitted: sets.permitted.bits(),
        effective: sets.effective.bits(),
        inheritable_permitted: sets.inheritable_permitted.bits(),
        inheritable_effective: sets.inheritable_effective.bits(),
    }
}

/// A change that was asked for; `None` for what is none.
pub fn heard(edits: &wire::Edits) -> Option<Edits> {
    let edit = |edit: &Option<wire::Edit>| match edit {
        None => Some(None),
        Some(wire::Edit { how, bits }) => {
            let set = CapSet::from_bits(*bits)?;
            match how {
                0 => Some(Some(Edit::Set(set))),
                1 => Some(Some(Edit::Add(set))),
                2 => Some(Some(Edit::Remove(set))),
                _ => None,
            }
        }
    };
    Some(Edits {
        permitted: edit(&edits.permitted)?,
        effective: edit(&edits.effective)?,
        inheritable_permitted: edit(&edits.inheritable_permitted)?,
        inheritable_effective: edit(&edits.inheritable_effective)?,
    })
}

/// Of Kerrighed's system call.
pub fn errno(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::NotWithin(..) => libc::EINVAL,
        Refusal::Unsupported(_) => libc::ENOSYS,
        Refusal::MayNotChange => libc::EPERM,
        Refusal::InUse(_) => libc::EBUSY,
    }
}

/// Nothing was done.
pub fn refused(errno: i32, why: impl Into<String>) -> wire::Reply {
    wire::Reply { errno, why: why.into(), ..wire::Reply::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_no_change() {
        let with = |how, bits| {
            heard(&wire::Edits {
                effective: Some(wire::Edit { how, bits }),
                ..Default::default()
            })
        };
        assert_eq!(heard(&wire::Edits::default()), Some(Edits::default()));
        let one = CapSet::from_bits(1).unwrap();
        assert_eq!(with(1, 1).and_then(|edits| edits.effective), Some(Edit::Add(one)));
        assert_eq!((with(3, 1), with(0, 1 << 12), with(2, u32::MAX)), (None, None, None));
    }
}
