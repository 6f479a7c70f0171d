//! The tree that is uploaded: where it comes from, its list of paths and digests, what of it a host
//! already has, and the stream that carries the rest.
//!
//! [`source`] gives a folder on this machine → [`tree`] reads it into a [`Manifest`] → [`difference`] with
//! the manifest a host has → [`pack`] streams what is missing. Deliberately absent: hosts (`session`),
//! and what is done with the stream there (`step`).

pub mod difference;
pub mod manifest;
pub mod memory;
pub mod pack;
pub mod path;
pub mod source;
pub mod tree;

pub use difference::{Difference, difference};
pub use manifest::{Entry, Kind, Manifest};
pub use memory::MemoryFile;
pub use pack::Packing;
pub use tree::{Part, ScanOptions, Tree, TreeProblem, scan};
