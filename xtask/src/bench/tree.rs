//! The trees that are deployed: made once from a fixed sequence of numbers, then changed a little before each round.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::{During as _, Result};

/// Which tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// 1,400 files, 31 MB.
    Site,
    /// 100,000 small files.
    Many,
    /// One file of 1 GiB.
    Large,
}

/// Where the page is that says which version of the tree this is.
pub const VERSION: &str = "public/version.txt";

/// The program that the job runs in the release.
const AFTER_UPLOAD: &str =
    "#!/bin/sh\n# Stands for what a release needs before it can serve.\nwc -c public/version.txt > built.txt\n";

/// Marks a tree as complete; its number changes when what is made does.
const COMPLETE: &str = "complete-2";

const MIB: u64 = 1024 * 1024;

impl Tree {
    fn name(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Many => "many",
            Self::Large => "large",
        }
    }

    /// Its folder below this one.
    pub fn folder(self, trees: &Path) -> PathBuf {
        trees.join(self.name())
    }

    /// Makes it unless it is there.
    pub fn ensure(self, trees: &Path) -> Result<()> {
        let complete = trees.join(format!("{}.{COMPLETE}", self.name()));
        if complete.is_file() {
            return Ok(());
        }
        let folder = self.folder(trees);
        println!("Making the tree {}.", folder.display());
        let made = self.make(&folder).and_then(|()| fs::write(&complete, ""));
        made.during(format_args!("make the tree {}", folder.display()))
    }

    fn make(self, folder: &Path) -> std::io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        for inner in ["public", "bin"] {
            fs::create_dir_all(folder.join(inner))?;
        }
        fs::write(folder.join("bin/after-upload"), AFTER_UPLOAD)?;
        fs::write(folder.join(VERSION), "0\n")?;
        for file in self.files() {
            let path = folder.join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            write_file(&path, file.size, file.seed)?;
        }
        Ok(())
    }

    /// What it holds, apart from the two small files that every tree has.
    fn files(self) -> Vec<Planned> {
        match self {
            Self::Site => (0..1398_u64)
                .map(|index| Planned {
                    path: format!("app/part{:02}/file{index:04}.js", index % 40),
                    // A few large ones hold a third of it all, as in most projects.
                    size: if index % 70 == 0 { 500 * 1024 } else { 2_000 + (index * 7919) % 26_000 },
                    seed: index + 1,
                })
                .collect(),
            Self::Many => (0..99_998_u64)
                .map(|index| Planned {
                    path: format!("app/part{:03}/file{index:05}.txt", index % 1000),
                    size: 50 + (index * 7919) % 700,
                    seed: index + 1,
                })
                .collect(),
            Self::Large => vec![Planned { path: "data/large".to_owned(), size: 1024 * MIB, seed: 1 }],
        }
    }

    /// Changes what each round changes, and returns what the version page says from then on. `round` never comes twice.
    pub fn change(self, trees: &Path, round: u64) -> Result<String> {
        let folder = self.folder(trees);
        let version = format!("{round}\n");
        let changed = match self {
            Self::Site => self.rewrite(&folder, 107, round),
            Self::Many => self.rewrite(&folder, 11_000, round),
            Self::Large => change_middle(&folder.join("data/large"), round),
        };
        let changed = changed.and_then(|()| fs::write(folder.join(VERSION), &version));
        changed.during(format_args!("change the tree {}", folder.display()))?;
        Ok(version)
    }

    /// Gives every so manyth file other contents of the same size.
    fn rewrite(self, folder: &Path, every: usize, round: u64) -> std::io::Result<()> {
        for file in self.files().iter().step_by(every) {
            write_file(&folder.join(&file.path), file.size, file.seed + round * 1_000_003)?;
        }
        Ok(())
    }
}

struct Planned {
    path: String,
    size: u64,
    seed: u64,
}

/// Writes a file of which a good half is words, and the rest has no pattern. Large files have none at all.
fn write_file(path: &Path, size: u64, seed: u64) -> std::io::Result<()> {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut file = BufWriter::new(File::create(path)?);
    let mut left = size;
    while left > 0 {
        let number = numbers.next();
        let words: &[u8] = match (size < MIB, number % 8) {
            (true, 0) => b"export function render(",
            (true, 1) => b"return this.state.items;\n",
            (true, 2) => b"const value = ",
            _ => &number.to_le_bytes(),
        };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(words.len());
        file.write_all(words.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    file.flush()
}

/// Writes 1 MiB of other bytes into the middle, in place.
fn change_middle(path: &Path, round: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(512 * MIB))?;
    let mut numbers = Numbers(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let bytes: Vec<u8> = (0..MIB / 8).flat_map(|_| numbers.next().to_le_bytes()).collect();
    file.write_all(&bytes)
}

/// Marsaglia's xorshift: the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{MIB, Tree};

    #[test]
    fn trees_have_the_sizes_that_the_table_names() {
        let of = |tree: Tree| (tree.files().len() + 2, tree.files().iter().map(|file| file.size).sum::<u64>());
        let (count, bytes) = of(Tree::Site);
        assert!(count == 1400 && (30_500_000..31_500_000).contains(&bytes), "{count} files, {bytes} bytes");
        assert_eq!(of(Tree::Many).0, 100_000);
        assert_eq!(of(Tree::Large).1, 1024 * MIB);
    }

    #[test]
    fn one_file_in_a_hundred_is_changed() {
        let changed = |tree: Tree, every| tree.files().iter().step_by(every).count() + 1;
        assert_eq!(changed(Tree::Site, 107), 15);
        assert_eq!(changed(Tree::Many, 11_000), 11);
    }
}
