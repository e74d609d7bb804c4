//! What a process may do and have done to it: Kerrighed's capabilities, four sets of them for each
//! process (kerrighed_capabilities(7)). Pure: the rules of a change and of fork(2).

use std::fmt;

/// One of them; its number is its bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Capability {
    /// May change these sets.
    ChangeKerrighedCap = 0,
    /// May be moved.
    CanMigrate = 1,
    /// Its children may be made on another node.
    DistantFork = 2,
    /// Not here.
    ForkDelay = 3,
    /// May be saved.
    Checkpointable = 4,
    /// Its pages may go to other nodes.
    UseRemoteMemory = 5,
    /// Not here.
    UseIntraClusterKerstreams = 6,
    /// Not here.
    UseInterClusterKerstreams = 7,
    /// Not here.
    UseWorldVisibleKerstreams = 8,
    /// Sees its node's own stat, meminfo, cpuinfo, loadavg and uptime, not the cluster's.
    SeeLocalProcStat = 9,
    /// Not here.
    Debug = 10,
    /// Not here.
    SyscallExitHook = 11,
}

use Capability::*;

/// All of them, by their bits.
const NAMES: [(Capability, &str); 12] = [
    (ChangeKerrighedCap, "CHANGE_KERRIGHED_CAP"),
    (CanMigrate, "CAN_MIGRATE"),
    (DistantFork, "DISTANT_FORK"),
    (ForkDelay, "FORK_DELAY"),
    (Checkpointable, "CHECKPOINTABLE"),
    (UseRemoteMemory, "USE_REMOTE_MEMORY"),
    (UseIntraClusterKerstreams, "USE_INTRA_CLUSTER_KERSTREAMS"),
    (UseInterClusterKerstreams, "USE_INTER_CLUSTER_KERSTREAMS"),
    (UseWorldVisibleKerstreams, "USE_WORLD_VISIBLE_KERSTREAMS"),
    (SeeLocalProcStat, "SEE_LOCAL_PROC_STAT"),
    (Debug, "DEBUG"),
    (SyscallExitHook, "SYSCALL_EXIT_HOOK"),
];

/// The longest text of a set that is read, bytes: all names, and a sign.
const TEXT_BYTES_MAX: usize = 256;

impl Capability {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Capability> {
        NAMES.into_iter().map(|(capability, _)| capability)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The one of this name; its case, and `CAP_` before it, do not matter.
    pub fn named(word: &str) -> Option<Capability> {
        let word = word.to_ascii_uppercase();
        let word = word.strip_prefix("CAP_").unwrap_or(&word);
        NAMES.into_iter().find(|(_, name)| *name == word).map(|(capability, _)| capability)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct CapSet(u16);

impl CapSet {
    /// None.
    pub const EMPTY: CapSet = CapSet(0);
    /// Those that there are here.
    pub const SUPPORTED: CapSet = CapSet::of(&[
        ChangeKerrighedCap,
        CanMigrate,
        DistantFork,
        Checkpointable,
        UseRemoteMemory,
        SeeLocalProcStat,
    ]);

    /// These.
    pub const fn of(all: &[Capability]) -> CapSet {
        let (mut bits, mut at) = (0, 0);
        while at < all.len() {
            bits |= 1 << all[at] as u16;
            at += 1;
        }
        CapSet(bits)
    }

    /// By their bits; `None` if a bit is nobody's.
    pub fn from_bits(bits: u32) -> Option<CapSet> {
        let bits = u16::try_from(bits).ok()?;
        (bits >> NAMES.len() == 0).then_some(CapSet(bits))
    }

    /// Their bits.
    pub fn bits(self) -> u32 {
        self.0.into()
    }

    /// Is it in the set?
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u16 != 0
    }

    /// Are all of these in `other`?
    pub fn is_within(self, other: CapSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// Those in both.
    pub fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// Those in either.
    pub fn or(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// Those that are not in `other`.
    pub fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// One by one.
    pub fn members(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.has(*capability))
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.members().map(Capability::name).collect();
        f.write_str(&names.join(","))
    }
}

/// What is done to a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    /// It is these.
    Set(CapSet),
    /// These come to it.
    Add(CapSet),
    /// These go from it.
    Remove(CapSet),
}

/// A word that is no capability.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Unrecognized capability: {0}")]
pub struct Unrecognized(pub String);

impl Edit {
    /// As users write it: names with commas between them, or a number (octal after a 0), which are
    /// added to the set after a `+`, taken from it after a `-`, and are all of it without a sign.
    ///
    /// # Errors
    /// The word that is no capability.
    pub fn parse(text: &str) -> Result<Edit, Unrecognized> {
        let (sign, words) = match text.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(sign), &text[1..]),
            _ => (None, text),
        };
        let set = set(words)?;
        Ok(match sign {
            Some(b'+') => Edit::Add(set),
            Some(_) => Edit::Remove(set),
            None => Edit::Set(set),
        })
    }

    /// What comes of a set.
    pub fn apply(self, old: CapSet) -> CapSet {
        match self {
            Edit::Set(set) => set,
            Edit::Add(set) => old.or(set),
            Edit::Remove(set) => old.without(set),
        }
    }
}

