//! What of /proc/PID/stat only those may see who may trace the process.

/// Fields of proc_pid_stat(5) marked [PT], with what the kernel writes for all others
/// (fs/proc/array.c, do_task_stat): addresses of the process's memory and its wait channel.
const HIDDEN: [(usize, &[u8]); 13] = [
    (26, b"1"),
    (27, b"1"),
    (28, b"0"),
    (29, b"0"),
    (30, b"0"),
    (35, b"0"),
    (45, b"0"),
    (46, b"0"),
    (47, b"0"),
    (48, b"0"),
    (49, b"0"),
    (50, b"0"),
    (51, b"0"),
];
/// The exit code, likewise, is the last field.
const EXIT_CODE: usize = 52;

/// The text as somebody sees it who may not trace the process.
pub fn hide(stat: &[u8]) -> Vec<u8> {
    // A name may hold a `)`; what follows it never does.
    let Some(name_end) = stat.iter().rposition(|b| *b == b')') else { return Vec::new() };
    let (head, fields) = stat.split_at(name_end + 1);
    let mut out = head.to_vec();
    let fields = fields.strip_suffix(b"\n").unwrap_or(fields);
    // What follows the name begins with a blank, then field 3.
    for (i, field) in fields.split(|b| *b == b' ').enumerate() {
        let number = i + 2;
        if i > 0 {
            out.push(b' ');
        }
        let hidden = HIDDEN.iter().find(|(n, _)| *n == number).map(|(_, text)| *text);
        // A kernel thread has no memory, and its zeros stay.
        let zero = field == b"0" || number == EXIT_CODE;
        out.extend_from_slice(if zero { b"0" } else { hidden.unwrap_or(field) });
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::hide;

    #[test]
    fn addresses_are_hidden_and_nothing_else() {
        let fields: Vec<String> = (4..=52).map(|n| format!("9{n:02}")).collect();
        let stat = format!("7 (a) (b c) S {}\n", fields.join(" "));
        let shown = String::from_utf8(hide(stat.as_bytes())).unwrap();
        assert!(shown.starts_with("7 (a) (b c) S 904 905"), "{shown}");
        let words: Vec<&str> = shown.trim_end().rsplit(' ').collect();
        assert_eq!(words[0], "0", "exit code");
        assert_eq!((words[52 - 51], words[52 - 45], words[52 - 44]), ("0", "0", "944"));
        assert_eq!((words[52 - 26], words[52 - 28], words[52 - 35]), ("1", "0", "0"));
        assert_eq!((words[52 - 25], words[52 - 31], words[52 - 34]), ("925", "931", "934"));
    }

    #[test]
    fn what_is_no_stat_is_hidden_whole() {
        assert!(hide(b"7 no name").is_empty());
    }
}
