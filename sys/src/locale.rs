//! How text is written where this process runs: setlocale(3), wcwidth(3), iswprint(3).

use libc::{c_int, wchar_t};
use std::sync::OnceLock;

unsafe extern "C" {
    safe fn wcwidth(character: wchar_t) -> c_int;
    safe fn iswprint(character: libc::c_uint) -> c_int;
}

/// Is text UTF-8, as the environment says (LC_ALL, LC_CTYPE, LANG)? The first call takes up that
/// locale for the whole process.
pub fn is_utf8() -> bool {
    static UTF8: OnceLock<bool> = OnceLock::new();
    *UTF8.get_or_init(|| {
        // SAFETY: the text ends with a zero; what is returned is not kept. Only one thread calls.
        unsafe { libc::setlocale(libc::LC_CTYPE, c"".as_ptr()) };
        // SAFETY: the text that is returned is the C library's, and ends with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(libc::nl_langinfo(libc::CODESET)) };
        name.to_bytes().eq_ignore_ascii_case(b"UTF-8")
    })
}

/// The cells that a character takes on a terminal; `None`: it cannot be shown.
pub fn cells(character: char) -> Option<usize> {
    let code = u32::from(character);
    if !is_utf8() || iswprint(code) == 0 {
        return None;
    }
    let cells = wchar_t::try_from(code).map_or(0, |code| wcwidth(code));
    Some(usize::try_from(cells).unwrap_or(0))
}
