//! Reading a kernel's text that may be anybody's bytes.

/// Appends formatted text to a `Vec<u8>`, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = write!($out, $($arg)*);
    }};
}
pub(crate) use put;

/// Longest name of a line or field that is taken from a node, bytes.
pub(crate) const NAME_MAX: usize = 64;

/// The lines that hold something, without their newline.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

/// The numbers at the start of a line, up to the first word that is none.
pub(crate) fn numbers(line: &[u8]) -> impl Iterator<Item = u64> {
    words(line).map_while(number)
}

/// A plain decimal number of at most 20 digits; one above 2^64 counts as the highest.
pub(crate) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 20 {
        return None;
    }
    word.iter().try_fold(0u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        Some(n.saturating_mul(10).saturating_add(digit))
    })
}

/// A decimal fraction such as `12.34`, in hundredths; more digits are cut off.
pub(crate) fn hundredths(word: &[u8]) -> Option<u64> {
    let (whole, fraction) = split_at_byte(word, b'.')?;
    let digit = |at: usize| match fraction.get(at) {
        Some(b) if b.is_ascii_digit() => Some(u64::from(b - b'0')),
        Some(_) => None,
        None => Some(0),
    };
    let fraction = digit(0)? * 10 + digit(1)?;
    Some(number(whole)?.saturating_mul(100).saturating_add(fraction))
}

/// What is before and after the first such byte.
pub(crate) fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The first word of a line, and what follows it.
pub(crate) fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    line.split_at(end)
}

/// Could a kernel have named a line, a device or a field so?
pub(crate) fn is_name(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

/// Adds number by number; the shorter list counts as continued with zeros.
pub(crate) fn add_each(sums: &mut Vec<u64>, numbers: impl Iterator<Item = u64>) {
    for (i, n) in numbers.enumerate() {
        match sums.get_mut(i) {
            Some(sum) => *sum = sum.saturating_add(n),
            None => sums.push(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_and_bounded() {
        assert_eq!(number(b"0012"), Some(12));
        assert_eq!(number(b"99999999999999999999"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1x", b"999999999999999999999"] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(hundredths(b"12.345"), Some(1234));
        assert_eq!(hundredths(b"0.5"), Some(50));
        assert_eq!(hundredths(b"7."), Some(700));
        for bad in [&b"7"[..], b".5", b"1.x", b"1,5"] {
            assert_eq!(hundredths(bad), None);
        }
    }

    #[test]
    fn lists_of_unequal_length_add_up() {
        let mut sums = vec![1, u64::MAX];
        add_each(&mut sums, [1, 1, 7].into_iter());
        assert_eq!(sums, [2, u64::MAX, 7]);
    }
}
