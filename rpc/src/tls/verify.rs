//! Verifies certificates: signed by an authority, valid now give or take the grace, of the right
//! member, and of one who belongs to the cluster.

use super::{PROVIDER, Refusal, Trust, fingerprint, key_fingerprint, member_of};
use krg_types::MemberId;
use krg_types::limits::{AUTHORITIES_MAX, CERTIFICATE_BYTES_MAX, CLOCK_GRACE_S};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// What the holder of a certificate uses it for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Server,
    Client,
}

/// The holder of a verified certificate, kept to be judged again when trust changes.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(super) member: MemberId,
    side: Side,
    chain: Vec<CertificateDer<'static>>,
    fingerprint: [u8; 32],
    anchors: Arc<Vec<TrustAnchor<'static>>>,
}

impl Peer {
    /// Verifies a chain as it was sent, leaf first.
    pub(super) fn verify(
        chain: Vec<CertificateDer<'static>>,
        side: Side,
        trust: &Trust,
        now: UnixTime,
    ) -> Result<Peer, Refusal> {
        let leaf = chain.first().ok_or(Refusal::NoMember)?;
        chain_to(&trust.anchors, &chain, side, now)?;
        let (member, fingerprint) = (member_of(leaf)?, key_fingerprint(leaf)?);
        trust.roster.check(member, &fingerprint)?;
        Ok(Peer { member, side, chain, fingerprint, anchors: trust.anchors.clone() })
    }

    /// Is it still one of us?
    pub(super) fn judge(&mut self, trust: &Trust) -> Result<(), Refusal> {
        trust.roster.check(self.member, &self.fingerprint)?;
        if !Arc::ptr_eq(&self.anchors, &trust.anchors) {
            chain_to(&trust.anchors, &self.chain, self.side, UnixTime::now())?;
            self.anchors = trust.anchors.clone();
        }
        Ok(())
    }
}

/// That a chain, leaf first, leads to one of the authorities and is valid at `now` or at most
/// the grace before or after.
fn chain_to(
    anchors: &[TrustAnchor<'_>],
    chain: &[CertificateDer<'_>],
    side: Side,
    now: UnixTime,
) -> Result<(), Refusal> {
    let bad = |e: webpki::Error| Refusal::Untrusted(e.to_string());
    let (leaf, rest) = chain.split_first().ok_or(Refusal::NoMember)?;
    if rest.len() > AUTHORITIES_MAX || chain.iter().any(|c| c.len() > CERTIFICATE_BYTES_MAX) {
        return Err(Refusal::Untrusted("it is too long".to_owned()));
    }
    let leaf = EndEntityCert::try_from(leaf).map_err(bad)?;
    let verify = |at_s: u64| {
        let usage = match side {
            Side::Server => KeyUsage::server_auth(),
            Side::Client => KeyUsage::client_auth(),
        };
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
        let ed25519 = &[webpki::ring::ED25519];
        leaf.verify_for_usage(ed25519, anchors, rest, at, usage, None, None).map(|_| ())
    };
    let now_s = now.as_secs();
    let first = match verify(now_s) {
        Ok(()) => return Ok(()),
        Err(e) => e,
    };
    let times = [now_s.saturating_sub(CLOCK_GRACE_S), now_s.saturating_add(CLOCK_GRACE_S)];
    if times.into_iter().any(|at_s| verify(at_s).is_ok()) {
        return Ok(());
    }
    Err(match first {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            Refusal::Time(first.to_string())
        }
        other => bad(other),
    })
}

fn owned(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
    std::iter::once(leaf).chain(rest).map(|c| c.clone().into_owned()).collect()
}

fn signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = &PROVIDER.signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
}

fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
}

/// For one handshake with a member, from either side. It keeps whom it verified, or why not:
/// rustls has no room for either.
pub(crate) struct MemberVerifier {
    trust: Trust,
    /// Who was called; `None` on the server's side.
    wanted: Option<MemberId>,
    verdict: OnceLock<Result<Peer, Refusal>>,
}

impl MemberVerifier {
    /// `wanted`: who is called, `None` for a server.
    pub(crate) fn new(trust: Trust, wanted: Option<MemberId>) -> Arc<MemberVerifier> {
        Arc::new(MemberVerifier { trust, wanted, verdict: OnceLock::new() })
    }

    /// Whom it verified or why not; `None`: no certificate was sent.
    pub(crate) fn verdict(&self) -> Option<Result<Peer, Refusal>> {
        self.verdict.get().cloned()
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let peer = Peer::verify(owned(leaf, rest), side, &self.trust, now);
        let verdict = peer.and_then(|peer| match self.wanted {
            Some(wanted) if wanted != peer.member => {
                Err(Refusal::Another { wanted, got: peer.member })
            }
            _ => Ok(peer),
        });
        match self.verdict.get_or_init(|| verdict) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.to_rustls()),
        }
    }
}

impl fmt::Debug for MemberVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberVerifier {{ wanted: {:?} }}", self.wanted)
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.decide(leaf, rest, Side::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.decide(leaf, rest, Side::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// For a joiner, who knows nothing but the fingerprint of the cluster's authority.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pin: [u8; 32],
    refusal: OnceLock<Refusal>,
}

impl PinVerifier {
    pub(crate) fn new(pin: [u8; 32]) -> Arc<PinVerifier> {
        Arc::new(PinVerifier { pin, refusal: OnceLock::new() })
    }

    /// Why it refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().cloned()
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let Some(ca) = rest.iter().find(|c| fingerprint(c) == self.pin) else {
            let last = rest.last().map(|c| hex(&fingerprint(c)));
            let got = last.unwrap_or_else(|| "sent none".to_owned());
            return Err(Refusal::Fingerprint { wanted: hex(&self.pin), got });
        };
        let anchor = webpki::anchor_from_trusted_cert(ca);
        let anchor = anchor.map_err(|e| Refusal::Untrusted(e.to_string()))?;
        // Nothing in between: what else the server sent is not asked.
        chain_to(&[anchor], std::slice::from_ref(leaf), Side::Server, now)?;
        member_of(leaf).map(|_| ())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.decide(leaf, rest, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(self.refusal.get_or_init(|| refusal).to_rustls()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
