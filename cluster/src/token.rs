//! Join tokens: one word that proves to the cluster that its bearer may join, and to the bearer
//! that this is the cluster. It has to survive copy and paste, so it carries a checksum.

use crate::fingerprint;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

const PREFIX: &str = "krg1";
/// Characters of an identifier: 5 bytes.
const ID_CHARS: usize = 8;
/// Characters of the checksum: 25 bits.
const CHECK_CHARS: usize = 5;
/// Longer texts are no tokens.
const TOKEN_BYTES_MAX: usize = 256;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// So that the hash of a token's secret is the hash of nothing else.
const HASH_DOMAIN: &[u8] = b"krg join token secret v1\0";

/// A word that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error("this is not a join token: it should begin with `krg1.`")]
    NotAToken,
    /// Parts are missing, too long or too short.
    #[error("this token is incomplete or has too much: copy it again, from `krg1.` to its end")]
    Length,
    /// A character that no token has.
    #[error("this token has the character {0:?}, which no token has: copy it again")]
    Character(char),
    /// The checksum differs.
    #[error("this token is mistyped (its checksum differs): copy it again")]
    Checksum,
    /// None can be made.
    #[error("the system has no randomness for a token")]
    Random,
}

/// What an administrator hands to a machine that is to join.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: [u8; 32],
    ca_fingerprint: [u8; 32],
}

/// Only what may be seen in a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {{ id: {} }}", self.id)
    }
}

/// The token itself, secret included: for the administrator and for no log.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}.{}", checksum(&body))
    }
}

impl Token {
    /// A new one for the cluster whose authority has this fingerprint.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(ca_fingerprint: [u8; 32]) -> Result<Token, TokenError> {
        let (mut id, mut secret) = ([0; 5], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).map_err(|_| TokenError::Random)?;
        random.fill(&mut secret).map_err(|_| TokenError::Random)?;
        Ok(Token { id: encode(&id), secret, ca_fingerprint })
    }

    /// By what the cluster finds it: 8 characters, no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The SHA-256 of the authority's certificate.
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        self.ca_fingerprint
    }

    /// The secret as it is sent to the cluster, inside TLS.
    pub fn secret_text(&self) -> String {
        encode(&self.secret)
    }

    /// What the cluster stores instead of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        hash_of(&self.secret_text())
    }

    fn body(&self) -> String {
        let (secret, print) = (encode(&self.secret), encode(&self.ca_fingerprint));
        format!("{PREFIX}.{}.{secret}.{print}", self.id)
    }
}

/// What the cluster would have stored for a secret, as a joiner sent it. Any text has one.
pub fn hash_of(secret_text: &str) -> [u8; 32] {
    fingerprint::of(&[HASH_DOMAIN, secret_text.as_bytes()].concat())
}

/// Whether a secret, as a joiner sent it, is the one that was stored as `stored_hash`. Takes the
/// same time wherever they differ.
pub fn matches(stored_hash: &[u8; 32], secret_text: &str) -> bool {
    let pairs = hash_of(secret_text).into_iter().zip(stored_hash);
    black_box(pairs.fold(0, |differ, (a, b)| black_box(differ | (a ^ b)))) == 0
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Length);
        }
        // Some terminals and phones begin a pasted word with a capital.
        let text = text.to_ascii_lowercase();
        let parts: Vec<&str> = text.split('.').collect();
        if parts[0] != PREFIX {
            return Err(TokenError::NotAToken);
        }
        let known = |c: &char| *c == '.' || u8::try_from(*c).is_ok_and(|c| ALPHABET.contains(&c));
        if let Some(c) = text[PREFIX.len()..].chars().find(|c| !known(c)) {
            return Err(TokenError::Character(c));
        }
        let [_, id, secret, print, check] = parts[..] else { return Err(TokenError::Length) };
        if id.len() != ID_CHARS || check.len() != CHECK_CHARS {
            return Err(TokenError::Length);
        }
        let (secret, ca_fingerprint) = (decode(secret)?, decode(print)?);
        let token = Token { id: id.to_owned(), secret, ca_fingerprint };
        if checksum(&token.body()) == check { Ok(token) } else { Err(TokenError::Checksum) }
    }
}

fn checksum(body: &str) -> String {
    let mut text = encode(&fingerprint::of(body.as_bytes()));
    text.truncate(CHECK_CHARS);
    text
}

