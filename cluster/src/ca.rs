//! The cluster's own certificate authority: it says which key belongs to which member.

use crate::fingerprint;
use krg_rpc::tls::name_of;
use krg_types::MemberId;
use krg_types::limits::{CERTIFICATE_BYTES_MAX, CLOCK_GRACE_S};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::time::Duration;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// An authority lives so long, days.
pub const LIFETIME_DAYS: u64 = 3650;
/// A node's certificate lives so long, seconds; it is renewed well before.
pub const CERTIFICATE_LIFETIME_S: u64 = 90 * 86_400;
/// The last second that a certificate can name (9999-12-31).
const LAST_S: u64 = 253_402_300_799;
/// The object identifier of Ed25519.
const ED25519_OID: &str = "1.3.101.112";

/// What an authority cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// Its own files.
    #[error("the authority's key or certificate: {0}")]
    Own(String),
    /// A request for a certificate.
    #[error("the request for a certificate: {0}")]
    Request(String),
    /// The library refused.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// A certificate authority with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Ca {
    certificate_der: Vec<u8>,
    key_pkcs8_der: Vec<u8>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca {{ {} }}", fingerprint::to_hex(&self.fingerprint()))
    }
}

impl Ca {
    /// A new one for the cluster of this name. `now_unix_s` is the wall clock.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(cluster: &str, now_unix_s: u64, lifetime_days: u64) -> Result<Ca, CaError> {
        let key = new_key()?;
        let lifetime_s = lifetime_days.saturating_mul(86_400);
        let mut params = params(&format!("krg {cluster}"), now_unix_s, lifetime_s)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = pair(&key)?;
        let certificate = params.self_signed(&pair).map_err(sign)?;
        Ok(Ca { certificate_der: certificate.der().to_vec(), key_pkcs8_der: key })
    }

    /// From its two files.
    ///
    /// # Errors
    /// When one is not what it should be, or they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Ca, CaError> {
        let own = |e: pem::PemError| CaError::Own(e.to_string());
        let certificate = pem::parse(certificate_pem).map_err(own)?;
        let key = pem::parse(key_pem).map_err(own)?;
        if (certificate.tag(), key.tag()) != ("CERTIFICATE", "PRIVATE KEY") {
            return Err(CaError::Own("not a CERTIFICATE and a PRIVATE KEY".to_owned()));
        }
        Ca::from_der(certificate.into_contents(), key.into_contents())
    }

    /// From the certificate's and the key's (PKCS #8) DER.
    ///
    /// # Errors
    /// As for [`Ca::from_pem`].
    pub fn from_der(certificate_der: Vec<u8>, key_pkcs8_der: Vec<u8>) -> Result<Ca, CaError> {
        let own = |why: &str| CaError::Own(why.to_owned());
        if certificate_der.len() > CERTIFICATE_BYTES_MAX {
            return Err(own("the certificate is too long"));
        }
        let pair = pair(&key_pkcs8_der)?;
        let (rest, certificate) = X509Certificate::from_der(&certificate_der)
            .map_err(|_| own("the certificate is damaged"))?;
        if !rest.is_empty() || !certificate.is_ca() {
            return Err(own("the certificate is not an authority's"));
        }
        if *certificate.public_key().subject_public_key.data != *pair.public_key_raw() {
            return Err(own("the key is not the certificate's"));
        }
        Ok(Ca { certificate_der, key_pkcs8_der })
    }

    /// Its certificate.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Its certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate_der)
    }

    /// Its key, PKCS #8 PEM. Nobody but a voter may see it.
    pub fn key_pem(&self) -> String {
        key_pem(&self.key_pkcs8_der)
    }

    /// Its certificate's SHA-256.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint::of(&self.certificate_der)
    }

    /// A certificate for `member` with the public key of a signing request (DER), valid for
    /// `lifetime_s` seconds. Nothing else of the request is taken. The result is DER.
    ///
    /// # Errors
    /// When the request is malformed, not Ed25519, or not signed by its own key.
    pub fn sign(
        &self,
        csr_der: &[u8],
        member: MemberId,
        now_unix_s: u64,
        lifetime_s: u64,
    ) -> Result<Vec<u8>, CaError> {
        let public_key = requested_key(csr_der)?;
        let mut params = params(&name_of(member), now_unix_s, lifetime_s)?;
        let name = name_of(member).try_into().map_err(sign)?;
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate_der = CertificateDer::from(self.certificate_der.as_slice());
        let issuer = Issuer::from_ca_cert_der(&certificate_der, pair(&self.key_pkcs8_der)?);
        let issued = params.signed_by(&public_key, &issuer.map_err(sign)?).map_err(sign)?;
        Ok(issued.der().to_vec())
    }
}

