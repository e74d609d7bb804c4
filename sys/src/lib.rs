//! The kernel: one file per kernel interface, each a safe wrapper. The only crate with `unsafe`.

#![allow(unsafe_code)]

pub mod clock;
pub mod cred;
pub mod feature;
pub mod mount;
pub mod ns;
pub mod process;
pub mod procfs;
pub mod seccomp;
