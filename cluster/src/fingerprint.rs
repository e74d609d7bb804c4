//! Fingerprints: how certificates are told apart, by machines and by people who compare them.

use std::fmt::Write;

/// The SHA-256 of a certificate's DER.
pub fn of(der: &[u8]) -> [u8; 32] {
    krg_rpc::tls::fingerprint(der)
}

/// As 64 hexadecimal digits.
pub fn to_hex(fingerprint: &[u8; 32]) -> String {
    fingerprint.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// From 64 hexadecimal digits; `None` if it is anything else.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect();
    if digits.len() != 64 { None } else { bytes.try_into().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_back() {
        let print = of(b"a");
        assert!(to_hex(&print).starts_with("ca978112ca1bbdcafac231b39a23dc4d"));
        assert_eq!(from_hex(&to_hex(&print)), Some(print));
        let long = "0".repeat(65);
        for bad in ["", "ca", &long, &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
