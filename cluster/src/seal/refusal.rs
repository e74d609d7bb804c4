//! Why a packet is refused: one word for each reason, to be counted and logged.

use std::fmt;

/// Why a packet that arrived is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Shorter than the shortest packet.
    TooShort,
    /// Longer than the longest.
    TooLong,
    /// Of a format that is not ours.
    Version,
    /// Sealed with a key that is neither the present nor the previous one.
    UnknownKey,
    /// Addressed to another member.
    NotForUs,
    /// Addressed to an earlier life of this daemon.
    OldReceiver,
    /// Its sender is not a member.
    UnknownSender,
    /// Not sealed with the cluster's key, or changed on the way.
    BadSeal,
    /// Not signed by the one it claims to be from.
    BadSignature,
    /// From another life of its sender than the one that the last probe met.
    OtherIncarnation,
    /// Seen before, or too old to say.
    Replay,
    /// Its payload is not a message of the gossip.
    Malformed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 12] = [
        Refusal::TooShort,
        Refusal::TooLong,
        Refusal::Version,
        Refusal::UnknownKey,
        Refusal::NotForUs,
        Refusal::OldReceiver,
        Refusal::UnknownSender,
        Refusal::BadSeal,
        Refusal::BadSignature,
        Refusal::OtherIncarnation,
        Refusal::Replay,
        Refusal::Malformed,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TooShort => "too short",
            Refusal::TooLong => "too long",
            Refusal::Version => "of another version",
            Refusal::UnknownKey => "sealed with an unknown key",
            Refusal::NotForUs => "addressed to another member",
            Refusal::OldReceiver => "addressed to an earlier life of this daemon",
            Refusal::UnknownSender => "from nobody on the member list",
            Refusal::BadSeal => "not sealed with the cluster's key",
            Refusal::BadSignature => "not signed by its sender",
            Refusal::OtherIncarnation => "from a life of its sender that no probe has met",
            Refusal::Replay => "seen before",
            Refusal::Malformed => "not a message of the gossip",
        })
    }
}
