//! Texts of one line that the whole system shares, as a mount has them that holds what was read:
//! tools read some of them once for every process. One stands for some milliseconds. As of all that
//! is held, a content never changes under its inode number, while somebody may be reading it.

use super::{Attr, Fs, Named, shape};
use crate::error::ViewError;
use crate::inode::{Fixed, Item};
use krg_sys::clock::wall_ns;
use krg_types::SystemFile;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which: their places are part of their inode numbers.
const BRIEF: [Item; 9] = [
    Item::System(SystemFile::Uptime),
    Item::System(SystemFile::Loadavg),
    Item::Fixed(Fixed::Nrnodes),
    Item::CpuList(0),
    Item::CpuList(1),
    Item::CpuList(2),
    Item::CpuList(3),
    Item::CpuList(4),
    Item::CpuList(5),
];
/// The digits of an uptime count hundredths of a second.
const UPTIME_STANDS: Duration = Duration::from_millis(10);
/// The others stand as long as nobody notices: the numbers of a whole system are as old.
pub const STANDS: Duration = super::SYSTEM_MAX_AGE;
/// Who has one open reads what he began to read for so long, and then what is so by then: a reader
/// that starts again from the beginning does not begin anew in the kernel's eyes.
const KEPT: Duration = Duration::from_millis(300);
/// Contents of one text that are remembered.
const REMEMBERED_MAX: usize = 32;

/// One content.
#[derive(Clone, Debug)]
struct Content {
    version: u32,
    text: Arc<[u8]>,
    /// When it was found to be so, first and last.
    since_ns: u64,
    found: Instant,
}

/// The last contents of one text.
#[derive(Default, Debug)]
struct Contents(VecDeque<Content>);

impl Contents {
    fn last(&self, stands: Duration) -> Option<&Content> {
        self.0.back().filter(|content| content.found.elapsed() < stands)
    }

    fn version(&self, version: u32) -> Option<&Content> {
        self.0.iter().find(|content| content.version == version)
    }

    /// What was found to be so just now.
    fn add(&mut self, text: Vec<u8>, since_ns: u64) -> Content {
        let found = Instant::now();
        let version = match self.0.back_mut() {
            Some(last) if *last.text == *text => {
                last.found = found;
                return last.clone();
            }
            last => last.map_or(0, |last| last.version.wrapping_add(1)),
        };
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_front();
        }
        let content = Content { version, text: text.into(), since_ns, found };
        self.0.push_back(content.clone());
        content
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Briefs([Mutex<Contents>; BRIEF.len()]);

/// What the kernel is told of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// What stat(2) says.
    pub attr: Attr,
    /// Since when the text is so, ns since 1970.
    pub since_ns: u64,
    /// How long that stands.
    pub ttl: Duration,
}

fn stands(place: u8) -> Duration {
    if place == 0 { UPTIME_STANDS } else { STANDS }
}

/// Is it shown so, if nobody is shown something else?
pub fn is_brief(item: Item) -> bool {
    BRIEF.contains(&item)
}

/// For who asks by name, or by the number of a version that he knows.
fn told(place: u8, known: Option<u32>, content: &Content) -> Told {
    let number = known.unwrap_or(content.version);
    let item = Item::Brief(place, number);
    let (kind, perm) = shape(item);
    let attr = Attr { item, kind, perm, uid: 0, gid: 0, size: content.text.len() as u64 };
    let stands = if known == Some(content.version) { KEPT } else { stands(place) };
    let ttl = stands.saturating_sub(content.found.elapsed());
    Told { attr, since_ns: content.since_ns, ttl }
}

impl Fs {
    /// The text as it is now, if this is one that is held so: where some process sees its own
    /// node's numbers, none is.
    pub async fn brief(&self, item: Item) -> Option<Told> {
        let place = u8::try_from(BRIEF.iter().position(|brief| *brief == item)?).ok()?;
        if self.sight.as_ref().is_some_and(|sight| sight.has_any()) {
            return None;
        }
        Some(told(place, None, &self.content_now(place).await.ok()?))
    }

    /// The same for those among the names of a directory.
    pub async fn with_briefs(&self, mut names: Vec<Named>) -> Vec<Named> {
        for named in names.iter_mut().filter(|named| is_brief(named.attr.item)) {
            if let Some(told) = self.brief(named.attr.item).await {
                named.attr = told.attr;
            }
        }
        names
    }

    /// One that was looked up a moment ago, from memory.
    pub fn brief_told(&self, place: u8, version: u32) -> Option<Told> {
        let known = self.contents(place, |contents| contents.version(version).cloned());
        known.ok()?.map(|content| told(place, None, &content))
    }

    /// What stat(2) says of one that was looked up before.
    pub async fn brief_attr(&self, place: u8, version: u32) -> Result<Told, ViewError> {
        let known = self.contents(place, |contents| contents.version(version).cloned())?;
        let content = match known.filter(|content| content.found.elapsed() < KEPT) {
            Some(content) => content,
            None => self.content_now(place).await?,
        };
        Ok(told(place, Some(version), &content))
    }

    /// And what it says.
    pub async fn brief_text(&self, place: u8, version: u32) -> Result<Arc<[u8]>, ViewError> {
        let now = self.brief_attr(place, version).await?.since_ns;
        let since = |content: &&Content| content.since_ns == now;
        let told =
            self.contents(place, |contents| contents.0.iter().rev().find(since).cloned())?;
        told.map(|content| content.text).ok_or(ViewError::NoEntry)
    }

    async fn content_now(&self, place: u8) -> Result<Content, ViewError> {
        if let Some(content) = self.contents(place, |c| c.last(stands(place)).cloned())? {
            return Ok(content);
        }
        let item = *BRIEF.get(usize::from(place)).ok_or(ViewError::NoEntry)?;
        let text = self.whole_system_now(item).await?;
        self.contents(place, |contents| contents.add(text, wall_ns()))
    }

    fn contents<T>(
        &self,
        place: u8,
        look: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, ViewError> {
        let contents = self.briefs.0.get(usize::from(place)).ok_or(ViewError::NoEntry)?;
        Ok(look(&mut contents.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_another_version() {
        let mut contents = Contents::default();
        assert!(contents.last(STANDS).is_none());
        let first = contents.add(b"1.00\n".to_vec(), 7);
        let same = contents.add(b"1.00\n".to_vec(), 8);
        assert_eq!((same.version, same.since_ns), (first.version, 7));
        let other = contents.add(b"1.01\n".to_vec(), 9);
        assert_ne!(other.version, first.version);
        assert_eq!(contents.version(first.version).map(|c| &*c.text), Some(&b"1.00\n"[..]));
        assert_eq!(contents.last(STANDS).map(|c| c.version), Some(other.version));
        assert!(contents.last(Duration::ZERO).is_none());
    }

    #[test]
    fn few_are_remembered() {
        let mut contents = Contents::default();
        for n in 0..2 * REMEMBERED_MAX {
            contents.add(n.to_string().into_bytes(), n as u64);
        }
        assert_eq!(contents.0.len(), REMEMBERED_MAX);
        assert!(contents.version(0).is_none());
    }
}
