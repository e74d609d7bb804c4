//! The kernel: one file per kernel interface, each a safe wrapper. The only crate with `unsafe`.

#![allow(unsafe_code)]

pub mod caller;
pub mod clock;
pub mod cred;
pub mod criu;
pub mod dirents;
pub mod fanotify;
pub mod fd_passing;
pub mod feature;
pub mod file_handle;
pub mod file_lock;
pub mod file_times;
pub mod fuse_device;
pub mod locale;
pub mod mount;
pub mod names;
pub mod ns;
pub mod open_file;
pub mod pages;
pub mod priority;
pub mod process;
pub mod procfs;
pub mod seccomp;
pub mod statx;
pub mod sysv;
pub mod tty;
pub mod umask;
pub mod utab;
pub mod xattr;

#[cfg(test)]
mod testing;
