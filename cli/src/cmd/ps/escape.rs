//! Texts of processes as ps writes them: nothing in them steers a terminal.

use krg_sys::locale;

/// The longest text that ps reads of a process, and the longest line it writes, bytes.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| (b' '..=b'~').contains(b))
}

/// A text as ps takes it in: what cannot be printed becomes `?`, and where text is not UTF-8 `.`.
pub fn taken_in(mut text: Vec<u8>) -> Vec<u8> {
    if is_plain(&text) {
        return text;
    }
    let mut at = 0;
    while locale::is_utf8() && at < text.len() {
        let length = match text[at] {
            0..=0x7f => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => break,
        };
        if at + length > text.len() {
            break;
        }
        if text[at].is_ascii_control() {
            text[at] = b'?';
        }
        at += length;
    }
    // From what is no UTF-8 on.
    for byte in &mut text[at..] {
        match *byte {
            0..=0x1f | 0x7f => *byte = b'.',
            0x80.. => *byte = b'?',
            _ => {}
        }
    }
    text
}

/// Writes as much of a text as there is room for; says how many cells that took.
pub fn put(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    let short = &text[..text.len().min(room)];
    if is_plain(short) {
        out.extend_from_slice(short);
        return short.len();
    }
    let start = out.len();
    let (mut rest, mut used) = (text, 0);
    while let Some(first) = rest.first()
        && used < room
        && out.len() - start < TEXT_BYTES_MAX
    {
        let (length, character) = decoded(rest, *first);
        match character.map(|c| (c, locale::cells(c))) {
            Some((c, Some(_))) if c.is_ascii() => out.push(*first),
            Some((_, Some(cells))) => {
                if cells > room - used {
                    break;
                }
                out.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
                used += cells;
                continue;
            }
            // As in a locale without any more than ASCII.
            _ if (b' '..=b'~').contains(first) => out.push(*first),
            _ => out.push(if first.is_ascii() && !locale::is_utf8() { b'.' } else { b'?' }),
        }
        rest = &rest[length..];
        used += 1;
    }
    used
}

/// The first character, if it is one where text is UTF-8, and its bytes.
fn decoded(text: &[u8], first: u8) -> (usize, Option<char>) {
    let length = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let whole = text.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match whole.and_then(|text| text.chars().next()).filter(|_| locale::is_utf8()) {
        Some(c) => (length, Some(c)),
        None => (1, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &[u8], room: usize) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        let cells = put(&mut out, &taken_in(text.to_vec()), room);
        (out, cells)
    }

    #[test]
    fn room_is_kept() {
        assert_eq!(shown(b"sleep 100", 5), (b"sleep".to_vec(), 5));
        assert_eq!(shown(b"sleep", 50), (b"sleep".to_vec(), 5));
        assert_eq!(shown(b"", 5), (Vec::new(), 0));
    }

    proptest! {
        #[test]
        fn nothing_steers_a_terminal(
            text in proptest::collection::vec(any::<u8>(), 0..80),
            room in 0usize..60,
        ) {
            let (out, cells) = shown(&text, room);
            prop_assert!(cells <= room);
            prop_assert!(!out.iter().any(u8::is_ascii_control));
            let text = String::from_utf8(out);
            prop_assert!(text.is_ok_and(|text| !text.chars().any(char::is_control)));
        }
    }
}
