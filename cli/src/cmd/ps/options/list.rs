//! Lists of processes, users and groups: between commas, blanks or tabs.

use super::{Done, Listed, Refusal};
use nix::unistd::{Group, User};

/// All that were said.
#[derive(Default)]
pub struct Lists {
    /// In their order.
    pub all: Vec<Listed>,
    /// What is on none of them is meant.
    pub negate: bool,
}

fn items(list: &str) -> Result<Vec<&str>, Refusal> {
    let items: Vec<&str> = list.split([',', ' ', '\t']).collect();
    if items.iter().any(|item| item.is_empty()) { Err(Refusal::Wrong) } else { Ok(items) }
}

fn number(item: &str) -> Option<u32> {
    // An octal or hexadecimal one is left to ps.
    let plain =
        item.bytes().all(|b| b.is_ascii_digit()) && (item == "0" || !item.starts_with('0'));
    plain.then(|| item.parse().ok()).flatten()
}

impl Lists {
    /// Adds processes, groups of them or sessions.
    pub fn pids(&mut self, list: &str, kind: fn(Vec<u32>) -> Listed) -> Done {
        let pid = |item: &&str| number(item).filter(|pid| (1..1 << 31).contains(pid));
        let pids: Option<Vec<u32>> = items(list)?.iter().map(pid).collect();
        self.all.push(kind(pids.ok_or(Refusal::Wrong)?));
        Ok(())
    }

    /// Adds users, by number or name.
    pub fn users(&mut self, list: &str, kind: fn(Vec<u32>) -> Listed) -> Done {
        let named =
            |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        self.ids(list, kind, named)
    }

    /// Adds groups of users, by number or name.
    pub fn groups(&mut self, list: &str, kind: fn(Vec<u32>) -> Listed) -> Done {
        let named =
            |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        self.ids(list, kind, named)
    }

    fn ids(
        &mut self,
        list: &str,
        kind: fn(Vec<u32>) -> Listed,
        named: impl Fn(&str) -> Option<u32>,
    ) -> Done {
        let id = |item: &&str| number(item).or_else(|| named(item));
        let ids: Option<Vec<u32>> = items(list)?.iter().map(id).collect();
        // With -N somebody who does not exist is nobody.
        let unknown = if self.negate { Refusal::Beyond } else { Refusal::Wrong };
        self.all.push(kind(ids.ok_or(unknown)?));
        Ok(())
    }

    /// Adds names of programs.
    pub fn names(&mut self, list: &str) -> Done {
        let names = items(list)?.into_iter().map(|name| name.as_bytes().to_vec());
        self.all.push(Listed::Names(names.collect()));
        Ok(())
    }
}
