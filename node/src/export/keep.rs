//! Keeps the tree that others see as it should be: with the rules that are wanted, and with what
//! is mounted on this node.

use krg_faf::export::{Rules, mounts_seen, places_seen};
use krg_faf::server::Server;
use krg_sys::mount::{Changes, mountinfo};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a tree was made for what was mounted, the next is not made within this.
const PAUSE: Duration = Duration::from_millis(500);
/// What could not be shown is tried again after this, and it is looked whether the directories
/// that the rules name are those that they were; of mounts the kernel tells.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Looking at the mount table takes one part in so many of a processor.
const SHARE: u32 = 5;

/// One server's.
pub struct Keeper {
    server: Arc<Server>,
    wanted: Mutex<Wanted>,
}

/// What should be.
struct Wanted {
    rules: Arc<Rules>,
    /// It could not be made so: the tree is as it was before.
    failed: bool,
}

/// Says that something is not shown as it should be.
pub fn refused(why: &str) {
    tracing::warn!(%why, "/mfs: the tree that others see stays as it was, or closed");
}

impl Keeper {
    /// For a server that was made just now, perhaps by other rules than are wanted.
    pub fn new(server: Arc<Server>, rules: Rules) -> Keeper {
        let failed = **server.export().tree().rules() != rules;
        let wanted = Mutex::new(Wanted { rules: Arc::new(rules), failed });
        Keeper { server, wanted }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other rules hold from now on; bad ones do not.
    pub fn want(&self, rules: Result<Rules, String>) {
        let rules = match rules {
            Ok(rules) => Arc::new(rules),
            Err(why) => return refused(&why),
        };
        let mut wanted = self.wanted();
        if wanted.rules == rules && !wanted.failed {
            return;
        }
        wanted.failed = false;
        wanted.rules = rules;
        self.make(&mut wanted);
    }

    /// Makes the tree as it should be, or else as it was with what is mounted now: a disk that was
    /// taken away is not to be held.
    fn make(&self, wanted: &mut Wanted) {
        let made = self.server.rebuild(wanted.rules.clone());
        let Err(e) = made else {
            wanted.failed = false;
            return;
        };
        if !std::mem::replace(&mut wanted.failed, true) {
            refused(&format!("{}: {e}", wanted.rules.root.display()));
        }
        let last = self.server.export().tree().rules().clone();
        if last != wanted.rules
            && let Err(e) = self.server.rebuild(last)
        {
            tracing::debug!(error = %e, "not made anew");
        }
    }

    /// Follows the mount table on a thread of its own: it waits for as long as nothing is mounted.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn follow(self: Arc<Self>, mut mounts: Seen) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("mounts".into());
        thread.spawn(move || {
            let Err(e) = self.keep_up(&mut mounts);
            tracing::error!(error = %e, "what is mounted is not followed any more");
        })?;
        Ok(())
    }

    fn keep_up(&self, mounts: &mut Seen) -> Result<Infallible, io::Error> {
        loop {
            let told = mounts.changes.wait(LOOK_PERIOD)?;
            let (rules, failed) = {
                let wanted = self.wanted();
                (wanted.rules.clone(), wanted.failed)
            };
            let began = Instant::now();
            // A mount of krg's own, or of a container's /proc, is no reason to do anything.
            let differs = mounts.look_at_places(&rules) | (told && mounts.look(&rules)?);
            let took = began.elapsed();
            if differs || failed && !told {
                self.make(&mut self.wanted());
                pause(PAUSE);
            } else {
                pause(took * (SHARE - 1));
            }
        }
    }
}

/// What is there on this node, as far as a tree shows it.
pub struct Seen {
    changes: Changes,
    mounts: u64,
    places: u64,
}

impl Seen {
    /// As it is now.
    ///
    /// # Errors
    /// When there is no mount table.
    pub fn new(rules: &Rules) -> io::Result<Seen> {
        let mut seen = Seen { changes: Changes::new()?, mounts: 0, places: 0 };
        seen.look_at_places(rules);
        seen.look(rules)?;
        Ok(seen)
    }

    /// Looks at the mount table again; whether it is not as it was.
    fn look(&mut self, rules: &Rules) -> io::Result<bool> {
        let now = mounts_seen(rules, &mountinfo("self")?);
        Ok(std::mem::replace(&mut self.mounts, now) != now)
    }

    /// Looks at the directories of the rules; whether they are not as they were.
    fn look_at_places(&mut self, rules: &Rules) -> bool {
        let now = places_seen(rules);
        std::mem::replace(&mut self.places, now) != now
    }
}

/// Lets time pass. What is told meanwhile is not lost.
fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}