/// Base32 of RFC 4648, lower case, unpadded.
fn encode(bytes: &[u8]) -> String {
    let bit = |n: usize| bytes.get(n / 8).map_or(0, |byte| byte >> (7 - n % 8) & 1);
    let value = |n: usize| (0..5).fold(0, |value, m| value << 1 | bit(5 * n + m));
    let chars = (bytes.len() * 8).div_ceil(5);
    (0..chars).map(|n| char::from(ALPHABET[usize::from(value(n))])).collect()
}

/// Exactly `N` bytes; bits of the last character that belong to none of them must be zero, so
/// that one secret has one text.
fn decode<const N: usize>(text: &str) -> Result<[u8; N], TokenError> {
    if text.len() != (N * 8).div_ceil(5) {
        return Err(TokenError::Length);
    }
    let mut bytes = [0; N];
    for (n, c) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|known| *known == c);
        let value = value.ok_or(TokenError::Character(char::from(c)))?;
        for m in (0..5).filter(|m| value >> (4 - m) & 1 == 1) {
            let byte = bytes.get_mut((5 * n + m) / 8).ok_or(TokenError::Checksum)?;
            *byte |= 1 << (7 - (5 * n + m) % 8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        assert_eq!(encode(b"foobar"), "mzxw6ytboi");
        assert_eq!(decode::<6>("mzxw6ytboi"), Ok(*b"foobar"));
        assert_eq!(decode::<1>("74"), Ok([0xff]));
        assert_eq!(decode::<1>("75"), Err(TokenError::Checksum));
    }

    #[test]
    fn a_token_shows_its_secret_only_where_asked() {
        let token = Token::new([7; 32]).unwrap();
        assert_eq!(format!("{token:?}"), format!("Token {{ id: {} }}", token.id()));
        assert_eq!(token.id().len(), ID_CHARS);
        assert_ne!(Token::new([7; 32]).unwrap().secret_text(), token.secret_text());
        let hash = token.secret_hash();
        assert!(matches(&hash, &token.secret_text()));
        assert_ne!(hash, fingerprint::of(token.secret_text().as_bytes()));
        assert_eq!(hash_of(&token.secret_text()), hash);
        let other = Token::new([7; 32]).unwrap();
        for wrong in [other.secret_text(), String::new(), "é".to_owned()] {
            assert!(!matches(&hash, &wrong), "{wrong}");
        }
    }

    #[test]
    fn what_went_wrong_is_said() {
        let token = Token::new([7; 32]).unwrap().to_string();
        let error = |text: &str| Token::from_str(text).unwrap_err();
        assert_eq!(error("hello"), TokenError::NotAToken);
        assert_eq!(error(""), TokenError::NotAToken);
        assert_eq!(error("krg1"), TokenError::Length);
        assert_eq!(error(&token.replacen('.', ".0", 2)), TokenError::Character('0'));
        assert_eq!(error(&"krg1.a".repeat(1000)), TokenError::Length);
        assert_eq!(Token::from_str(&format!(" {}\n", token.to_uppercase())), token.parse());
    }

    proptest! {
        #[test]
        fn every_token_comes_back(id: [u8; 5], secret: [u8; 32], ca_fingerprint: [u8; 32]) {
            let token = Token { id: encode(&id), secret, ca_fingerprint };
            let text = token.to_string();
            prop_assert_eq!(text.parse(), Ok(token));
            for n in 0..text.len() {
                prop_assert!(text[..n].parse::<Token>().is_err(), "cut at {}", n);
            }
        }

        #[test]
        fn a_changed_character_is_found(secret: [u8; 32], at in 0usize..124, to in 0usize..32) {
            let token = Token { id: encode(&[1; 5]), secret, ca_fingerprint: [9; 32] };
            let mut text = token.to_string().into_bytes();
            let at = at % text.len();
            let before = std::mem::replace(&mut text[at], ALPHABET[to]);
            let text = String::from_utf8(text).unwrap();
            // One in 2^25 changes would go unseen; proptest's few are not expected to be it.
            prop_assert_eq!(text.parse::<Token>().is_ok(), before == ALPHABET[to], "{}", text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*|krg1\\.[a-z2-7.]{0,200}|krg1\\.\\PC*") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_string(), text.trim().to_ascii_lowercase());
            }
        }
    }
}
