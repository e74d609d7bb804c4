//! What is written beside the images of a saved job. It is read as if anybody had written it.

use super::host::Host;
use super::writer::hexadecimal;
use crate::inside::TERMINAL;
use crate::job::COMMAND_BYTES_MAX;
use krg_rpc::proto::job as wire;
use krg_types::limits::{
    DESCRIPTION_BYTES_MAX, IMAGES_MAX, JOB_NAME_BYTES_MAX, MANIFEST_BYTES_MAX, SAVED_FILES_MAX,
};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Its name.
pub const NAME: &str = "manifest.json";
/// The format that is written. One that is newer is not understood.
pub const FORMAT: u32 = 1;
/// Longest name of an image, and longest path, bytes.
const NAME_BYTES_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 4_096;
/// What is known of a terminal's settings, and what is on its way in, bytes.
const SETTINGS_BYTES_MAX: usize = 256;
const UNREAD_BYTES_MAX: usize = 4 << 20;
const GROUPS_MAX: usize = 65_536;

/// It.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file.
    pub format: u32,
    /// Where it was saved.
    pub cluster: String,
    /// The job's number.
    pub app: u32,
    /// What it is called.
    pub name: String,
    /// The command, cut.
    pub command: String,
    /// Whose it is.
    pub uid: u32,
    /// With these groups.
    pub gid: u32,
    /// With these groups.
    pub groups: Vec<u32>,
    /// Where it was started.
    pub home: u32,
    /// Where it ran.
    pub node: u32,
    /// Seconds since 1970.
    pub date: u64,
    /// A user's words.
    pub description: String,
    /// The machine that it ran on.
    pub host: Host,
    /// The version of this program.
    pub krg: String,
    /// The program's process, in the job's own numbers.
    pub program: u32,
    /// First and last of its numbers.
    pub pids: Option<(u32, u32)>,
    /// What leads out of it.
    pub ends: Vec<End>,
    /// Of the pipe on which its first process reports, as CRIU names it.
    pub report: String,
    /// What was on its way into it.
    pub unread: Vec<Unread>,
    /// Processes that were stopped for it to be saved, in the job's own numbers.
    pub stopped: Vec<u32>,
    /// Those that its user had stopped.
    pub halted: Vec<u32>,
    /// CRIU's.
    pub images: Vec<Image>,
    /// Files that it had open for writing, and that went along.
    pub files: Vec<SavedFile>,
    /// Of all this, written with none here: SHA-256 in hexadecimal.
    #[serde(default)]
    pub sum: String,
}

/// One way out of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    channel: u32,
    name: String,
    reads: bool,
    settings: Vec<u8>,
    rows: u32,
    columns: u32,
}

/// What was on its way into it, on one of its ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unread {
    channel: u32,
    data: Vec<u8>,
    ended: bool,
}

/// One of CRIU's images.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Of the file.
    pub name: String,
    /// How long.
    pub bytes: u64,
    /// Of what is in it, in hexadecimal.
    pub sha256: String,
}

/// A file of the job's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedFile {
    /// On its home.
    pub path: String,
    /// Of the copy, beside the images.
    pub saved: String,
    /// How long.
    pub bytes: u64,
    /// Of what is in it, in hexadecimal.
    pub sha256: String,
    /// Who may do what with it.
    pub mode: u32,
}

