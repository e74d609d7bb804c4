//! Why a certificate's holder is not believed, in words for an administrator.

use krg_types::MemberId;
use rustls::{AlertDescription, CertificateError};

/// Why the other end of a connection is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was a member and is none now.
    #[error("node {node} was removed (membership {member})", node = node(.0), member = .0)]
    Removed(MemberId),
    /// A member, with a certificate that the cluster does not accept from it (any more).
    #[error("the certificate of node {} is not one that the cluster accepts now", node(.0))]
    Replaced(MemberId),
    /// Not signed by an authority of the cluster, or malformed.
    #[error("its certificate is not signed by an authority of this cluster ({0})")]
    Untrusted(String),
    /// Expired, or not valid yet, by more than the grace.
    #[error("its certificate is not valid at this time: it expired, or a clock is wrong ({0})")]
    Time(String),
    /// A certificate of the cluster that is no member's.
    #[error("its certificate is not a member's")]
    NoMember,
    /// Another member answers than the one that was called.
    #[error("membership {got} answers where {wanted} was called")]
    Another {
        /// Who was called.
        wanted: MemberId,
        /// Who answers.
        got: MemberId,
    },
    /// The server's authority is not the one that the token names.
    #[error(
        "the cluster's fingerprint differs from the token's: this is another cluster, or \
         somebody in between (the token says {wanted}, the node {got})"
    )]
    Fingerprint {
        /// The token's, hexadecimal.
        wanted: String,
        /// The server's, hexadecimal, or that it sent none.
        got: String,
    },
    /// The other side refused us.
    #[error("the other node refuses this one: {0}")]
    ByThem(&'static str),
    /// A caller without a certificate stayed too long.
    #[error("a caller without a certificate may stay for {0} s only")]
    Anonymous(u64),
}

fn node(member: &MemberId) -> u32 {
    member.node().map_or(0, |n| n.get())
}

impl Refusal {
    /// What it is for rustls, which tells the other side by an alert.
    pub(super) fn to_rustls(&self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Refusal::Removed(_) => CertificateError::Revoked,
            Refusal::Replaced(_) => CertificateError::ApplicationVerificationFailure,
            Refusal::Time(_) => CertificateError::Expired,
            Refusal::Untrusted(_) => CertificateError::UnknownIssuer,
            _ => CertificateError::NotValidForName,
        })
    }

    /// What the other side's alert says of us.
    pub(super) fn from_alert(alert: AlertDescription) -> Refusal {
        Refusal::ByThem(match alert {
            AlertDescription::CertificateRevoked => "it was removed from the cluster",
            AlertDescription::AccessDenied => {
                "its certificate is not one that the cluster accepts now"
            }
            AlertDescription::CertificateExpired => {
                "its certificate is not valid at this time: it expired, or a clock is wrong"
            }
            AlertDescription::UnknownCA => "its certificate is of another cluster",
            _ => "the handshake failed (see that node's log)",
        })
    }
}
