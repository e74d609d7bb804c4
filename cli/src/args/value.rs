//! Single values of the command line: read strictly, with an error that says what would be right.

use krg_types::limits::{
    ADDRESS_BYTES_MAX, CLUSTER_NAME_BYTES_MAX, CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX,
    NAME_BYTES_MAX, NOTE_BYTES_MAX, TOKEN_MS_MAX,
};
use std::net::Ipv6Addr;

/// Where krgd listens unless told otherwise.
const PORT: u16 = 7600;
/// A token is longer: its secret and the authority's fingerprint alone have 16 bytes or more.
const TOKEN_BYTES_MIN: usize = 40;
/// A token is shorter: it fits a line.
const TOKEN_BYTES_MAX: usize = 512;

/// `90s`, `15m`, `24h`, `7d` in milliseconds; more than nothing.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || "a number and s, m, h or d, such as 90s, 15m, 24h or 7d".to_owned();
    let (digits, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or_else(wrong)?;
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    ms.filter(|ms| *ms > 0).ok_or_else(wrong)
}

/// How long a token is good for, ms.
pub fn token_ms(text: &str) -> Result<u64, String> {
    let ms = duration_ms(text)?;
    let days = TOKEN_MS_MAX / 86_400_000;
    (ms <= TOKEN_MS_MAX).then_some(ms).ok_or(format!("a token is good for {days}d at most"))
}

/// How long a request may take, ms.
pub fn timeout_ms(text: &str) -> Result<u32, String> {
    u32::try_from(duration_ms(text)?).map_err(|_| "49d at most".into())
}

/// A cluster's name.
pub fn cluster_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > CLUSTER_NAME_BYTES_MAX || !text.chars().all(plain) {
        let max = CLUSTER_NAME_BYTES_MAX;
        return Err(format!("1 to {max} letters, digits, `-`, `_` and `.`"));
    }
    Ok(text.into())
}

/// A key of the configuration.
pub fn key(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(format!("a key has 1 to {CONFIG_KEY_BYTES_MAX} bytes"));
    }
    prefix(text)
}

/// What keys begin with; nothing: all keys do.
pub fn prefix(text: &str) -> Result<String, String> {
    if text.len() > CONFIG_KEY_BYTES_MAX {
        let len = text.len();
        return Err(format!("a key has at most {CONFIG_KEY_BYTES_MAX} bytes, this one {len}"));
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(c) => Err(format!("a key has no spaces and no control characters, not {c:?}")),
        None => Ok(text.into()),
    }
}

/// A value of the configuration.
pub fn config_value(text: &str) -> Result<String, String> {
    let (len, max) = (text.len(), CONFIG_VALUE_BYTES_MAX);
    let fits = (len <= max).then(|| text.to_owned());
    fits.ok_or(format!("a value has at most {max} bytes, this one {len}"))
}

/// Words about a token.
pub fn note(text: &str) -> Result<String, String> {
    if text.len() > NOTE_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("one line of at most {NOTE_BYTES_MAX} bytes"));
    }
    Ok(text.into())
}

/// The public part of a token.
pub fn token_id(text: &str) -> Result<String, String> {
    if text.is_empty()
        || text.len() > NAME_BYTES_MAX
        || !text.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err("an ID as `krg cluster token list` prints it".into());
    }
    Ok(text.into())
}

/// A whole token, without the space around it. Only its length and characters are looked at.
pub fn token(text: &str) -> Result<String, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("the token is empty".into());
    }
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
        || !token.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(
            "that is no whole token: it is the one line that `krg cluster token create` \
                    prints, without spaces"
                .into(),
        );
    }
    Ok(token.into())
}

/// A node's address, with its port: `host`, `host:port`, `192.0.2.1:7600`, `[2001:db8::1]:7600`.
pub fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no address: HOST, HOST:PORT or [IPV6]:PORT");
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{PORT}"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or_else(wrong)?;
            ip.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (format!("[{ip}]"), if port.is_empty() { None } else { Some(port) })
        }
        None => {
            let (host, port) =
                text.split_once(':').map_or((text, None), |(h, _)| (h, Some(&text[h.len()..])));
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if host.is_empty() || !host.chars().all(plain) {
                return Err(wrong());
            }
            (host.to_owned(), port)
        }
    };
    let port = match port {
        None => PORT,
        Some(port) => {
            let digits = port.strip_prefix(':').ok_or_else(wrong)?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            let port = digits.parse::<u16>().ok().filter(|port| plain && *port > 0);
            port.ok_or_else(|| format!("`{digits}` is no port (1 to 65535)"))?
        }
    };
    let whole = format!("{host}:{port}");
    let fits = whole.len() <= ADDRESS_BYTES_MAX;
    fits.then_some(whole).ok_or(format!("an address has at most {ADDRESS_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("90s"), Ok(90_000));
        assert_eq!(duration_ms("15m"), Ok(900_000));
        assert_eq!(duration_ms("24h"), Ok(86_400_000));
        assert_eq!(duration_ms("7d"), Ok(7 * 86_400_000));
        for bad in ["", "s", "5", "0s", "-1h", "1.5h", "+1h", "1 h", "1w", "1hd", "é", "5é"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
        assert!(duration_ms("99999999999999999999d").is_err());
        assert!(duration_ms("9999999999999999d").is_err());
        assert_eq!(token_ms("30d"), Ok(TOKEN_MS_MAX));
        assert!(token_ms("31d").unwrap_err().contains("30d"));
        assert!(timeout_ms("50d").is_err());
    }

    #[test]
    fn addresses() {
        for (text, whole) in [
            ("n1", "n1:7600"),
            ("n1:80", "n1:80"),
            ("192.0.2.1", "192.0.2.1:7600"),
            ("2001:db8::1", "[2001:db8::1]:7600"),
            ("[::1]", "[::1]:7600"),
            ("[::1]:70", "[::1]:70"),
        ] {
            assert_eq!(address(text), Ok(whole.into()));
        }
        for bad in
            ["", ":1", "a:", "a:0", "a:65536", "a:b", "a b", "[::1", "[a]:1", "[::1]x", "a/b"]
        {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address(&"a".repeat(ADDRESS_BYTES_MAX)).is_err());
    }

    #[test]
    fn names_keys_and_notes() {
        assert_eq!(cluster_name("a-b_c.1"), Ok("a-b_c.1".into()));
        for bad in ["", "a b", "ü", "a/b", &"a".repeat(65)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
        assert!(key("a/b.c").is_ok() && prefix("").is_ok());
        for bad in ["", "a b", "a\n", "a\u{a0}b", &"k".repeat(257)] {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert!(config_value(&"v".repeat(8192)).is_ok());
        assert!(config_value(&"v".repeat(8193)).is_err());
        assert!(note("for the attic").is_ok());
        assert!(note("two\nlines").is_err() && note(&"n".repeat(257)).is_err());
    }

    #[test]
    fn half_a_token_is_none() {
        let whole = "k".repeat(64);
        assert_eq!(token(&format!(" {whole}\n")), Ok(whole.clone()));
        for bad in ["", " \n", &whole[..32], &format!("{whole} {whole}"), &"k".repeat(513)] {
            assert!(token(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
            let _ = (duration_ms(&text), address(&text), token(&text), key(&text));
            if let Ok(whole) = address(&text) {
                prop_assert_eq!(address(&whole), Ok(whole.clone()));
            }
        }
    }
}