/// A new Ed25519 key, PKCS #8 DER.
///
/// # Errors
/// When the system has no randomness.
pub fn new_key() -> Result<Vec<u8>, CaError> {
    Ok(KeyPair::generate_for(&PKCS_ED25519).map_err(sign)?.serialize_der())
}

/// A request for a certificate of this key, DER. It says nothing else: the authority decides.
///
/// # Errors
/// When the key is none.
pub fn csr(key_pkcs8_der: &[u8]) -> Result<Vec<u8>, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&pair(key_pkcs8_der)?).map_err(sign)?;
    Ok(request.der().to_vec())
}

/// The raw public key (Ed25519) of a signing request (DER): by it a member is known again.
///
/// # Errors
/// When the request is malformed, not Ed25519, or not signed by its own key.
pub fn public_key_of(csr_der: &[u8]) -> Result<[u8; 32], CaError> {
    raw(requested_key(csr_der)?.der_bytes())
}

/// The raw public key (Ed25519) of a private key (PKCS #8 DER).
///
/// # Errors
/// When the key is none.
pub fn public_key_of_key(key_pkcs8_der: &[u8]) -> Result<[u8; 32], CaError> {
    raw(pair(key_pkcs8_der)?.public_key_raw())
}

fn raw(key: &[u8]) -> Result<[u8; 32], CaError> {
    key.try_into().map_err(|_| CaError::Request("its key is not of 32 bytes".to_owned()))
}

/// The DER of one certificate in PEM.
///
/// # Errors
/// When the text is anything else.
pub fn certificate_from_pem(text: &str) -> Result<Vec<u8>, CaError> {
    let own = |why: String| CaError::Own(why);
    let block = pem::parse(text).map_err(|e| own(e.to_string()))?;
    if block.tag() != "CERTIFICATE" || block.contents().len() > CERTIFICATE_BYTES_MAX {
        return Err(own("not a certificate".to_owned()));
    }
    Ok(block.into_contents())
}

/// A certificate (DER) as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

pub(crate) fn key_pem(pkcs8_der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8_der))
}

fn sign(e: rcgen::Error) -> CaError {
    CaError::Sign(e.to_string())
}

fn pair(key_pkcs8_der: &[u8]) -> Result<KeyPair, CaError> {
    let der = PrivatePkcs8KeyDer::from(key_pkcs8_der);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
        .map_err(|e| CaError::Own(format!("not an Ed25519 key: {e}")))
}

