//! Files with holes: copying one, and taking one as it is at one moment while it is written.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest piece that is held as one.
const PIECE_BYTES: u64 = 1 << 20;
/// What is zero from end to end of such a block is left out.
const BLOCK_BYTES: usize = 4096;
/// How long a file may go on changing before it is given up.
const CHANGING_MAX: Duration = Duration::from_secs(2);

/// What is in a file, without its holes.
#[derive(PartialEq, Eq)]
struct Content {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Content {
    fn read(file: &File) -> Result<Content> {
        let size = file.metadata()?.len();
        let (mut at, mut pieces) = (0, Vec::new());
        while let Some(start) = seek(file, at, Whence::SeekData)? {
            let end = seek(file, start, Whence::SeekHole)?.unwrap_or(size);
            at = start;
            while at < end {
                let mut piece = vec![0; PIECE_BYTES.min(end - at) as usize];
                file.read_exact_at(&mut piece, at)?;
                at += piece.len() as u64;
                pieces.push((at - piece.len() as u64, piece));
            }
        }
        Ok(Content { size, pieces })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        file.set_len(self.size)?;
        for (start, piece) in &self.pieces {
            for (n, block) in piece.chunks(BLOCK_BYTES).enumerate() {
                if block.iter().any(|b| *b != 0) {
                    file.write_all_at(block, start + (n * BLOCK_BYTES) as u64)?;
                }
            }
        }
        Ok(())
    }
}

fn seek(file: &File, from: u64, whence: Whence) -> Result<Option<u64>> {
    match lseek(file, i64::try_from(from)?, whence) {
        Ok(at) => Ok(Some(u64::try_from(at)?)),
        // Behind the last piece.
        Err(Errno::ENXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Copies a file that nobody writes, with its holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let read = || Content::read(&File::open(from)?);
    let content = read().with_context(|| format!("cannot read {}", from.display()))?;
    content.write(to).with_context(|| format!("cannot write {}", to.display()))
}

/// A file as it was at one moment.
pub struct Moment(Content);

impl Moment {
    /// Takes it. A file that is the same in two readings, one after the other, was so at the
    /// moment between them, every part of it.
    pub fn take(path: &Path) -> Result<Moment> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let begin = Instant::now();
        let mut last = Content::read(&file)?;
        loop {
            let again = Content::read(&file)?;
            if again == last {
                return Ok(Moment(last));
            }
            if begin.elapsed() > CHANGING_MAX {
                bail!("{} does not stop changing", path.display());
            }
            last = again;
        }
    }

    /// Puts it into a file.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.0.write(path).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_no_more_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&a).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"first", 100).unwrap();
        file.write_all_at(&[7; 5000], (3 << 20) - 50).unwrap();
        file.write_all_at(&[0; 1 << 20], 5 << 20).unwrap();
        copy(&a, &b).unwrap();
        assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
        assert!(std::fs::metadata(&b).unwrap().blocks() <= 64, "holes stay holes");
    }

    #[test]
    fn a_moment_is_whole_while_somebody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        // Two counters far apart, the later one never ahead of the first.
        let writer = std::thread::spawn(move || {
            for n in 0..20_000u32 {
                file.write_all_at(&n.to_le_bytes(), 0).unwrap();
                file.write_all_at(&n.to_le_bytes(), (1 << 20) - 4).unwrap();
            }
        });
        let copy = dir.path().join("g");
        while !writer.is_finished() {
            // One that never finds it quiet says so: that is no wrong answer.
            let Ok(moment) = Moment::take(&path) else { continue };
            moment.save(&copy).unwrap();
            let bytes = std::fs::read(&copy).unwrap();
            let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let (first, last) = (number(0), number((1 << 20) - 4));
            assert!(first == last || first == last + 1, "{first} {last}");
        }
        writer.join().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_file_is_copied(
            size in 0u64..3 << 20,
            writes in proptest::collection::vec((0u64..3 << 20, 0usize..9000, 0u8..3), 0..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            let file = File::create(&a).unwrap();
            file.set_len(size).unwrap();
            for (at, count, byte) in writes {
                file.write_all_at(&vec![byte; count], at).unwrap();
            }
            copy(&a, &b).unwrap();
            prop_assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
        }
    }
}
