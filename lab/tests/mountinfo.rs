//! The kernel's list of mounts is read as it was written, whatever the names are.

use krg_sys::mount::parse_mountinfo;
use proptest::prelude::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// How the kernel writes a path: blanks and backslashes as octal digits.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for b in path {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend(format!("\\{b:03o}").bytes()),
            other => out.push(*other),
        }
    }
    out
}

proptest! {
    #[test]
    fn paths_go_there_and_back(
        path in proptest::collection::vec(1u8..=255, 1..40),
        optional in proptest::collection::vec("(shared|master):[0-9]{1,3}", 0..3),
    ) {
        let mut line = b"36 35 98:0 / ".to_vec();
        line.extend(escape(&path));
        line.extend(b" rw,noatime ");
        for field in optional {
            line.extend(field.bytes());
            line.push(b' ');
        }
        line.extend(b"- ext4 /dev/sda1 rw\n");
        let all = parse_mountinfo(&line);
        prop_assert_eq!(all.len(), 1);
        prop_assert_eq!(&all[0].mount_point, &PathBuf::from(OsString::from_vec(path)));
        prop_assert_eq!(all[0].fs_type.as_str(), "ext4");
    }

    #[test]
    fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_mountinfo(&text);
    }
}
