//! The tree that is uploaded: where it comes from, its list of paths and digests, what of it a host
//! already has, and the stream that carries the rest.
//!
//! [`source`] gives a folder on this machine → [`tree`] reads it into a [`Manifest`] → [`difference`] with
//! the manifest a host has, [`patch`] for large files of which only a part changed → [`pack`] streams what is
//! missing, very large files as [`piece`]s, compressed ([`coding`]) while the stream waits for its link, and made once for hosts that need the same
//! ([`Shared`]). In the same way [`image`] reads an archive of container images and [`load`] streams the layers that a host
//! lacks. Deliberately absent: hosts (`session`), and what is done with the stream there (`step`).

mod broadcast;
pub mod chunk;
pub mod coding;
pub mod difference;
mod digest;
pub mod image;
#[cfg(test)]
pub mod image_samples;
pub mod known;
mod links;
pub mod lists;
pub mod load;
pub mod manifest;
pub mod memory;
pub mod pack;
pub mod patch;
pub mod path;
pub mod pattern;
pub mod piece;
mod scan;
pub mod source;
mod stream;
pub mod tree;
mod walk;

pub use broadcast::{Room, Shared};
pub use chunk::Chunks;
pub use coding::Coding;
pub use difference::{Difference, difference};
pub use image::Archive;
pub use load::Load;
pub use manifest::{Entry, Kind, Manifest};
pub use memory::MemoryFile;
pub use pack::{Packing, Parts};
pub use patch::Patch;
pub use pattern::check_pattern;
pub use piece::Piece;
pub use scan::{Part, ScanOptions, scan, unwritable};
pub use stream::{Body, Tally};
pub use tree::{Tree, TreeProblem};

#[cfg(test)]
mod round_trip;
