//! Trust between nodes: who this node is, whom it believes, and TLS with both exchanged while
//! connections live. tonic's own TLS cannot change its certificates or its mind later.

mod complaint;
mod conn;
mod incoming;
mod refusal;
mod verify;

use complaint::Complaints;
pub use conn::Conn;
pub(crate) use conn::to_pinned;
pub use conn::{images_to, to_member};
pub use incoming::{Incoming, images_from, incoming};
pub use refusal::Refusal;
pub use rustls::pki_types::CertificateDer;

use krg_types::MemberId;
use krg_types::limits::{AUTHORITIES_MAX, CERTIFICATE_BYTES_MAX};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use tokio::sync::watch;
use tonic::{Request, Status};
use verify::{MemberVerifier, PinVerifier};

/// What is said to a caller that is no member.
const NOT_A_MEMBER: &str =
    "this node is not a member of the cluster: join with a token (krg join)";
/// What is spoken inside a connection; who expects something else is refused in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// gRPC, on HTTP/2.
    Control,
    /// Frames of file data.
    Files,
    /// Images of a job.
    Images,
}

impl Protocol {
    /// Its name in the handshake (RFC 7301).
    fn alpn(self) -> Vec<Vec<u8>> {
        vec![match self {
            Protocol::Control => b"h2".to_vec(),
            Protocol::Files => b"krg-files/1".to_vec(),
            Protocol::Images => b"krg-images/1".to_vec(),
        }]
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// Keys or certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// This node's own certificate.
    #[error("this node's certificate: {0}")]
    Certificate(String),
    /// Its key.
    #[error("this node's key: {0}")]
    Key(String),
    /// An authority's certificate, or their number.
    #[error("the cluster's authorities: {0}")]
    Authorities(String),
}

/// What this node shows to others.
#[derive(Clone)]
pub struct Own {
    /// Its certificate and then that of the authority which signed it: a joiner looks for the
    /// fingerprint of the latter.
    pub chain: Vec<CertificateDer<'static>>,
    /// The certificate's private key.
    pub key_pkcs8_der: Vec<u8>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own {{ {} certificates }}", self.chain.len())
    }
}

/// Who belongs to the cluster, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Each member with the SHA-256 of every public key that is accepted from it.
    pub members: BTreeMap<MemberId, BTreeSet<[u8; 32]>>,
    /// The largest serial of a join that this node has heard of.
    pub newest_serial: u64,
}

impl Roster {
    /// Is a certificate's holder one of us? A member with a serial above all that this node has
    /// heard of has only just joined.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, member: MemberId, fingerprint: &[u8; 32]) -> Result<(), Refusal> {
        match self.members.get(&member) {
            Some(accepted) if accepted.contains(fingerprint) => Ok(()),
            Some(_) => Err(Refusal::Replaced(member)),
            None if member.serial() > self.newest_serial => Ok(()),
            None => Err(Refusal::Removed(member)),
        }
    }
}

/// One moment's trust. Connections compare the parts by pointer to see what changed.
#[derive(Clone)]
pub(crate) struct Trust {
    own: Arc<CertifiedKey>,
    own_member: MemberId,
    anchors: Arc<Vec<TrustAnchor<'static>>>,
    roster: Arc<Roster>,
}

/// Everything TLS needs to know, exchanged while connections live.
pub struct Credentials {
    trust: watch::Sender<Trust>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = self.trust.borrow();
        let (own, members) = (trust.own_member, trust.roster.members.len());
        write!(f, "Credentials {{ own: {own}, members: {members} }}")
    }
}

impl Credentials {
    /// Of this node, the authorities that it trusts (newest first) and the members it knows.
    ///
    /// # Errors
    /// When a certificate or the key cannot be used, or the two do not belong together.
    pub fn new(
        own: Own,
        authorities: Vec<CertificateDer<'static>>,
        roster: Roster,
    ) -> Result<Arc<Credentials>, TlsError> {
        let (own, own_member) = usable(own)?;
        let anchors = anchors(&authorities)?;
        let trust = Trust { own, own_member, anchors, roster: Arc::new(roster) };
        Ok(Arc::new(Credentials { trust: watch::Sender::new(trust) }))
    }

    /// New connections show another certificate; those that live keep theirs.
    ///
    /// # Errors
    /// As for [`Credentials::new`]; nothing is changed then.
    pub fn set_own(&self, own: Own) -> Result<(), TlsError> {
        let (own, own_member) = usable(own)?;
        self.trust.send_modify(|trust| (trust.own, trust.own_member) = (own, own_member));
        Ok(())
    }

    /// Other authorities, newest first. Connections of a member whose certificate none of them
    /// signed end at once.
    ///
    /// # Errors
    /// When one is not a certificate, or when there are none or too many.
    pub fn set_authorities(
        &self,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<(), TlsError> {
        let anchors = anchors(&authorities)?;
        self.trust.send_modify(|trust| trust.anchors = anchors);
        Ok(())
    }

    /// Another list of members. Connections of those who do not pass any more end at once.
    pub fn set_roster(&self, roster: Roster) {
        self.trust.send_modify(|trust| trust.roster = Arc::new(roster));
    }

    /// This node's membership, as its certificate says.
    pub fn own_member(&self) -> MemberId {
        self.trust.borrow().own_member
    }

    /// Is this certificate's holder one of us now? That an authority signed it is the
    /// handshake's business.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, member: MemberId, fingerprint: &[u8; 32]) -> Result<(), Refusal> {
        self.trust.borrow().roster.check(member, fingerprint)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    pub(crate) fn now(&self) -> Trust {
        self.trust.borrow().clone()
    }
}

impl Trust {
    /// For one handshake: the verifier keeps why it refused.
    fn server_config(
        &self,
        verifier: Arc<MemberVerifier>,
        protocol: Protocol,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.own.clone())));
        config.alpn_protocols = protocol.alpn();
        // A resumed session would not be asked for its certificate again.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For one connection to a member.
    pub(crate) fn client_config(
        &self,
        verifier: Arc<MemberVerifier>,
        protocol: Protocol,
    ) -> Result<ClientConfig, rustls::Error> {
        let config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.own.clone())));
        Ok(hardened(config, protocol))
    }
}

