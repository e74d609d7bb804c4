//! This node's own papers: its identity on disk and in TLS, and the authorities it can sign for.

use crate::ca::{Ca, CaError};
use crate::fingerprint;
use crate::identity::{Founder, Identity, IdentityError};
use krg_rpc::tls::{CertificateDer, Credentials, TlsError};
use krg_types::MemberId;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Papers that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// They cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// They cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing can be signed with them.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Another node has to sign.
    #[error("this node does not have the authority's key: only voters do")]
    NoKey,
}

/// A certificate that this node has signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// It, DER.
    pub certificate_der: Vec<u8>,
    /// Its SHA-256, hexadecimal.
    pub fingerprint: String,
    /// The fingerprint of the authority, hexadecimal.
    pub authority: String,
}

/// The papers of one membership.
pub struct Home {
    dir: PathBuf,
    identity: Mutex<Identity>,
    credentials: Arc<Credentials>,
    /// An authority that is about to be agreed on.
    pending: Mutex<Option<Ca>>,
    /// Counts changes of what is on disk, for the mount processes.
    changes: watch::Sender<u64>,
    /// Unix time in s.
    wall_s: fn() -> u64,
    /// How long a certificate lasts that is signed here, s.
    lifetime_s: u64,
}

impl Home {
    /// Takes up papers that are in the state directory `dir`.
    ///
    /// # Errors
    /// When TLS cannot use them.
    pub fn new(
        dir: &Path,
        identity: Identity,
        wall_s: fn() -> u64,
        lifetime_s: u64,
    ) -> Result<Arc<Home>, HomeError> {
        let credentials = identity.credentials()?;
        Ok(Arc::new(Home {
            dir: dir.to_owned(),
            identity: Mutex::new(identity),
            credentials,
            pending: Mutex::default(),
            changes: watch::Sender::new(0),
            wall_s,
            lifetime_s,
        }))
    }

    // A panic while it was held leaves papers that are whole: they are replaced as one.
    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A copy of them.
    pub fn identity(&self) -> Identity {
        self.lock().clone()
    }

    /// What TLS knows.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Counts changes of what is on disk.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The wall clock, Unix time in s.
    pub fn wall_s(&self) -> u64 {
        (self.wall_s)()
    }

    /// How long certificates last that are signed here, s.
    pub fn lifetime_s(&self) -> u64 {
        self.lifetime_s
    }

    /// The keys it can sign with, PEM.
    pub fn authority_keys(&self) -> Vec<String> {
        self.lock().cas.iter().flatten().map(Ca::key_pem).collect()
    }

    /// Fingerprints (hexadecimal) of the authorities it can sign for, newest first.
    pub fn can_sign_for(&self) -> Vec<String> {
        let own = self.lock();
        own.cas.iter().flatten().map(|ca| fingerprint::to_hex(&ca.fingerprint())).collect()
    }

    /// Signs a request (DER) with the newest authority it has the key of.
    ///
    /// # Errors
    /// When it has none, or the request is not one.
    pub fn sign(&self, csr_der: &[u8], member: MemberId) -> Result<Signed, HomeError> {
        let own = self.lock();
        let ca = own.cas.iter().flatten().next().ok_or(HomeError::NoKey)?;
        let certificate_der = ca.sign(csr_der, member, (self.wall_s)(), self.lifetime_s)?;
        Ok(Signed {
            fingerprint: fingerprint::to_hex(&fingerprint::of(&certificate_der)),
            authority: fingerprint::to_hex(&ca.fingerprint()),
            certificate_der,
        })
    }

    /// Keeps further keys (PEM), of those authorities that are trusted.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub fn keep_keys(&self, keys: &[String]) -> Result<(), HomeError> {
        let mut own = self.lock();
        let has = own.cas.clone().unwrap_or_default();
        let mut cas = Vec::new();
        for authority in &own.authorities {
            let certificate = crate::ca::certificate_pem(authority);
            let had = has.iter().find(|ca| ca.certificate_der() == &authority[..]).cloned();
            // A key that fits no trusted authority is of one that is over.
            let new = || keys.iter().find_map(|key| Ca::from_pem(&certificate, key).ok());
            cas.extend(had.or_else(new));
        }
        let cas = (!cas.is_empty()).then_some(cas);
        if own.cas != cas {
            own.set_ca_keys(&self.dir, cas)?;
        }
        Ok(())
    }

    /// Gives up all keys.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn drop_keys(&self) -> Result<(), HomeError> {
        let mut own = self.lock();
        if own.cas.is_some() {
            own.set_ca_keys(&self.dir, None)?;
        }
        Ok(())
    }

    /// Can sign for a further authority as soon as it has been agreed on.
    pub fn prepare(&self, ca: Ca) {
        *self.pending.lock().unwrap_or_else(|e| e.into_inner()) = Some(ca);
    }

    /// The prepared authority, if it is one of these (DER) by now.
    fn take_pending(&self, authorities: &[Vec<u8>]) -> Option<Ca> {
        let mut pending = self.pending.lock().unwrap_or_else(|e| e.into_inner());
        let agreed = |ca: &Ca| authorities.iter().any(|der| der == ca.certificate_der());
        if pending.as_ref().is_some_and(agreed) { pending.take() } else { None }
    }

    /// Is this node's certificate of the authority with this fingerprint (hexadecimal)?
    pub fn is_signed_by(&self, authority: &str) -> bool {
        let own = self.lock();
        let signer = own.own().chain.get(1).map(|der| fingerprint::of(der));
        signer.is_some_and(|f| fingerprint::to_hex(&f) == authority)
    }

    /// Takes a renewed certificate into use.
    ///
    /// # Errors
    /// When it does not fit, or cannot be kept.
    pub fn renew(&self, certificate_der: Vec<u8>) -> Result<(), HomeError> {
        let mut own = self.lock();
        own.update_certificate(&self.dir, certificate_der)?;
        self.credentials.set_own(own.own())?;
        drop(own);
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Trusts these authorities (DER, newest first) from now on.
    ///
    /// # Errors
    /// When they cannot be used or kept.
    pub fn trust(&self, authorities: Vec<Vec<u8>>) -> Result<(), HomeError> {
        let mut own = self.lock();
        if own.authorities == authorities {
            return Ok(());
        }
        let trusted = authorities.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let pending = self.take_pending(&authorities);
        let kept = |ca: &&Ca| authorities.iter().any(|der| der == ca.certificate_der());
        let cas: Vec<Ca> = own.cas.iter().flatten().filter(kept).cloned().collect();
        let cas: Vec<Ca> = pending.into_iter().chain(cas).collect();
        own.set_trust(&self.dir, authorities, (!cas.is_empty()).then_some(cas))?;
        self.credentials.set_authorities(trusted)?;
        self.credentials.set_own(own.own())?;
        drop(own);
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Remembers whom to ask after a start.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn remember(&self, founders: Vec<Founder>, newest_serial: u64) -> Result<(), HomeError> {
        let mut own = self.lock();
        if own.founders != founders || own.newest_serial != newest_serial {
            own.set_founders(&self.dir, founders, newest_serial)?;
        }
        Ok(())
    }
}
