//! What a node keeps of its membership: its key and certificate, the authorities it trusts, and
//! who else was a member when it last looked.

mod disk;
#[cfg(test)]
mod tests;

use crate::ca::{CERTIFICATE_LIFETIME_S, Ca, CaError, LIFETIME_DAYS, public_key_of_key};
use crate::fingerprint;
use krg_rpc::tls::{CertificateDer, Credentials, Own, Roster, TlsError, member_of};
use krg_types::limits::{
    ADDRESS_BYTES_MAX, AUTHORITIES_MAX, CERTIFICATE_BYTES_MAX, CLUSTER_NAME_BYTES_MAX,
    NODE_ID_MAX,
};
use krg_types::{MemberId, NodeId};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use crate::ca::{csr, new_key};

/// Where a node keeps its state.
pub const STATE_DIR: &str = "/var/lib/krg";
/// The files of an identity, in the folder `identity` of the state directory.
const NODE_KEY: &str = "node.key";
const NODE_CRT: &str = "node.crt";
const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const MEMBER_JSON: &str = "member.json";

/// An identity that cannot be read, written or believed. Nothing is ever deleted because of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The system refused.
    #[error("{path}: {why}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// A file is missing, damaged, or does not fit the others.
    #[error(
        "{path}: {why}. Restore {dir} from a backup, or move it away and join the cluster again \
         (krg join)"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The folder it is in.
        dir: PathBuf,
    },
    /// Others than the owner may read a key.
    #[error("{path}: others may read this key (mode {mode:04o}). Run: chmod 600 {path}")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key or certificate that could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Another member, as it was last known: somebody to ask after a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its membership.
    pub member: MemberId,
    /// Where it listens, `host:port`.
    pub address: String,
    /// The SHA-256 of its public key.
    pub fingerprint: [u8; 32],
}

/// One membership of this node, with all that proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The session of the cluster.
    pub session: u32,
    /// This node's number.
    pub node: NodeId,
    /// This node's membership.
    pub member: MemberId,
    /// Where it listens, `host:port`.
    pub address: String,
    /// The members it knew.
    pub founders: Vec<Founder>,
    /// The largest serial of a join it had heard of.
    pub newest_serial: u64,
    /// Its private key, PKCS #8 DER.
    pub key_pkcs8_der: Vec<u8>,
    /// Its certificate, DER.
    pub certificate_der: Vec<u8>,
    /// Certificates of the authorities it trusts, DER, newest first.
    pub authorities: Vec<Vec<u8>>,
    /// The authorities that it can sign for, if it is a voter.
    pub cas: Option<Vec<Ca>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity {{ cluster: {:?}, member: {} }}", self.cluster, self.member)
    }
}

/// The first member of a new cluster: a new authority and a certificate from it for serial 1.
/// `now_unix_s` is the wall clock.
///
/// # Errors
/// When the system has no randomness.
pub fn founder(
    cluster: &str,
    session: u32,
    node: NodeId,
    address: &str,
    now_unix_s: u64,
) -> Result<(Identity, Ca), CaError> {
    let ca = Ca::new(cluster, now_unix_s, LIFETIME_DAYS)?;
    let (key_pkcs8_der, member) = (new_key()?, MemberId::new(node, 1));
    let request = csr(&key_pkcs8_der)?;
    let certificate_der = ca.sign(&request, member, now_unix_s, CERTIFICATE_LIFETIME_S)?;
    let fingerprint = fingerprint::of(&public_key_of_key(&key_pkcs8_der)?);
    let own = Founder { member, address: address.to_owned(), fingerprint };
    let identity = Identity {
        cluster: cluster.to_owned(),
        session,
        node,
        member,
        address: address.to_owned(),
        founders: vec![own],
        newest_serial: 1,
        key_pkcs8_der,
        certificate_der,
        authorities: vec![ca.certificate_der().to_vec()],
        cas: Some(vec![ca.clone()]),
    };
    Ok((identity, ca))
}

