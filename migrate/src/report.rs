//! What the first process of a job says on a pipe.

use krg_sys::process::Usage;

/// It.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The program could not be started: the errno.
    Failed(i32),
    /// It runs; the number of its process within the job.
    Started(u32),
    /// It has ended: a status of wait(2), and what it has used.
    Ended(i32, Usage),
}

/// Of each, on the pipe: less than a pipe takes at once (pipe(7), PIPE_BUF).
pub const REPORT_BYTES: usize = 32;

impl Report {
    /// As it is written.
    pub fn written(self) -> [u8; REPORT_BYTES] {
        let (kind, number, usage) = match self {
            Report::Failed(errno) => (1u32, errno, Usage::default()),
            Report::Started(pid) => (2, pid as i32, Usage::default()),
            Report::Ended(status, usage) => (3, status, usage),
        };
        let mut bytes = [0; REPORT_BYTES];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&usage.user_us.to_le_bytes());
        bytes[16..24].copy_from_slice(&usage.system_us.to_le_bytes());
        bytes[24..].copy_from_slice(&usage.max_rss_kib.to_le_bytes());
        bytes
    }

    /// As it is read; `None` for what is none.
    pub fn read(bytes: &[u8]) -> Option<Report> {
        let bytes: &[u8; REPORT_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| bytes[at..at + 4].first_chunk().copied().map(u32::from_le_bytes);
        let long = |at: usize| bytes[at..at + 8].first_chunk().copied().map(u64::from_le_bytes);
        let number = word(4)? as i32;
        let (user_us, system_us, max_rss_kib) = (long(8)?, long(16)?, long(24)?);
        match word(0)? {
            1 => Some(Report::Failed(number)),
            2 => Some(Report::Started(u32::try_from(number).ok()?)),
            3 => Some(Report::Ended(number, Usage { user_us, system_us, max_rss_kib })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_they_were_written() {
        let usage = Usage { user_us: 1, system_us: u64::MAX, max_rss_kib: 3 };
        for report in [Report::Failed(2), Report::Started(40_001), Report::Ended(0x0f00, usage)] {
            assert_eq!(Report::read(&report.written()), Some(report));
        }
        assert_eq!(Report::read(&[0; REPORT_BYTES]), None);
        assert_eq!(Report::read(&[9; REPORT_BYTES]), None);
        assert_eq!(Report::read(&[1; REPORT_BYTES - 1]), None);
    }
}
