//! Where the workspace and the lab's files are.

use std::path::{Path, PathBuf};

use crate::failure::{During as _, Failure, Result};

/// The folder with the workspace's `Cargo.toml`: the parent of this crate's folder.
pub fn root() -> Result<PathBuf> {
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map(Path::to_path_buf).ok_or_else(|| Failure::new(format!("{} has no parent folder.", own.display())))
}

/// The folder of the lab's keys, settings and logs: `SHIP_LAB_DIR`, or `target/lab`. It is made when it is missing.
pub fn lab() -> Result<PathBuf> {
    let folder = match std::env::var_os("SHIP_LAB_DIR") {
        Some(chosen) => PathBuf::from(chosen),
        None => root()?.join("target").join("lab"),
    };
    std::fs::create_dir_all(&folder).during(format_args!("make the folder {}", folder.display()))?;
    folder.canonicalize().during(format_args!("resolve {}", folder.display()))
}
