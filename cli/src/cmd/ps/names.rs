//! What this machine calls users and groups: asked once each.

use nix::unistd::{Gid, Group, Uid, User};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The names that were asked for.
#[derive(Default)]
pub struct Names {
    users: RefCell<HashMap<u32, Rc<str>>>,
    groups: RefCell<HashMap<u32, Rc<str>>>,
}

fn cached(
    known: &RefCell<HashMap<u32, Rc<str>>>,
    id: u32,
    ask: impl FnOnce() -> Option<String>,
) -> Rc<str> {
    if let Some(name) = known.borrow().get(&id) {
        return name.clone();
    }
    let name: Rc<str> = ask().unwrap_or_else(|| id.to_string()).into();
    known.borrow_mut().insert(id, name.clone());
    name
}

impl Names {
    /// A user's name, or his number if he has none here.
    pub fn user(&self, uid: u32) -> Rc<str> {
        let ask = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        cached(&self.users, uid, ask)
    }

    /// The same of a group.
    pub fn group(&self, gid: u32) -> Rc<str> {
        let ask = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        cached(&self.groups, gid, ask)
    }
}
