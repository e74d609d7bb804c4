//! How values of the tables are written: texts that drive no terminal, sizes, times, bars.

use unicode_width::UnicodeWidthStr;

/// A text of somebody else's as a terminal may have it: what is no character, or would drive the
/// terminal, or would turn round or hide what stands beside it, is written as an escape.
pub fn clean(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hostile(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Control characters; marks that change the direction; what has no width of its own.
fn is_hostile(c: char) -> bool {
    let no_text = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || no_text
}

/// A command line: its words with spaces between them; of who has none its name in brackets, as
/// ps(1) has it.
pub fn command(comm: &[u8], cmdline: &[u8]) -> String {
    let end = cmdline.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    if end == 0 {
        return format!("[{}]", clean(comm));
    }
    let words: Vec<u8> = cmdline[..end].iter().map(|b| if *b == 0 { b' ' } else { *b }).collect();
    clean(&words)
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text in exactly so many columns: cut, with a `+` where something is missing, or padded.
pub fn fit(text: &str, columns: usize) -> String {
    let wide = width(text);
    if wide <= columns {
        return format!("{text}{}", " ".repeat(columns - wide));
    }
    let mut cut = take(text, columns.saturating_sub(1)).to_owned();
    cut.push_str(&"+".repeat(columns.min(1)));
    let wide = width(&cut);
    cut + &" ".repeat(columns.saturating_sub(wide))
}

/// The same, at the right.
pub fn fit_right(text: &str, columns: usize) -> String {
    let wide = width(text);
    if wide <= columns {
        format!("{}{text}", " ".repeat(columns - wide))
    } else {
        fit(text, columns)
    }
}

/// As much of a text's begin as these columns hold.
pub fn take(text: &str, columns: usize) -> &str {
    // Most are short and plain.
    if text.len() <= columns {
        return text;
    }
    let mut wide = 0;
    for (at, c) in text.char_indices() {
        wide += unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if wide > columns {
            return &text[..at];
        }
    }
    text
}

/// A text without its first columns.
pub fn skip(text: &str, columns: usize) -> &str {
    &text[take(text, columns).len()..]
}

/// A size in at most five columns: `0`, `812K`, `20.4M`, `3.71G`.
pub fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    let units = ["K", "M", "G", "T", "P", "E"];
    let (mut value, mut unit) = (kib, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let unit = units[unit];
    match value {
        0.0 => "0".into(),
        v if v >= 99.95 || unit == "K" => format!("{v:.0}{unit}"),
        v if v >= 9.995 => format!("{v:.1}{unit}"),
        v => format!("{v:.2}{unit}"),
    }
}

/// A processor time: `0:07.25`, `312:07.1`, `91h07:12`, `12d07h`.
pub fn time(ticks: u64, ticks_per_s: u32) -> String {
    let hundredths = u128::from(ticks) * 100 / u128::from(ticks_per_s.max(1));
    let hundredths = u64::try_from(hundredths).unwrap_or(u64::MAX);
    let (s, h) = (hundredths / 100, hundredths % 100);
    match s {
        0..6_000 => format!("{}:{:02}.{h:02}", s / 60, s % 60),
        6_000..86_400 => format!("{}h{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// How long ago, in few columns: `0.3s`, `12s`, `5m`, `3h`, `2d`.
pub fn age(ms: u64) -> String {
    match ms {
        0..9_950 => format!("{:.1}s", ms as f64 / 1e3),
        9_950..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// A share in percent in at most five columns.
pub fn percent(value: f64) -> String {
    if value >= 999.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A share of a bar's columns; something is seen of what is more than nothing.
pub fn filled(share: f64, columns: usize) -> usize {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let cells = (share * columns as f64).round() as usize;
    if share >= 0.005 { cells.max(1).min(columns) } else { cells }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(clean(b"a\x1b[31m\tb\xff\n"), "a\\u{1b}[31m\\tb\\xff\\n");
        assert_eq!(
            clean("ü日本\u{202e}x\u{200b}\u{9b}".as_bytes()),
            "ü日本\\u{202e}x\\u{200b}\\u{9b}"
        );
        assert_eq!(command(b"kthreadd", b""), "[kthreadd]");
        assert_eq!(command(b"x", b"\0\0"), "[x]");
        assert_eq!(command(b"sh", b"sh\0-c\0echo  1\0\0"), "sh -c echo  1");
    }

    #[test]
    fn columns_are_kept() {
        assert_eq!((fit("abc", 5), fit("abcdef", 5)), ("abc  ".into(), "abcd+".into()));
        assert_eq!((fit("日本語", 4), fit("日本語", 5)), ("日+ ".into(), "日本+".into()));
        assert_eq!((fit_right("7", 3), fit("abc", 0)), ("  7".into(), String::new()));
        assert_eq!((take("日本語", 3), skip("日本語", 2)), ("日", "本語"));
    }

    #[test]
    fn values_are_short() {
        let sizes = [0, 1 << 10, 812 << 10, 1023 << 10, 21_390_950, 3_983_000_000, u64::MAX];
        assert_eq!(sizes.map(size), ["0", "1K", "812K", "1.00M", "20.4M", "3.71G", "16.0E"]);
        assert_eq!(time(725, 100), "0:07.25");
        assert_eq!(time(u64::MAX, 0), "2135039823346d00h");
        assert_eq!(
            [6_000, 599_999, 8_640_000].map(|t| time(t, 100)),
            ["1:00.00", "99:59.99", "1d00h"]
        );
        assert_eq!([320, 12_000, 600_000].map(age), ["0.3s", "12s", "10m"]);
        assert_eq!([filled(0.004, 10), filled(0.01, 10), filled(2.0, 10)], [0, 1, 10]);
        assert_eq!([filled(f64::NAN, 10), filled(0.5, 0)], [0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_harmless_line(bytes: Vec<u8>, columns in 0usize..40) {
            let text = clean(&bytes);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(width(&fit(&text, columns)), columns);
        }
    }
}