impl Identity {
    /// What is in the state directory; `None` if this node is no member of any cluster. An
    /// interrupted [`Identity::save`] is completed.
    ///
    /// # Errors
    /// Names the file that is missing, damaged or does not fit the others, and what to do.
    pub fn load(state_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        disk::settle(state_dir)?;
        disk::read(&state_dir.join(disk::CURRENT))
    }

    /// Replaces what is in the state directory, as a whole or not at all.
    ///
    /// # Errors
    /// When it does not fit together, or the system refuses.
    pub fn save(&self, state_dir: &Path) -> Result<(), IdentityError> {
        self.fits(&state_dir.join(disk::CURRENT))?;
        disk::settle(state_dir)?;
        disk::replace(state_dir, self)
    }

    /// A renewed certificate (DER) for the same key and member.
    ///
    /// # Errors
    /// As for [`Identity::save`]; nothing is changed then.
    pub fn update_certificate(
        &mut self,
        state_dir: &Path,
        certificate_der: Vec<u8>,
    ) -> Result<(), IdentityError> {
        self.change(state_dir, |new| new.certificate_der = certificate_der)
    }

    /// Other authorities to trust (DER, newest first).
    ///
    /// # Errors
    /// As for [`Identity::save`]; nothing is changed then.
    pub fn set_authorities(
        &mut self,
        state_dir: &Path,
        authorities: Vec<Vec<u8>>,
    ) -> Result<(), IdentityError> {
        self.change(state_dir, |new| new.authorities = authorities)
    }

    /// Other authorities to trust (DER, newest first), and the keys of those it can sign for.
    ///
    /// # Errors
    /// As for [`Identity::save`]; nothing is changed then.
    pub fn set_trust(
        &mut self,
        state_dir: &Path,
        authorities: Vec<Vec<u8>>,
        cas: Option<Vec<Ca>>,
    ) -> Result<(), IdentityError> {
        self.change(state_dir, |new| (new.authorities, new.cas) = (authorities, cas))
    }

    /// The authorities' keys for one who becomes a voter; `None` for one who ceases to be.
    ///
    /// # Errors
    /// As for [`Identity::save`]; nothing is changed then.
    pub fn set_ca_keys(
        &mut self,
        state_dir: &Path,
        cas: Option<Vec<Ca>>,
    ) -> Result<(), IdentityError> {
        self.change(state_dir, |new| new.cas = cas)
    }

    /// The members to ask after the next start.
    ///
    /// # Errors
    /// As for [`Identity::save`]; nothing is changed then.
    pub fn set_founders(
        &mut self,
        state_dir: &Path,
        founders: Vec<Founder>,
        newest_serial: u64,
    ) -> Result<(), IdentityError> {
        self.change(state_dir, |new| {
            (new.founders, new.newest_serial) = (founders, newest_serial);
        })
    }

    fn change(
        &mut self,
        state_dir: &Path,
        change: impl FnOnce(&mut Identity),
    ) -> Result<(), IdentityError> {
        let mut new = self.clone();
        change(&mut new);
        new.save(state_dir)?;
        *self = new;
        Ok(())
    }

    /// What this node shows to others: its certificate and that of the authority that signed it.
    pub fn own(&self) -> Own {
        let signer = self.authorities.iter().find(|ca| signed_by(&self.certificate_der, ca));
        let chain = std::iter::once(&self.certificate_der).chain(signer);
        let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
        Own { chain, key_pkcs8_der: self.key_pkcs8_der.clone() }
    }

