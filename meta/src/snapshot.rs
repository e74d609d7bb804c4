//! Snapshots: the whole state at one place of the log, as one run of bytes that can be checked
//! from its first byte to its last.

mod files;

pub use files::{DirFiles, SnapshotFiles, StoreFiles};

use crate::codec::{self, CodecError, Stored};
use crate::log::check_membership;
use crate::published::View;
use crate::state::State;
use crate::store::StoreError;
use krg_types::MemberId;
use krg_types::limits::SNAPSHOT_BYTES_MAX;
use openraft::BasicNode;
use serde::{Deserialize, Serialize};

/// What openraft wants to know of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<MemberId, BasicNode>;

/// The first bytes of every snapshot.
const MAGIC: &[u8; 8] = b"krgsnap\x01";
/// Bytes of the checksum at the end.
const SUM_BYTES: usize = 4;

/// Bytes that are no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Longer than any may be.
    #[error("a snapshot of {0} bytes is too long (at most {SNAPSHOT_BYTES_MAX})")]
    TooLong(u64),
    /// Not what was written.
    #[error("a snapshot is damaged: {0}")]
    Damaged(String),
    /// A snapshot, but not the one that was announced.
    #[error("a snapshot of entry {found} came as one of entry {announced}")]
    Other {
        /// Of what.
        found: String,
        /// Of what it should be.
        announced: String,
    },
}

impl From<CodecError> for SnapshotError {
    fn from(error: CodecError) -> SnapshotError {
        SnapshotError::Damaged(error.to_string())
    }
}

impl From<SnapshotError> for StoreError {
    fn from(error: SnapshotError) -> StoreError {
        StoreError::Damaged(error.to_string())
    }
}

/// What stands before the rows.
#[derive(Serialize, Deserialize)]
struct Head {
    meta: SnapshotMeta,
    revision: u64,
    now_ms: u64,
    rows: u64,
}

impl Stored for Head {
    const VERSION: u8 = 1;
}

/// The description of a view's snapshot: the same on every node, as the state is.
pub fn meta_of(view: &View) -> SnapshotMeta {
    let snapshot_id = view.applied.map_or("none".into(), |id| id.to_string());
    let last_membership = view.membership.clone();
    SnapshotMeta { last_log_id: view.applied, last_membership, snapshot_id }
}

/// A view as bytes.
///
/// # Errors
/// `TooLong`.
pub fn encode(view: &View) -> Result<Vec<u8>, SnapshotError> {
    let rows = view.state.stored();
    let head = Head {
        meta: meta_of(view),
        revision: view.state.revision,
        now_ms: view.state.now_ms,
        rows: rows.len() as u64,
    };
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, &codec::encode(&head));
    for (table, key, value) in rows {
        put(&mut bytes, table.as_bytes());
        put(&mut bytes, key.as_bytes());
        put(&mut bytes, &value);
    }
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_be_bytes());
    match bytes.len() as u64 {
        len if len > SNAPSHOT_BYTES_MAX => Err(SnapshotError::TooLong(len)),
        _ => Ok(bytes),
    }
}

// A piece is a row at most, far below 4 GiB.
fn put(bytes: &mut Vec<u8>, piece: &[u8]) {
    bytes.extend((piece.len() as u32).to_be_bytes());
    bytes.extend(piece);
}

/// Takes a piece off the front.
fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SnapshotError> {
    let short = || SnapshotError::Damaged("it ends in the middle of a piece".into());
    let (len, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let len = u32::from_be_bytes(*len) as usize;
    let (piece, after) = after.split_at_checked(len).ok_or_else(short)?;
    *rest = after;
    Ok(piece)
}

fn text(piece: &[u8]) -> Result<&str, SnapshotError> {
    std::str::from_utf8(piece).map_err(|_| SnapshotError::Damaged("a name is no text".into()))
}

/// The view that a snapshot holds. Everything in it is checked.
///
/// # Errors
/// When it is too long, damaged, or too new for this program.
pub fn decode(bytes: &[u8]) -> Result<View, SnapshotError> {
    let damaged = |words: &str| SnapshotError::Damaged(words.into());
    if bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::TooLong(bytes.len() as u64));
    }
    let body = bytes.strip_prefix(MAGIC).and_then(|_| bytes.split_last_chunk::<SUM_BYTES>());
    let (body, sum) = body.ok_or_else(|| damaged("it does not begin as one"))?;
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return Err(damaged("its checksum does not fit"));
    }
    let mut rest = body.get(MAGIC.len()..).ok_or_else(|| damaged("it is too short"))?;
    let Head { meta, revision, now_ms, rows } = codec::decode(take(&mut rest)?)?;
    check_membership(meta.last_membership.membership())?;
    let mut state = State::default();
    (state.revision, state.now_ms) = (revision, now_ms);
    for _ in 0..rows {
        let (table, key) = (text(take(&mut rest)?)?, text(take(&mut rest)?)?.to_owned());
        state.load(table, key, take(&mut rest)?)?;
    }
    if !rest.is_empty() || state.row_count() != rows || state.newest_row() > revision {
        return Err(damaged("its rows are not those that it announces"));
    }
    Ok(View { state, applied: meta.last_log_id, membership: meta.last_membership })
}

/// Checks that bytes from a peer are the snapshot that it announced. To be done before Raft is
/// told of it, because Raft takes a snapshot that cannot be installed for a broken disk.
///
/// # Errors
/// What is wrong with it.
pub fn check(meta: &SnapshotMeta, bytes: &[u8]) -> Result<View, SnapshotError> {
    let view = decode(bytes)?;
    let found = meta_of(&view);
    if (found.last_log_id, &found.last_membership) != (meta.last_log_id, &meta.last_membership) {
        return Err(SnapshotError::Other {
            found: found.snapshot_id,
            announced: meta.snapshot_id.clone(),
        });
    }
    Ok(view)
}