/// For a caller that has no certificate yet.
fn anonymous_config(verifier: Arc<PinVerifier>) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(hardened(config, Protocol::Control))
}

fn hardened(mut config: ClientConfig, protocol: Protocol) -> ClientConfig {
    config.alpn_protocols = protocol.alpn();
    config.resumption = rustls::client::Resumption::disabled();
    // It would be sent in the clear, and no server needs it.
    config.enable_sni = false;
    config
}

fn usable(own: Own) -> Result<(Arc<CertifiedKey>, MemberId), TlsError> {
    let bad = |why: String| TlsError::Certificate(why);
    let leaf = own.chain.first().ok_or_else(|| bad("there is none".to_owned()))?;
    if own.chain.len() > 1 + AUTHORITIES_MAX
        || own.chain.iter().any(|c| c.len() > CERTIFICATE_BYTES_MAX)
    {
        return Err(bad("it is too long".to_owned()));
    }
    let member = member_of(leaf).map_err(|e| bad(e.to_string()))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key_pkcs8_der));
    let key = PROVIDER.key_provider.load_private_key(key);
    let key = key.map_err(|e| TlsError::Key(e.to_string()))?;
    let own = CertifiedKey::new(own.chain, key);
    own.keys_match().map_err(|_| TlsError::Key("it is not the certificate's".to_owned()))?;
    Ok((Arc::new(own), member))
}

fn anchors(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<Vec<TrustAnchor<'static>>>, TlsError> {
    let bad = |why: String| TlsError::Authorities(why);
    if authorities.is_empty() || authorities.len() > AUTHORITIES_MAX {
        let n = authorities.len();
        return Err(bad(format!("{n} certificates, there must be 1 to {AUTHORITIES_MAX}")));
    }
    let anchor = |der| {
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| bad(e.to_string()))?;
        Ok(anchor.to_owned())
    };
    Ok(Arc::new(authorities.iter().map(anchor).collect::<Result<_, TlsError>>()?))
}

/// The SHA-256 of a certificate's DER.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, der).as_ref());
    out
}

/// The SHA-256 of a certificate's public key (Ed25519, raw). A member keeps its key when its
/// certificate is renewed, so a node that was away knows it again.
///
/// # Errors
/// When it is not a certificate.
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Result<[u8; 32], Refusal> {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let parsed = parsed.map_err(|e| Refusal::Untrusted(e.to_string()))?;
    let info = parsed.subject_public_key_info();
    // An Ed25519 key's SubjectPublicKeyInfo (RFC 8410) ends with its 32 bytes.
    let raw = info.as_ref().last_chunk::<32>();
    let raw = raw.ok_or_else(|| Refusal::Untrusted("its key is none".into()))?;
    Ok(fingerprint(raw))
}

/// The one name in a member's certificate.
pub fn name_of(member: MemberId) -> String {
    format!("m{}.member.krg", member.get())
}

/// The member whose certificate this is. Says nothing about who signed it.
///
/// # Errors
/// When it is not a certificate, or not of exactly one member.
pub fn member_of(certificate: &CertificateDer<'_>) -> Result<MemberId, Refusal> {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let parsed = parsed.map_err(|e| Refusal::Untrusted(e.to_string()))?;
    let mut names = parsed.valid_dns_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(Refusal::NoMember);
    };
    let number = name.strip_prefix('m').and_then(|n| n.strip_suffix(".member.krg"));
    let member = number.and_then(|n| n.parse().ok()).and_then(MemberId::from_u64);
    // Compared with what we would write, so that one member has one name.
    member.filter(|m| name_of(*m) == name).ok_or(Refusal::NoMember)
}

/// Who is at the other end; every request's extensions hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// As its certificate says; `None`: it has none.
    pub member: Option<MemberId>,
    /// Where it calls from.
    pub remote: SocketAddr,
    /// Where it reached us.
    pub local: SocketAddr,
}

/// Lets only members pass: an interceptor for every service but that for joining.
///
/// # Errors
/// PERMISSION_DENIED for a caller without a certificate.
pub fn members_only(request: Request<()>) -> Result<Request<()>, Status> {
    /// All services' together: a stranger may try each of them.
    static STRANGERS: Mutex<Complaints> = Mutex::new(Complaints::new());
    match request.extensions().get::<Caller>() {
        Some(Caller { member: Some(_), .. }) => return Ok(request),
        Some(Caller { remote, .. }) => {
            let mut strangers = STRANGERS.lock().unwrap_or_else(|e| e.into_inner());
            strangers.complain("a call is refused", *remote, "the caller has no certificate");
        }
        None => {}
    }
    Err(Status::permission_denied(NOT_A_MEMBER))
}
