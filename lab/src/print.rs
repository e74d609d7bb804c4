//! Writing to standard output.

use std::io::Write;

/// Prints a text. A reader that has read enough (`krg lab list | head -1`) is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
