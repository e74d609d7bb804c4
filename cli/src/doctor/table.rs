//! The findings as a table with aligned columns.

use super::check::{Check, Level};

const HEAD: [&str; 4] = ["CHECK", "STATE", "WHAT", "MEND"];

/// The table, one line a check, with a last line that sums up.
pub fn render(checks: &[Check], colour: bool) -> String {
    let rows: Vec<[&str; 4]> =
        checks.iter().map(|c| [&*c.check, c.level.word(), &*c.what, &*c.mend]).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = line(&HEAD, &widths, None);
    for (row, check) in rows.iter().zip(checks) {
        out += &line(row, &widths, colour.then(|| paint(check.level)).flatten());
    }
    out + &sum(checks)
}

/// One line; `paint` is put around the second cell, after it was padded.
fn line(row: &[&str; 4], widths: &[usize; 4], paint: Option<&str>) -> String {
    let mut out = String::new();
    for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let padded = format!("{cell:<width$}  ");
        match paint {
            Some(code) if column == 1 => out += &format!("\x1b[{code}m{padded}\x1b[0m"),
            _ => out += &padded,
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn paint(level: Level) -> Option<&'static str> {
    match level {
        Level::Ok => Some("32"),
        Level::Info => None,
        Level::Masked => Some("36"),
        Level::Warn => Some("33"),
        Level::Fail => Some("1;31"),
    }
}

fn sum(checks: &[Check]) -> String {
    let count = |level| checks.iter().filter(|c| c.level == level).count();
    match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "Nothing is lacking.\n".to_owned(),
        (0, warn) => format!("krg can run; {warn} to look at.\n"),
        (fail, warn) => format!("krg cannot run: {fail} to mend, {warn} more to look at.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let checks = [
            Check::ok("fuse", "/dev/fuse opens"),
            Check::fail("user-namespaces", "none", "sysctl -w a=b"),
        ];
        let wanted = "\
CHECK            STATE  WHAT             MEND
fuse             ok     /dev/fuse opens
user-namespaces  fail   none             sysctl -w a=b
krg cannot run: 1 to mend, 0 more to look at.
";
        assert_eq!(render(&checks, false), wanted);
    }

    #[test]
    fn colour_does_not_move_the_columns() {
        let checks = [Check::warn("a", "b", "c"), Check::ok("d", "e")];
        let plain = render(&checks, false);
        let mut stripped = render(&checks, true);
        assert!(stripped.contains("\x1b[33mwarn   \x1b[0m"));
        for code in ["\x1b[33m", "\x1b[32m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
        assert!(plain.ends_with("krg can run; 1 to look at.\n"));
    }

    #[test]
    fn a_sound_machine_is_told_so() {
        assert!(render(&[Check::ok("a", "b")], false).ends_with("Nothing is lacking.\n"));
    }
}