/// What every certificate has: one name, a random serial number and its time, which begins
/// earlier than now for those whose clocks are behind.
fn params(name: &str, now_unix_s: u64, lifetime_s: u64) -> Result<CertificateParams, CaError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |s: u64| epoch + Duration::from_secs(s.min(LAST_S));
    let mut params = CertificateParams::default();
    params.not_before = at(now_unix_s.saturating_sub(CLOCK_GRACE_S));
    params.not_after = at(now_unix_s.saturating_add(lifetime_s));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    let filled = SystemRandom::new().fill(&mut serial);
    filled.map_err(|_| CaError::Sign("the system has no randomness".to_owned()))?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn requested_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let bad = |why: &str| CaError::Request(why.to_owned());
    if csr_der.len() > CERTIFICATE_BYTES_MAX {
        return Err(bad("it is too long"));
    }
    let parsed = X509CertificationRequest::from_der(csr_der);
    let (rest, request) = parsed.map_err(|_| bad("it is malformed"))?;
    let key = &request.certification_request_info.subject_pki;
    if !rest.is_empty() || key.algorithm.algorithm.to_id_string() != ED25519_OID {
        return Err(bad("it is not for an Ed25519 key"));
    }
    request.verify_signature().map_err(|_| bad("it is not signed by its own key"))?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|e| CaError::Request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::tls::member_of;
    use krg_types::NodeId;

    const NOW_S: u64 = 1_800_000_000;

    fn member() -> MemberId {
        MemberId::new(NodeId::new(3).unwrap(), 7)
    }

    #[test]
    fn a_certificate_holds_what_the_authority_says_and_no_more() {
        let ca = Ca::new("lab", NOW_S, LIFETIME_DAYS).unwrap();
        let mut asked = CertificateParams::new(vec!["m257.member.krg".to_owned()]).unwrap();
        asked.distinguished_name.push(DnType::CommonName, "root");
        asked.is_ca = IsCa::NoCa;
        let key = new_key().unwrap();
        let csr = asked.serialize_request(&pair(&key).unwrap()).unwrap();
        let der = ca.sign(csr.der(), member(), NOW_S, 86_400).unwrap();
        assert_eq!(member_of(&CertificateDer::from(der.clone())), Ok(member()));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let (_, issuer) = X509Certificate::from_der(ca.certificate_der()).unwrap();
        certificate.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=m1795.member.krg");
        assert_eq!(certificate.issuer().to_string(), "CN=krg lab");
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && !usage.any);
        let times = certificate.validity();
        assert_eq!(times.not_before.timestamp() as u64, NOW_S - CLOCK_GRACE_S);
        assert_eq!(times.not_after.timestamp() as u64, NOW_S + 86_400);
        let constraints = issuer.basic_constraints().unwrap().unwrap().value;
        assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
        let again = ca.sign(csr.der(), member(), NOW_S, u64::MAX).unwrap();
        assert_ne!(fingerprint::of(&der), fingerprint::of(&again));
    }

    #[test]
    fn bad_requests_are_refused() {
        let ca = Ca::new("lab", NOW_S, LIFETIME_DAYS).unwrap();
        let refused = |csr: &[u8]| match ca.sign(csr, member(), NOW_S, 86_400) {
            Err(CaError::Request(why)) => why,
            other => panic!("{other:?}"),
        };
        let good = csr(&new_key().unwrap()).unwrap();
        let key_of = |der: &[u8]| {
            let (_, certificate) = X509Certificate::from_der(der).unwrap();
            certificate.public_key().raw.to_vec()
        };
        let key = key_of(&ca.sign(&good, member(), NOW_S, 1).unwrap());
        let mut accepted = 0;
        for n in 0..good.len() {
            assert!(ca.sign(&good[..n], member(), NOW_S, 1).is_err(), "cut at {n}");
            let mut bent = good.clone();
            bent[n] ^= 0x40;
            if let Ok(der) = ca.sign(&bent, member(), NOW_S, 1) {
                assert_eq!(key_of(&der), key, "bent at {n}");
                accepted += 1;
            }
        }
        // The frame around the signed part is not signed.
        assert!(accepted < 8, "{accepted}");
        assert_eq!(refused(&vec![0x30; CERTIFICATE_BYTES_MAX + 1]), "it is too long");
        let mut longer = good.clone();
        longer.push(0);
        refused(&longer);
        let rsa_free = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ecdsa = CertificateParams::default().serialize_request(&rsa_free).unwrap();
        assert_eq!(refused(ecdsa.der()), "it is not for an Ed25519 key");
    }

    #[test]
    fn an_authority_comes_back_from_its_files_and_only_from_its_own() {
        let ca = Ca::new("lab", NOW_S, LIFETIME_DAYS).unwrap();
        let other = Ca::new("lab", NOW_S, LIFETIME_DAYS).unwrap();
        assert_eq!(Ca::from_pem(&ca.certificate_pem(), &ca.key_pem()), Ok(ca.clone()));
        assert!(Ca::from_pem(&ca.certificate_pem(), &other.key_pem()).is_err());
        assert!(Ca::from_pem(&ca.key_pem(), &ca.certificate_pem()).is_err());
        assert!(Ca::from_pem("", "").is_err());
        let key = new_key().unwrap();
        let leaf = ca.sign(&csr(&key).unwrap(), member(), NOW_S, 1).unwrap();
        assert!(Ca::from_der(leaf, key).is_err());
        assert!(!format!("{ca:?}").contains("PRIVATE"));
        assert_eq!(
            certificate_from_pem(&ca.certificate_pem()),
            Ok(ca.certificate_der().to_vec())
        );
        assert!(certificate_from_pem(&ca.key_pem()).is_err());
    }

    #[test]
    fn a_key_is_known_again_by_its_requests() {
        let (key, other) = (new_key().unwrap(), new_key().unwrap());
        let known = public_key_of_key(&key);
        assert!(known.is_ok());
        assert_eq!(public_key_of(&csr(&key).unwrap()), known);
        assert_ne!(public_key_of(&csr(&other).unwrap()), known);
        assert!(public_key_of(&key).is_err() && public_key_of_key(&[]).is_err());
    }
}