    /// The authorities it trusts, newest first.
    pub fn authorities(&self) -> Vec<CertificateDer<'static>> {
        self.authorities.iter().map(|der| CertificateDer::from(der.clone())).collect()
    }

    /// The members it knew, and itself.
    pub fn roster(&self) -> Roster {
        let mut roster = Roster { newest_serial: self.newest_serial, ..Roster::default() };
        let own = public_key_of_key(&self.key_pkcs8_der).ok();
        let own = own.map(|key| (self.member, fingerprint::of(&key)));
        let others = self.founders.iter().map(|f| (f.member, f.fingerprint));
        for (member, fingerprint) in others.chain(own) {
            roster.members.entry(member).or_default().insert(fingerprint);
        }
        roster
    }

    /// What TLS needs to know, until the replicated state says more.
    ///
    /// # Errors
    /// When keys and certificates do not fit together.
    pub fn credentials(&self) -> Result<Arc<Credentials>, TlsError> {
        Credentials::new(self.own(), self.authorities(), self.roster())
    }

    /// From when to when the certificate is valid, Unix time in seconds; 0 if it is none.
    pub fn validity_unix_s(&self) -> (u64, u64) {
        let parsed = X509Certificate::from_der(&self.certificate_der).ok();
        let validity = parsed.map(|(_, c)| {
            let validity = c.validity();
            (validity.not_before.timestamp(), validity.not_after.timestamp())
        });
        let (from_s, to_s) = validity.unwrap_or_default();
        (u64::try_from(from_s).unwrap_or(0), u64::try_from(to_s).unwrap_or(0))
    }

    /// The last moment at which the certificate is valid, Unix time in seconds; 0 if it is none.
    pub fn not_after_unix_s(&self) -> u64 {
        let parsed = X509Certificate::from_der(&self.certificate_der);
        let at_s = parsed.map_or(0, |(_, c)| c.validity().not_after.timestamp());
        u64::try_from(at_s).unwrap_or(0)
    }

    /// Do the parts belong together? `dir` is only for the error's text.
    fn fits(&self, dir: &Path) -> Result<(), IdentityError> {
        let wrong = |name: &str, why: String| Err(bad(dir, name, why));
        if self.key_pkcs8_der.len() > CERTIFICATE_BYTES_MAX {
            return wrong(NODE_KEY, "it is too long".to_owned());
        }
        match self.credentials() {
            Err(TlsError::Key(why)) => return wrong(NODE_KEY, why),
            Err(TlsError::Certificate(why)) => return wrong(NODE_CRT, why),
            Err(TlsError::Authorities(why)) => return wrong(CA_CRT, why),
            Ok(_) => {}
        }
        if self.authorities.iter().any(|ca| ca.len() > CERTIFICATE_BYTES_MAX) {
            return wrong(CA_CRT, "it is too long".to_owned());
        }
        let leaf = CertificateDer::from(self.certificate_der.as_slice());
        let named = member_of(&leaf).map_err(|e| bad(dir, NODE_CRT, e.to_string()))?;
        if named != self.member {
            let why = format!("it is of membership {named}, {MEMBER_JSON} says {}", self.member);
            return wrong(NODE_CRT, why);
        }
        if !self.authorities.iter().any(|ca| signed_by(&self.certificate_der, ca)) {
            return wrong(NODE_CRT, format!("no authority of {CA_CRT} signed it"));
        }
        let cas = self.cas.as_deref().unwrap_or_default();
        let known = |ca: &Ca| self.authorities.iter().any(|der| der == ca.certificate_der());
        if cas.len() > AUTHORITIES_MAX || !cas.iter().all(known) {
            return wrong(CA_KEY, format!("a key in it belongs to no certificate of {CA_CRT}"));
        }
        let text_fits = |text: &str, max: usize| (1..=max).contains(&text.len());
        let addresses = self.founders.iter().map(|f| &f.address).chain([&self.address]);
        if self.member.node() != Some(self.node)
            || self.member.serial() > self.newest_serial
            || self.founders.len() > NODE_ID_MAX as usize
            || !text_fits(&self.cluster, CLUSTER_NAME_BYTES_MAX)
            || !addresses.into_iter().all(|a| text_fits(a, ADDRESS_BYTES_MAX))
        {
            return wrong(
                MEMBER_JSON,
                "its values contradict each other or the limits".to_owned(),
            );
        }
        Ok(())
    }
}

fn bad(dir: &Path, name: &str, why: impl Into<String>) -> IdentityError {
    IdentityError::File { path: dir.join(name), why: why.into(), dir: dir.to_owned() }
}

fn signed_by(certificate_der: &[u8], ca_der: &[u8]) -> bool {
    let (leaf, ca) =
        (X509Certificate::from_der(certificate_der), X509Certificate::from_der(ca_der));
    let (Ok((_, leaf)), Ok((_, ca))) = (leaf, ca) else { return false };
    leaf.verify_signature(Some(ca.public_key())).is_ok()
}
