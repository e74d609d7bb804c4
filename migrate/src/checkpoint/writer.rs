//! Images on their way to a disk.

use super::manifest::Image;
use super::shelf::Draft;
use krg_rpc::proto::job::Piece;
use krg_types::limits::IMAGES_MAX;
use ring::digest::{Context, Digest, SHA256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// In hexadecimal.
pub fn hexadecimal(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of all that is in a file, and how long that is.
///
/// # Errors
/// The kernel's.
pub fn digest(mut file: &File) -> io::Result<(String, u64)> {
    let (mut context, mut total, mut buf) = (Context::new(&SHA256), 0, vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((hexadecimal(&context.finish()), total)),
            Ok(n) => {
                context.update(&buf[..n]);
                total += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Files that are open at once: of each image pieces may come until all have.
const OPEN_MAX: usize = 128;

struct Open {
    name: String,
    file: Option<File>,
    context: Option<Context>,
    bytes: u64,
}

/// They.
pub struct Writer {
    /// Summed up as they come: to read them again would take longer than they do.
    sums: bool,
    open: Vec<Open>,
    /// Of those with a file, the latest last.
    latest: VecDeque<usize>,
}

impl Writer {
    /// None yet. Without sums [`sum`] makes them, when the job goes on already.
    pub fn new(sums: bool) -> Writer {
        Writer { sums, open: Vec::new(), latest: VecDeque::new() }
    }

    /// One more piece.
    ///
    /// # Errors
    /// The disk's; InvalidData for a piece of nothing.
    pub fn add(&mut self, draft: &Draft, piece: &Piece) -> io::Result<()> {
        let at = piece.image as usize;
        if !piece.name.is_empty() {
            if at != self.open.len() || at >= IMAGES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            let file = draft.file(&piece.name)?;
            let context = self.sums.then(|| Context::new(&SHA256));
            let (name, file) = (piece.name.clone(), Some(file));
            self.open.push(Open { name, file, context, bytes: 0 });
            self.opened(at);
        }
        let open = self.open.get_mut(at).ok_or(ErrorKind::InvalidData)?;
        match &mut open.file {
            Some(file) => file.write_all(&piece.data)?,
            None => {
                let mut file = draft.more_of(&open.name)?;
                file.write_all(&piece.data)?;
                open.file = Some(file);
                self.opened(at);
            }
        }
        let open = &mut self.open[at];
        if let Some(context) = &mut open.context {
            context.update(&piece.data);
        }
        open.bytes += piece.data.len() as u64;
        Ok(())
    }

    fn opened(&mut self, at: usize) {
        self.latest.push_back(at);
        if self.latest.len() > OPEN_MAX
            && let Some(oldest) = self.latest.pop_front()
        {
            self.open[oldest].file = None;
        }
    }

    /// These were all.
    pub fn finish(self) -> Vec<Image> {
        let image = |open: Open| {
            let sum = open.context.map(|context| hexadecimal(&context.finish()));
            let sha256 = sum.unwrap_or_default();
            Image { name: open.name, bytes: open.bytes, sha256 }
        };
        self.open.into_iter().map(image).collect()
    }
}

/// Those that are not summed up yet.
///
/// # Errors
/// The disk's; when one is not as long as what was written.
pub fn sum(images: &mut [Image], draft: &Draft) -> io::Result<()> {
    for image in images.iter_mut().filter(|image| image.sha256.is_empty()) {
        let (sha256, bytes) = digest(&draft.read(&image.name)?)?;
        if bytes != image.bytes {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        image.sha256 = sha256;
    }
    Ok(())
}
