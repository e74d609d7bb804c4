//! The files of an identity: written beside the present ones, made durable, then exchanged with
//! them by renames, so that a crash leaves the old ones or the new ones and never a mixture.

use super::{
    CA_CRT, CA_KEY, Founder, Identity, IdentityError, MEMBER_JSON, NODE_CRT, NODE_KEY, bad,
};
use crate::ca::{Ca, certificate_pem, key_pem};
use crate::fingerprint;
use krg_types::limits::{AUTHORITIES_MAX, NODE_ID_MAX};
use krg_types::{MemberId, NodeId};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The folder that holds, and those that are there only while it is exchanged.
pub(super) const CURRENT: &str = "identity";
const NEW: &str = "identity.new";
const OLD: &str = "identity.old";
/// The format of member.json.
const VERSION: u32 = 1;
/// Longest file, bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

#[derive(Serialize, Deserialize)]
struct MemberFile {
    version: u32,
    cluster: String,
    session: u32,
    node: u32,
    member: u64,
    address: String,
    founders: Vec<FounderEntry>,
    newest_serial: u64,
}

#[derive(Serialize, Deserialize)]
struct FounderEntry {
    member: u64,
    address: String,
    fingerprint: String,
}

fn io_error(path: &Path, e: &io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), why: e.to_string() }
}

/// Runs one call on a path and names the path if it fails.
fn on<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, IdentityError> {
    call(path).map_err(|e| io_error(path, &e))
}

fn sync(dir: &Path) -> Result<(), IdentityError> {
    on(dir, |dir| File::open(dir)?.sync_all())
}

/// Completes an exchange that was interrupted.
pub(super) fn settle(state_dir: &Path) -> Result<(), IdentityError> {
    let [current, new, old] = [CURRENT, NEW, OLD].map(|name| state_dir.join(name));
    let there = |path: &Path| on(path, Path::try_exists);
    if !there(&current)? {
        // The new one is complete if the old one was already put aside, or if it reads well.
        if there(&new)? && (there(&old)? || matches!(read(&new), Ok(Some(_)))) {
            on(&new, |new| fs::rename(new, &current))?;
        } else if there(&old)? {
            on(&old, |old| fs::rename(old, &current))?;
        } else {
            return Ok(());
        }
        sync(state_dir)?;
    }
    if there(&old)? {
        on(&old, |path| fs::remove_dir_all(path))?;
        sync(state_dir)?;
    }
    Ok(())
}

/// Writes an identity and exchanges the present one for it.
pub(super) fn replace(state_dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let [current, new, old] = [CURRENT, NEW, OLD].map(|name| state_dir.join(name));
    on(state_dir, |dir| DirBuilder::new().recursive(true).mode(0o700).create(dir))?;
    if on(&new, Path::try_exists)? {
        on(&new, |path| fs::remove_dir_all(path))?;
    }
    write(&new, identity)?;
    sync(state_dir)?;
    if on(&current, Path::try_exists)? {
        on(&current, |current| fs::rename(current, &old))?;
        sync(state_dir)?;
    }
    on(&new, |new| fs::rename(new, &current))?;
    sync(state_dir)?;
    if on(&old, Path::try_exists)? {
        on(&old, |path| fs::remove_dir_all(path))?;
    }
    Ok(())
}

/// Writes all files into a directory that is not there yet.
pub(super) fn write(dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    on(dir, |dir| DirBuilder::new().mode(0o700).create(dir))?;
    let file = |name: &str, mode: u32, text: &str| {
        on(&dir.join(name), |path| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
    };
    file(NODE_KEY, 0o600, &key_pem(&identity.key_pkcs8_der))?;
    file(NODE_CRT, 0o644, &certificate_pem(&identity.certificate_der))?;
    let authorities: String = identity.authorities.iter().map(|ca| certificate_pem(ca)).collect();
    file(CA_CRT, 0o644, &authorities)?;
    if let Some(cas) = &identity.cas {
        let keys: String = cas.iter().map(Ca::key_pem).collect();
        file(CA_KEY, 0o600, &keys)?;
    }
    let founder = |f: &Founder| FounderEntry {
        member: f.member.get(),
        address: f.address.clone(),
        fingerprint: fingerprint::to_hex(&f.fingerprint),
    };
    let member = MemberFile {
        version: VERSION,
        cluster: identity.cluster.clone(),
        session: identity.session,
        node: identity.node.get(),
        member: identity.member.get(),
        address: identity.address.clone(),
        founders: identity.founders.iter().map(founder).collect(),
        newest_serial: identity.newest_serial,
    };
    let text = serde_json::to_string_pretty(&member);
    let text = text.map_err(|e| bad(dir, MEMBER_JSON, e.to_string()))?;
    file(MEMBER_JSON, 0o644, &(text + "\n"))?;
    sync(dir)
}

/// Reads and checks all files; `None` if the directory is not there or empty.
pub(super) fn read(dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let mut entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|e| io_error(dir, &e))?,
    };
    if entries.next().is_none() {
        return Ok(None);
    }
    let needed = |name: &str| {
        let text = text_of(dir, name)?;
        text.ok_or_else(|| bad(dir, name, "it is missing"))
    };
    let member = needed(MEMBER_JSON)?;
    let key = only(dir, NODE_KEY, blocks(dir, NODE_KEY, "PRIVATE KEY", &needed(NODE_KEY)?)?)?;
    let certificate = blocks(dir, NODE_CRT, "CERTIFICATE", &needed(NODE_CRT)?)?;
    let certificate = only(dir, NODE_CRT, certificate)?;
    let authorities = blocks(dir, CA_CRT, "CERTIFICATE", &needed(CA_CRT)?)?;
    let keys = text_of(dir, CA_KEY)?;
    let keys = keys.map(|text| blocks(dir, CA_KEY, "PRIVATE KEY", &text)).transpose()?;
    let cas = keys.map(|keys| {
        let owner = |key: Vec<u8>| {
            let mut cas = authorities.iter().map(|ca| Ca::from_der(ca.clone(), key.clone()));
            let why =
                || bad(dir, CA_KEY, format!("a key in it is of no certificate of {CA_CRT}"));
            cas.find_map(Result::ok).ok_or_else(why)
        };
        keys.into_iter().map(owner).collect::<Result<Vec<Ca>, _>>()
    });
    let identity = parse(dir, &member)?;
    let identity = Identity {
        key_pkcs8_der: key,
        certificate_der: certificate,
        cas: cas.transpose()?,
        authorities,
        ..identity
    };
    identity.fits(dir)?;
    Ok(Some(identity))
}