fn set(words: &str) -> Result<CapSet, Unrecognized> {
    let unknown = |word: &str| Unrecognized(word.chars().take(TEXT_BYTES_MAX).collect());
    if words.len() > TEXT_BYTES_MAX {
        return Err(unknown(words));
    }
    if words.starts_with(|c: char| c.is_ascii_digit()) {
        let base = if words.starts_with('0') { 8 } else { 10 };
        let number = u32::from_str_radix(words, base).ok().and_then(CapSet::from_bits);
        return number.ok_or_else(|| unknown(words));
    }
    words.split(',').try_fold(CapSet::EMPTY, |set, word| {
        let capability = Capability::named(word).ok_or_else(|| unknown(word))?;
        Ok(set.or(CapSet::of(&[capability])))
    })
}

/// A change of the four sets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Edits {
    /// Of what it may have.
    pub permitted: Option<Edit>,
    /// Of what it has.
    pub effective: Option<Edit>,
    /// Of what its children may have.
    pub inheritable_permitted: Option<Edit>,
    /// Of what its children have.
    pub inheritable_effective: Option<Edit>,
}

/// Why the sets stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// EINVAL.
    #[error("{0} has {1}, which {2} has not")]
    NotWithin(&'static str, CapSet, &'static str),
    /// ENOSYS.
    #[error("not supported: {0}")]
    Unsupported(CapSet),
    /// EPERM.
    #[error("it may not change its capabilities: it has no CHANGE_KERRIGHED_CAP")]
    MayNotChange,
    /// EBUSY.
    #[error("in use: {0}")]
    InUse(CapSet),
}

/// The four sets of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sets {
    /// What it may have.
    pub permitted: CapSet,
    /// What it has.
    pub effective: CapSet,
    /// What its children may have.
    pub inheritable_permitted: CapSet,
    /// What its children have.
    pub inheritable_effective: CapSet,
}

impl Sets {
    /// Of a process of which nobody has said anything.
    pub const INITIAL: Sets = Sets::allowed(CapSet::of(&[ChangeKerrighedCap]));
    /// Of a program that was started to be moved.
    pub const JOB: Sets =
        Sets::allowed(CapSet::of(&[ChangeKerrighedCap, CanMigrate, Checkpointable]));

    /// Its own and its children's are these, and it may have all.
    const fn allowed(effective: CapSet) -> Sets {
        Sets {
            permitted: CapSet::SUPPORTED,
            effective,
            inheritable_permitted: CapSet::SUPPORTED,
            inheritable_effective: effective,
        }
    }

    /// Of a program started as a job with this said of its capabilities, and its children's.
    ///
    /// # Errors
    /// As [`Sets::change`].
    pub fn of_job(edit: Edit) -> Result<Sets, Refusal> {
        let (effective, inheritable_effective) = (Some(edit), Some(edit));
        let edits = Edits { effective, inheritable_effective, ..Edits::default() };
        Sets::JOB.change(&edits, CapSet::EMPTY)
    }

    /// Of a child that it has now (fork(2)).
    pub fn fork(&self) -> Sets {
        Sets {
            permitted: self.inheritable_permitted,
            effective: self.inheritable_effective.and(self.inheritable_permitted),
            ..*self
        }
    }

    /// What comes of a change. What it is not permitted any more it never is again. `in_use` cannot
    /// be taken from it now.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn change(&self, edits: &Edits, in_use: CapSet) -> Result<Sets, Refusal> {
        let edited = |edit: Option<Edit>, old| edit.map_or(old, |edit| edit.apply(old));
        let permitted = edited(edits.permitted, self.permitted);
        let effective = edited(edits.effective, self.effective);
        let ip = edited(edits.inheritable_permitted, self.inheritable_permitted);
        let ie = edited(edits.inheritable_effective, self.inheritable_effective);
        for (set, name, whole, whole_name) in [
            (effective, "effective", permitted, "permitted"),
            (ip, "inheritable permitted", permitted, "permitted"),
            (ie, "inheritable effective", ip, "inheritable permitted"),
        ] {
            // Of what there is not here the next rule speaks.
            let more = set.without(whole).and(CapSet::SUPPORTED);
            if more != CapSet::EMPTY {
                return Err(Refusal::NotWithin(name, more, whole_name));
            }
        }
        let unsupported = permitted.or(effective).or(ip).or(ie).without(CapSet::SUPPORTED);
        if unsupported != CapSet::EMPTY {
            return Err(Refusal::Unsupported(unsupported));
        }
        if !self.effective.has(ChangeKerrighedCap) {
            return Err(Refusal::MayNotChange);
        }
        let busy = in_use.and(self.effective).without(effective);
        if busy != CapSet::EMPTY {
            return Err(Refusal::InUse(busy));
        }
        let permitted = permitted.and(self.permitted);
        Ok(Sets {
            permitted,
            effective: effective.and(permitted),
            inheritable_permitted: ip.and(permitted),
            inheritable_effective: ie.and(permitted),
        })
    }

    /// As they are kept.
    pub fn to_text(&self) -> String {
        let Sets { permitted, effective, inheritable_permitted, inheritable_effective } = self;
        let [p, e, ip, ie] = [permitted, effective, inheritable_permitted, inheritable_effective]
            .map(|s| s.bits());
        format!("p={p:o} e={e:o} ip={ip:o} ie={ie:o}")
    }

    /// As they were kept; `None` for what is none.
    pub fn parse(text: &str) -> Option<Sets> {
        let field = |key: &str| {
            let mut words = text.split_whitespace();
            let number = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
            CapSet::from_bits(u32::from_str_radix(number, 8).ok()?)
        };
        Some(Sets {
            permitted: field("p")?,
            effective: field("e")?,
            inheritable_permitted: field("ip")?,
            inheritable_effective: field("ie")?,
        })
    }
}

#[cfg(test)]
mod tests;
