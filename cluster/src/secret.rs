//! New random keys.

use crate::fingerprint;
use ring::rand::{SecureRandom, SystemRandom};

/// 32 new random bytes, as hexadecimal text. Empty if the system has no randomness: nothing takes
/// that for a key.
pub fn new_key_text() -> String {
    let mut key = [0; 32];
    match SystemRandom::new().fill(&mut key) {
        Ok(()) => fingerprint::to_hex(&key),
        Err(_) => String::new(),
    }
}