/// The words of member.json; keys and certificates are left empty.
fn parse(dir: &Path, text: &str) -> Result<Identity, IdentityError> {
    let wrong = |why: String| bad(dir, MEMBER_JSON, why);
    let number = |what: &str, n: u64| wrong(format!("{n} is not a {what}'s number"));
    let file: MemberFile = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if file.version != VERSION {
        let why = format!("version {}, this krgd knows {VERSION}", file.version);
        return Err(wrong(why));
    }
    if file.founders.len() > NODE_ID_MAX as usize {
        return Err(wrong(format!("{} founders are too many", file.founders.len())));
    }
    let member = |n: u64| MemberId::from_u64(n).ok_or_else(|| number("member", n));
    let founder = |f: FounderEntry| {
        let fingerprint = fingerprint::from_hex(&f.fingerprint);
        let fingerprint = fingerprint
            .ok_or_else(|| wrong(format!("the fingerprint of {} is damaged", f.member)))?;
        let member = member(f.member)?;
        Ok::<_, IdentityError>(Founder { member, address: f.address, fingerprint })
    };
    Ok(Identity {
        cluster: file.cluster,
        session: file.session,
        node: NodeId::new(file.node).ok_or_else(|| number("node", file.node.into()))?,
        member: member(file.member)?,
        address: file.address,
        founders: file.founders.into_iter().map(founder).collect::<Result<_, _>>()?,
        newest_serial: file.newest_serial,
        key_pkcs8_der: Vec::new(),
        certificate_der: Vec::new(),
        authorities: Vec::new(),
        cas: None,
    })
}

/// A file's text; `None` if it is not there. A key that others may read is refused.
fn text_of(dir: &Path, name: &str) -> Result<Option<String>, IdentityError> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| io_error(&path, &e))?,
    };
    let mode = on(&path, |_| file.metadata())?.mode() & 0o7777;
    if [NODE_KEY, CA_KEY].contains(&name) && mode & 0o077 != 0 {
        return Err(IdentityError::Permissions { path, mode });
    }
    let mut bytes = Vec::new();
    on(&path, |_| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(dir, name, "it is too long"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| bad(dir, name, "it is not text"))
}

/// The PEM blocks of a file, all of one kind.
fn blocks(dir: &Path, name: &str, tag: &str, text: &str) -> Result<Vec<Vec<u8>>, IdentityError> {
    let blocks = pem::parse_many(text).map_err(|e| bad(dir, name, e.to_string()))?;
    if blocks.iter().any(|block| block.tag() != tag) {
        return Err(bad(dir, name, format!("something in it is not a {tag}")));
    }
    // A half-written last block is no error to the parser.
    if blocks.len() != text.matches("-----BEGIN ").count() {
        return Err(bad(dir, name, "it is cut off"));
    }
    if blocks.is_empty() || blocks.len() > AUTHORITIES_MAX {
        let why =
            format!("it holds {} times {tag}, 1 to {AUTHORITIES_MAX} expected", blocks.len());
        return Err(bad(dir, name, why));
    }
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}

fn only(dir: &Path, name: &str, blocks: Vec<Vec<u8>>) -> Result<Vec<u8>, IdentityError> {
    match <[Vec<u8>; 1]>::try_from(blocks) {
        Ok([block]) => Ok(block),
        Err(_) => Err(bad(dir, name, "it holds more than one block")),
    }
}
