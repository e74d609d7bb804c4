//! Which permissions a new file does not get: umask(2).

use nix::sys::stat::{Mode, umask};

/// Sets the mask and returns what it was. It is the calling thread's own only after
/// `ns::unshare_fs_of_thread`; before, all threads of the process share one.
pub fn set_thread_umask(mask: u32) -> u32 {
    umask(Mode::from_bits_truncate(mask)).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_a_mask_of_its_own() {
        let own = |mask| {
            crate::ns::unshare_fs_of_thread().unwrap();
            set_thread_umask(mask);
            std::env::set_current_dir("/").unwrap();
        };
        let before = std::env::current_dir().unwrap();
        std::thread::spawn(move || own(0o123)).join().unwrap();
        let seen = std::thread::spawn(move || {
            own(0o77);
            set_thread_umask(0)
        });
        assert_eq!(seen.join().unwrap(), 0o77);
        assert_eq!(std::env::current_dir().unwrap(), before);
        let inherited = std::thread::spawn(|| {
            crate::ns::unshare_fs_of_thread().unwrap();
            set_thread_umask(0)
        });
        assert_ne!(inherited.join().unwrap(), 0o123);
    }
}