/// What is no manifest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadManifest {
    /// Longer than any.
    #[error("it is longer than {MANIFEST_BYTES_MAX} bytes")]
    TooLong,
    /// Not what this program writes.
    #[error("it is none: {0}")]
    Form(String),
    /// Of a newer program.
    #[error("it has format {0}, and only those up to {FORMAT} are understood here")]
    Newer(u32),
    /// It says what cannot be.
    #[error("its {0} makes no sense")]
    Senseless(&'static str),
    /// It is not what was written.
    #[error("it is not what was written (SHA-256)")]
    Damaged,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Is it the name of a file in the same directory?
pub fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(plain)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Manifest {
    /// As it is written.
    ///
    /// # Errors
    /// Never for what [`Manifest::read`] would take.
    pub fn written(&self) -> std::io::Result<Vec<u8>> {
        let summed = Manifest { sum: self.summed()?, ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&summed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn summed(&self) -> std::io::Result<String> {
        let bare = Manifest { sum: String::new(), ..self.clone() };
        Ok(hexadecimal(&digest(&SHA256, &serde_json::to_vec(&bare)?)))
    }

    /// As it was written.
    ///
    /// # Errors
    /// For what is none.
    pub fn read(bytes: &[u8]) -> Result<Manifest, BadManifest> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(BadManifest::TooLong);
        }
        let form = |e: serde_json::Error| BadManifest::Form(e.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(form)?;
        if head.format == 0 || head.format > FORMAT {
            return Err(BadManifest::Newer(head.format));
        }
        let read: Manifest = serde_json::from_slice(bytes).map_err(form)?;
        read.check()?;
        // Its end too: what is cut there may make sense.
        match read.summed() {
            Ok(sum) if sum == read.sum && bytes.ends_with(b"}\n") => Ok(read),
            _ => Err(BadManifest::Damaged),
        }
    }

    fn check(&self) -> Result<(), BadManifest> {
        let senseless = |what, holds: bool| match holds {
            true => Ok(()),
            false => Err(BadManifest::Senseless(what)),
        };
        senseless("number", self.app > 0 && self.home > 0 && self.program > 0)?;
        let words = self.name.len() <= JOB_NAME_BYTES_MAX
            && self.command.len() <= 4 * COMMAND_BYTES_MAX
            && self.description.len() <= DESCRIPTION_BYTES_MAX;
        senseless("name", words)?;
        senseless("list of groups", self.groups.len() <= GROUPS_MAX)?;
        let numbered =
            self.pids.is_none_or(|(first, last)| 1 < first && first <= last && last < 1 << 22);
        senseless(
            "list of numbers",
            numbered && self.stopped.len() + self.halted.len() <= 1 << 16,
        )?;
        let end = |end: &End| {
            end.channel <= TERMINAL
                && end.name.len() <= NAME_BYTES_MAX
                && end.settings.len() <= SETTINGS_BYTES_MAX
        };
        senseless("list of ends", self.ends.len() <= 4 && self.ends.iter().all(end))?;
        senseless("pipe", self.report.len() <= NAME_BYTES_MAX)?;
        let unread = |u: &Unread| u.channel <= TERMINAL && u.data.len() <= UNREAD_BYTES_MAX;
        senseless("input", self.unread.len() <= 4 && self.unread.iter().all(unread))?;
        let image = |image: &Image| is_file_name(&image.name) && is_sha256(&image.sha256);
        let images = (1..=IMAGES_MAX).contains(&self.images.len());
        senseless("list of images", images && self.images.iter().all(image))?;
        let file = |file: &SavedFile| {
            file.path.starts_with('/')
                && file.path.len() <= PATH_BYTES_MAX
                && !file.path.contains('\0')
                && is_file_name(&file.saved)
                && is_sha256(&file.sha256)
        };
        let files = self.files.len() <= SAVED_FILES_MAX;
        senseless("list of files", files && self.files.iter().all(file))
    }

    /// All of its images, bytes.
    pub fn bytes(&self) -> u64 {
        self.images.iter().map(|image| image.bytes).fold(0, u64::saturating_add)
    }

    /// For people.
    pub fn describe(&self, version: u32) -> String {
        format!(
            "Identifier: {}\nVersion: {version}\nDescription: {}\nDate: {}\n",
            self.app, self.description, self.date
        )
    }

    /// What leads out of it.
    pub fn wire_ends(&self) -> Vec<wire::End> {
        let end = |end: &End| wire::End {
            channel: end.channel,
            name: end.name.clone(),
            reads: end.reads,
            settings: end.settings.clone(),
            rows: end.rows,
            columns: end.columns,
        };
        self.ends.iter().map(end).collect()
    }

    /// What was on its way into it.
    pub fn wire_unread(&self) -> Vec<wire::Unread> {
        let unread = |u: &Unread| wire::Unread {
            channel: u.channel,
            data: u.data.clone(),
            ended: u.ended,
        };
        self.unread.iter().map(unread).collect()
    }
}

impl From<wire::End> for End {
    fn from(end: wire::End) -> End {
        let wire::End { channel, name, reads, settings, rows, columns } = end;
        End { channel, name, reads, settings, rows, columns }
    }
}

impl From<wire::Unread> for Unread {
    fn from(unread: wire::Unread) -> Unread {
        let wire::Unread { channel, data, ended } = unread;
        Unread { channel, data, ended }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            cluster: "attic".into(),
            app: 32_769,
            name: "simulate".into(),
            command: "./simulate --steps 9".into(),
            uid: 1_000,
            gid: 1_000,
            groups: vec![4],
            home: 1,
            node: 2,
            date: 1_238_510_040,
            description: "No description".into(),
            host: Host {
                architecture: "x86_64".into(),
                kernel: "6.12.9".into(),
                cpu: vec!["sse2".into()],
                criu: "4.2".into(),
            },
            krg: "0.1.0".into(),
            program: 32_769,
            pids: Some((32_768, 33_279)),
            ends: vec![
                wire::End { channel: 1, name: "pipe:[7]".into(), ..Default::default() }.into(),
            ],
            report: "pipe:[9]".into(),
            unread: vec![wire::Unread { channel: 0, data: vec![1, 255], ended: true }.into()],
            stopped: vec![32_769],
            halted: Vec::new(),
            images: vec![Image { name: "pages-1.img".into(), bytes: 9, sha256: "0a".repeat(32) }],
            files: Vec::new(),
            sum: String::new(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let it = manifest();
        let read = Manifest::read(&it.written().unwrap()).unwrap();
        assert_eq!(Manifest { sum: String::new(), ..read }, it);
        assert_eq!(
            it.describe(3),
            "Identifier: 32769\nVersion: 3\nDescription: No description\nDate: 1238510040\n"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        let changed = |change: fn(&mut Manifest)| {
            let mut it = manifest();
            change(&mut it);
            Manifest::read(&it.written().unwrap()).unwrap_err().to_string()
        };
        for (why, word) in [
            (changed(|m| m.format = 2), "format 2"),
            (changed(|m| m.images[0].name = "../x".into()), "images"),
            (changed(|m| m.images[0].name = ".x".into()), "images"),
            (changed(|m| m.images[0].sha256 = "x".into()), "images"),
            (changed(|m| m.images.clear()), "images"),
            (changed(|m| m.app = 0), "number"),
            (changed(|m| m.pids = Some((1, 5))), "numbers"),
            (changed(|m| m.description = "x".repeat(5_000)), "name"),
            (changed(|m| m.unread[0].channel = 9), "input"),
        ] {
            assert!(why.contains(word), "{why}");
        }
    }

    proptest! {
        /// Any bytes are a manifest, or an error; and one that is cut or changed does no harm.
        #[test]
        fn any_bytes_are_a_manifest_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..2_000, flip in 1u8..,
        ) {
            prop_assert!(Manifest::read(&bytes).is_err());
            let mut whole = manifest().written().unwrap();
            let at = at % whole.len();
            prop_assert!(Manifest::read(&whole[..at]).is_err());
            whole[at] ^= flip;
            // Only between its words a byte may be another.
            let same = |read: Manifest| Manifest { sum: String::new(), ..read } == manifest();
            prop_assert!(Manifest::read(&whole).is_ok_and(same) || Manifest::read(&whole).is_err());
        }
    }
}
