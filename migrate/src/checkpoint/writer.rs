//! Images on their way to a disk.

use super::manifest::Image;
use super::shelf::Draft;
use krg_sys::pages;
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
    buf: Vec<u8>,
}

impl Writer {
    /// None yet. Without sums [`sum`] makes them, when the job goes on already.
    pub fn new(sums: bool) -> Writer {
        Writer { sums, open: Vec::new(), latest: VecDeque::new(), buf: Vec::new() }
    }

    /// One more image.
    ///
    /// # Errors
    /// The disk's; InvalidData for one that does not follow those before.
    pub fn begin(&mut self, draft: &Draft, image: u32, name: &str) -> io::Result<()> {
        let at = image as usize;
        if at != self.open.len() || at >= IMAGES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let (name, file) = (name.to_owned(), Some(draft.file(name)?));
        let context = self.sums.then(|| Context::new(&SHA256));
        self.open.push(Open { name, file, context, bytes: 0 });
        self.opened(at);
        Ok(())
    }

    /// More of one: what is in this pipe; how much that was.
    ///
    /// # Errors
    /// The disk's; InvalidData for more of nothing.
    pub fn take(&mut self, draft: &Draft, image: u32, pipe: &File) -> io::Result<u64> {
        let at = image as usize;
        let open = self.open.get_mut(at).ok_or(ErrorKind::InvalidData)?;
        if open.file.is_none() {
            open.file = Some(draft.more_of(&open.name)?);
            self.opened(at);
        }
        let Writer { open, buf, .. } = self;
        let Open { file: Some(file), context, bytes, .. } = &mut open[at] else {
            return Err(ErrorKind::InvalidData.into());
        };
        let count = match context {
            None => pages::pour(pipe, &*file, READ_BYTES)?,
            Some(context) => {
                buf.resize(READ_BYTES, 0);
                let count = (&mut &*pipe).read(buf)?;
                context.update(&buf[..count]);
                file.write_all(&buf[..count])?;
                count
            }
        };
        *bytes += count as u64;
        Ok(count as u64)
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
