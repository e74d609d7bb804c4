//! What a life of the daemon begins with: who this node is, and the store of what was agreed.

use crate::config::Config;
use anyhow::{Context, Result, bail};
use krg_cluster::ca::{self, Ca};
use krg_cluster::fingerprint;
use krg_cluster::home::Home;
use krg_cluster::identity::{self, Founder, Identity};
use krg_cluster::join::{self, Ask};
use krg_cluster::secret::new_key_text;
use krg_meta::command::{Command, Reply};
use krg_meta::open::{self, OpenError, Opened};
use krg_meta::recover::{self, Survivor};
use krg_meta::state::STATE_VERSION;
use krg_meta::store::StoreError;
use krg_meta::table::{admission, trust};
use krg_rpc::dial::Secure;
use krg_sys::clock::wall_ns;
use krg_types::limits::GROUP_MAIN;
use krg_types::{MemberId, NodeId};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A node whose store is lost looks so long for a member that takes it back.
const READMIT_MAX: Duration = Duration::from_secs(20);
/// A store may be held for so long by what is ending, and is tried again this often.
const CLOSE_MAX: Duration = Duration::from_secs(5);
const CLOSE_PAUSE: Duration = Duration::from_millis(20);
/// The program's version, as it is told to others.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// What a life begins with.
pub struct Papers {
    /// Who this node is.
    pub home: Arc<Home>,
    /// What its store holds.
    pub opened: Opened,
    /// It makes the cluster itself.
    pub founder: bool,
    /// Counts the lives of this membership, from 1.
    pub epoch: u64,
    /// A store that did not verify was put there.
    pub quarantined: Option<PathBuf>,
}

/// Unix time in s.
pub fn wall_s() -> u64 {
    wall_ns() / 1_000_000_000
}

/// What this node says of itself when it asks to be taken in.
pub fn ask(config: &Config, hostname: &str, node: Option<NodeId>) -> Ask {
    let address = match config.advertise {
        Some(at) => at,
        None => config.listen,
    };
    Ask {
        node,
        hostname: hostname.to_owned(),
        address: address.to_string(),
        state_version: STATE_VERSION,
        release: RELEASE.to_owned(),
        wall_ms: wall_ns() / 1_000_000,
    }
}

/// Reads them, or makes them: a node that is of no cluster makes one of its own.
///
/// # Errors
/// When a file is damaged or does not fit the others: nothing is changed then. When the store is
/// lost and no member takes this node back.
pub async fn take_up(config: &Config, hostname: &str) -> Result<Papers> {
    let dir = &config.state_dir;
    private_dir(dir)?;
    let identity = match Identity::load(dir)? {
        Some(identity) => identity,
        None => found(config)?,
    };
    match open_store_soon(dir, identity.member).await? {
        Store::There(opened) => papers(config, identity, *opened, None),
        Store::Lost(quarantined) => {
            let alone = identity.founders.iter().all(|f| f.member == identity.member);
            let identity = match alone {
                true => found(config)?,
                false => readmit(config, hostname, &identity).await?,
            };
            match open_store(dir, identity.member)? {
                Store::There(opened) => papers(config, identity, *opened, quarantined),
                Store::Lost(_) => bail!("{}: a new store is damaged at once", dir.display()),
            }
        }
    }
}

fn papers(
    config: &Config,
    identity: Identity,
    opened: Opened,
    quarantined: Option<PathBuf>,
) -> Result<Papers> {
    let alone = identity.founders.iter().all(|f| f.member == identity.member);
    let new = opened.published.load().state.info().newest_serial == 0;
    let founder = new && alone && identity.member.serial() == 1;
    let epoch = next_epoch(&store_dir(&config.state_dir, identity.member))?;
    let lifetime_s = (config.certificate_hours * 3600.0) as u64;
    let home = Home::new(&config.state_dir, identity, wall_s, lifetime_s)?;
    Ok(Papers { home, opened, founder, epoch, quarantined })
}

fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {} (see `state_dir`)", dir.display()))
}

/// A cluster of this node alone, with an authority of its own.
fn found(config: &Config) -> Result<Identity> {
    let address = config.reachable_at().to_string();
    let (node, session) = (config.founder_id(), config.session);
    let made = identity::founder(&config.cluster, session, node, &address, wall_s());
    let (identity, _) = made.context("cannot make keys")?;
    // It begins with nothing: a store that is still here is of another cluster.
    clear_stores(&config.state_dir, None)?;
    adopt(&config.state_dir, &identity)?;
    Ok(identity)
}

/// From the next life on this node is who these papers say. The store of whom it was is left to
/// be removed then.
///
/// # Errors
/// When they cannot be written: it stays who it is.
pub fn adopt(state_dir: &Path, identity: &Identity) -> Result<()> {
    identity.save(state_dir).context("cannot keep this node's papers")
}

/// Forgets everything about this node's cluster.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget(state_dir: &Path) -> Result<()> {
    for name in ["identity", "meta"] {
        match fs::remove_dir_all(state_dir.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| state_dir.join(name).display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

enum Store {
    There(Box<Opened>),
    /// It was there and is damaged or gone; where the damaged one was put.
    Lost(Option<PathBuf>),
}

fn store_dir(state_dir: &Path, member: MemberId) -> PathBuf {
    state_dir.join("meta").join(member.get().to_string())
}

/// Which membership has had a store here: its store, if it is missing, was lost, and its vote
/// with it.
fn marker(state_dir: &Path) -> PathBuf {
    state_dir.join("meta").join("member")
}

/// The same for a store that the life before may still be closing.
async fn open_store_soon(state_dir: &Path, member: MemberId) -> Result<Store> {
    let until = Instant::now() + CLOSE_MAX;
    loop {
        let opened = open_store(state_dir, member);
        let held = |e: &anyhow::Error| {
            let error = e.downcast_ref::<OpenError>();
            matches!(error, Some(OpenError::Unavailable { error: StoreError::Held(_), .. }))
        };
        match opened {
            Err(e) if held(&e) && Instant::now() < until => {
                sleep_until(Instant::now() + CLOSE_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

fn open_store(state_dir: &Path, member: MemberId) -> Result<Store> {
    let (dir, marker) = (store_dir(state_dir, member), marker(state_dir));
    let known = fs::read_to_string(&marker).unwrap_or_default();
    let had_one = known.trim() == member.get().to_string();
    let complete = dir.join("epoch").exists();
    if had_one && !complete {
        tracing::error!(dir = %dir.display(), "the store of this membership is gone");
        return Ok(Store::Lost(None));
    }
    if !complete {
        // The beginnings of one, and stores of earlier memberships: nothing of it counts.
        clear_stores(state_dir, None)?;
    }
    private_dir(&state_dir.join("meta"))?;
    match open::open(&dir, GROUP_MAIN) {
        Ok(opened) => {
            if !complete {
                write_synced(&dir.join("epoch"), "0\n")?;
            }
            if !had_one {
                write_synced(&marker, &format!("{}\n", member.get()))?;
                clear_stores(state_dir, Some(member))?;
            }
            Ok(Store::There(Box::new(opened)))
        }
        Err(OpenError::Quarantined { from, to, why }) => {
            tracing::error!(from = %from.display(), to = %to.display(), why, "store put aside");
            Ok(Store::Lost(Some(to)))
        }
        Err(e) => Err(e.into()),
    }
}

/// Removes the stores of all memberships but one. What was put aside stays until somebody has
/// looked at it.
fn clear_stores(state_dir: &Path, but: Option<MemberId>) -> Result<()> {
    let dir = state_dir.join("meta");
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
    let but = but.map(|member| member.get().to_string());
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_store = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let gone = match name.as_str() {
            "member" if but.is_none() => fs::remove_file(entry.path()),
            _ if is_store && Some(&name) != but.as_ref() => fs::remove_dir_all(entry.path()),
            _ => Ok(()),
        };
        gone.with_context(|| entry.path().display().to_string())?;
    }
    Ok(())
}

/// One more life.
fn next_epoch(dir: &Path) -> Result<u64> {
    let path = dir.join("epoch");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let last: u64 = text
        .trim()
        .parse()
        .with_context(|| format!("{}: {text:?} is no number", path.display()))?;
    write_synced(&path, &format!("{}\n", last + 1))?;
    Ok(last + 1)
}

/// The whole text or the old one, whatever happens meanwhile.
fn write_synced(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let new = path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// This node goes on alone, under a new membership and a new authority, with everything its log
/// holds. Nobody else's certificate counts any more.
///
/// # Errors
/// When a store or a file fails: this node is who it was.
pub async fn survive(config: &Config) -> Result<()> {
    let dir = &config.state_dir;
    let old = Identity::load(dir)?.context("this node is of no cluster")?;
    let Store::There(opened) = open_store_soon(dir, old.member).await? else {
        bail!("this node's own store is lost: recover another node, or restore a backup");
    };
    let mut survivor = recover::read(*opened, old.member).await?;
    let gossip_key = new_key_text();
    let survive = admission::Command::Survive { member: old.member, gossip_key };
    let Reply::Admitted(member) = survivor.apply(Command::Admission(survive))? else {
        bail!("this is no admission");
    };
    let ca = Ca::new(&old.cluster, wall_s(), ca::LIFETIME_DAYS)?;
    let csr = ca::csr(&old.key_pkcs8_der)?;
    let lifetime_s = (config.certificate_hours * 3600.0) as u64;
    let certificate_der = ca.sign(&csr, member, wall_s(), lifetime_s)?;
    for command in new_trust(&ca, member, &certificate_der, &survivor) {
        survivor.apply(Command::Trust(command))?;
    }
    let address = config.reachable_at().to_string();
    let public_key = ca::public_key_of_key(&old.key_pkcs8_der)?;
    let own =
        Founder { member, address: address.clone(), fingerprint: fingerprint::of(&public_key) };
    let identity = Identity {
        member,
        address: address.clone(),
        founders: vec![own],
        newest_serial: member.serial(),
        certificate_der,
        authorities: vec![ca.certificate_der().to_vec()],
        cas: Some(vec![ca]),
        ..old
    };
    let new = store_dir(dir, member);
    survivor.seed(open::open(&new, GROUP_MAIN)?, member, &address).await?;
    write_synced(&new.join("epoch"), "0\n")?;
    adopt(dir, &identity)
}

fn new_trust(
    ca: &Ca,
    member: MemberId,
    certificate_der: &[u8],
    survivor: &Survivor,
) -> Vec<trust::Command> {
    let authority = fingerprint::to_hex(&ca.fingerprint());
    let old = survivor.state.authorities.iter().map(|(fingerprint, _)| fingerprint.to_owned());
    let add = trust::Command::AddAuthority {
        fingerprint: authority.clone(),
        certificate: ca.certificate_pem(),
        expires_s: wall_s() + ca::LIFETIME_DAYS * 86_400,
    };
    let fingerprint = fingerprint::to_hex(&fingerprint::of(certificate_der));
    let certify = trust::Command::Certify { member, fingerprint, authority };
    let drop = old.map(|fingerprint| trust::Command::DropAuthority { fingerprint });
    [add, certify].into_iter().chain(drop).collect()
}

/// Comes back as a new member: never with the old vote.
async fn readmit(config: &Config, hostname: &str, old: &Identity) -> Result<Identity> {
    let dial = Secure(old.credentials()?);
    let ask = ask(config, hostname, None);
    let readmitted = join::readmit(&dial, old, &ask, READMIT_MAX).await;
    let identity = readmitted.context(
        "this node's store is lost and no member takes it back now; it will be tried again when \
         krgd is started again",
    )?;
    adopt(&config.state_dir, &identity)?;
    Ok(identity)
}
