//! Jobs that are saved to disk while they run, and begun again from there. What is saved of one is
//! its application, and each time is a version: a directory that is there whole, or not at all.

pub mod boundary;
pub mod files;
pub mod frost;
pub mod host;
pub mod manifest;
mod offer;
pub mod restart;
pub mod save;
pub mod shelf;
mod writer;
