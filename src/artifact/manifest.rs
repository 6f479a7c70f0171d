//! The list of everything in a release: paths, modes, sizes and SHA-256.

use std::io::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::path;

/// The first line of the text, with the version of its format.
const FIRST_LINE: &[u8] = b"ship manifest 1\n";

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256 of the contents.
        sha256: [u8; 32],
        /// Permission bits (0777).
        mode: u32,
    },
    /// A directory.
    Directory {
        /// Permission bits; the owner can always write, or ship could not prune the release.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: Arc<[u8]>,
    },
}

/// One path of a release. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the release, any bytes but NUL, without empty, `.` or `..` components.
    pub path: Arc<[u8]>,
    /// What stands there.
    pub kind: Kind,
}

/// The entries of a release, sorted by the bytes of their paths, each path once, each in a directory that is an
/// entry too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the manifest: {reason}")]
pub struct ManifestError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Manifest {
    /// A manifest of `entries`, which are sorted, valid and complete: `tree` sees to it.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.path < b.path));
        Self { entries }
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The manifest without the files and symlinks whose path is `unwanted`.
    pub fn without(mut self, unwanted: impl Fn(&[u8]) -> bool) -> Self {
        self.entries.retain(|entry| matches!(entry.kind, Kind::Directory { .. }) || !unwanted(&entry.path));
        self
    }

    /// The entry at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(self.index(path)?)
    }

    /// The index of the entry at `path`.
    pub fn index(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| (*entry.path).cmp(path)).ok()
    }

    /// The number of files and symlinks.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| !matches!(entry.kind, Kind::Directory { .. })).count()
    }

    /// The sum of the files' sizes.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::size).fold(0, u64::saturating_add)
    }

    /// The text that stays on the host: `file MODE SIZE SHA256 PATH`, `dir MODE PATH` and
    /// `link PATH<TAB>TARGET`, odd bytes escaped.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text);
        text
    }

    pub(super) fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(FIRST_LINE);
        for entry in &self.entries {
            entry.write(text);
        }
    }

    /// About how long [`Manifest::to_bytes`] is.
    pub(super) fn text_length(&self) -> usize {
        let line = |entry: &Entry| match &entry.kind {
            Kind::File { .. } => 90,
            Kind::Directory { .. } => 10,
            Kind::Symlink { target } => 7 + target.len(),
        };
        self.entries.iter().map(|entry| line(entry) + entry.path.len()).sum()
    }

    /// Reads what [`Manifest::to_bytes`] wrote. The bytes come back from a host and may be anything.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wrong = |line: usize, reason| ManifestError { line, reason };
        let Some(rest) = bytes.strip_prefix(FIRST_LINE) else {
            return Err(wrong(1, "this is not a manifest that this version of ship can read"));
        };
        let mut manifest = Self::default();
        if rest.is_empty() {
            return Ok(manifest);
        }
        let Some(rest) = rest.strip_suffix(b"\n") else {
            return Err(wrong(bytes.split(|byte| *byte == b'\n').count(), "it was cut off"));
        };
        for (index, line) in rest.split(|byte| *byte == b'\n').enumerate() {
            let line_number = index + 2;
            let entry = Entry::read(line).ok_or(wrong(line_number, "it cannot be read"))?;
            path::check(&entry.path).map_err(|reason| wrong(line_number, reason))?;
            if manifest.entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(wrong(line_number, "it is out of order"));
            }
            let in_directory = path::parent(&entry.path).is_none_or(|folder| {
                // Most are beside the one before, whose folder is known.
                let beside = manifest.entries.last().is_some_and(|last| path::parent(&last.path) == Some(folder));
                beside || manifest.is_directory(folder)
            });
            if !in_directory {
                return Err(wrong(line_number, "the folder that it is in is missing"));
            }
            manifest.entries.push(entry);
        }
        Ok(manifest)
    }

    /// Whether `path` is a directory of the release.
    pub(super) fn is_directory(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|entry| matches!(entry.kind, Kind::Directory { .. }))
    }

    /// SHA-256 of [`Manifest::to_bytes`], in hexadecimal: the revision of a tree that has no commit.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new_with_prefix(FIRST_LINE);
        let mut line = Vec::new();
        for entry in &self.entries {
            line.clear();
            entry.write(&mut line);
            hash.update(&line);
        }
        hex(&hash.finalize())
    }

    /// The files for `sha256sum -c`, run in the release's folder; those whose index is `wanted`.
    ///
    /// A name with a newline or backslash is escaped as GNU coreutils does; BusyBox does not understand
    /// that ([`Manifest::has_escaped_sums`]).
    pub fn sums(&self, wanted: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut text = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let Kind::File { sha256, .. } = &entry.kind else { continue };
            if !wanted(index) {
                continue;
            }
            if needs_escape(&entry.path) {
                text.push(b'\\');
            }
            text.extend_from_slice(hex(sha256).as_bytes());
            text.extend_from_slice(b"  ");
            for byte in &path::named(&entry.path) {
                match byte {
                    b'\n' => text.extend_from_slice(br"\n"),
                    b'\\' => text.extend_from_slice(br"\\"),
                    byte => text.push(*byte),
                }
            }
            text.push(b'\n');
        }
        text
    }

    /// Whether [`Manifest::sums`] has names that only GNU's `sha256sum` reads back.
    pub fn has_escaped_sums(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.kind, Kind::File { .. }) && needs_escape(&entry.path))
    }
}

fn needs_escape(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'\n' | b'\\'))
}

impl Entry {
    /// The size of a file, 0 for others.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            Kind::Directory { .. } | Kind::Symlink { .. } => 0,
        }
    }

    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let name = path::escape(&self.path);
        // Writing to a Vec cannot fail.
        let _ = match &self.kind {
            Kind::File { size, sha256, mode } => writeln!(text, "file {mode:04o} {size} {} {name}", hex(sha256)),
            Kind::Directory { mode } => writeln!(text, "dir {mode:04o} {name}"),
            Kind::Symlink { target } => writeln!(text, "link {name}\t{}", path::escape(target)),
        };
    }

    fn read(line: &[u8]) -> Option<Self> {
        let (kind, rest) = field(line, b' ')?;
        let (name, kind) = match kind {
            b"file" => {
                let (mode, rest) = field(rest, b' ')?;
                let (size, rest) = field(rest, b' ')?;
                let (sha256, name) = field(rest, b' ')?;
                (name, Kind::File { size: number(size, 10)?, sha256: unhex(sha256)?, mode: read_mode(mode)? })
            }
            b"dir" => {
                let (mode, name) = field(rest, b' ')?;
                (name, Kind::Directory { mode: read_mode(mode)? })
            }
            b"link" => {
                let (name, target) = field(rest, b'\t')?;
                let target = path::unescape(target)?;
                let possible = !target.is_empty() && target.len() <= path::LONGEST && !target.contains(&0);
                (name, Kind::Symlink { target: possible.then(|| target.into())? })
            }
            _ => return None,
        };
        Some(Self { path: path::unescape(name)?.into(), kind })
    }
}

fn field(line: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == end)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` would take a sign.
    let digits = text.first().is_some_and(u8::is_ascii_digit);
    digits.then(|| u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok())?
}

fn read_mode(text: &[u8]) -> Option<u32> {
    number(text, 8).filter(|mode| *mode <= 0o777).and_then(|mode| u32::try_from(mode).ok())
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// What [`hex`] wrote of so many bytes.
pub(super) fn unhex<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = path::digit(*high)? << 4 | path::digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &[u8], size: u64) -> Entry {
        Entry { path: path.into(), kind: Kind::File { size, sha256: [0xa5; 32], mode: 0o640 } }
    }

    fn sample() -> Manifest {
        Manifest::new(vec![
            file(b"-rf", 3),
            file(b"a\nb\\c", 4),
            Entry { path: (*b"d").into(), kind: Kind::Directory { mode: 0o755 } },
            file(b"d/\xff", 5),
            Entry { path: (*b"l k").into(), kind: Kind::Symlink { target: (*b"d/\t x").into() } },
        ])
    }

    #[test]
    fn the_text_has_one_line_per_entry() {
        insta::assert_snapshot!(String::from_utf8(sample().to_bytes()).unwrap(), @r"
        ship manifest 1
        file 0640 3 a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 -rf
        file 0640 4 a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 a\x0ab\\c
        dir 0755 d
        file 0640 5 a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 d/\xff
        link l k	d/\x09 x
        ");
        assert_eq!(Manifest::parse(&sample().to_bytes()), Ok(sample()));
        assert_eq!((sample().files(), sample().bytes()), (4, 12));
        assert_eq!(sample().digest(), hex(&Sha256::digest(sample().to_bytes())));
    }

    #[test]
    fn what_a_release_cannot_hold_is_refused() {
        let sha = "00".repeat(32);
        for (body, reason) in [
            ("dir 0755 ..\n", "leads out"),
            ("dir 0755 /etc\n", "absolute"),
            ("link a\t/etc\ndir 0755 a/b\n", "folder that it is in"),
            ("dir 0755 b\ndir 0755 a\n", "out of order"),
            ("dir 0755 a\ndir 0755 a\n", "out of order"),
            ("dir 4755 a\n", "cannot be read"),
            ("dir +755 a\n", "cannot be read"),
            (&format!("file 0644 99999999999999999999 {sha} a\n"), "cannot be read"),
            ("file 0644 1 00 a\n", "cannot be read"),
            ("link a\t\n", "cannot be read"),
            ("dir 0755 a\\x00\n", "NUL"),
            ("\n", "cannot be read"),
            ("dir 0755 a", "cut off"),
        ] {
            let error = Manifest::parse(format!("ship manifest 1\n{body}").as_bytes()).unwrap_err();
            assert!(error.reason.contains(reason), "{body:?}: {error}");
        }
        assert_eq!(Manifest::parse(b"ship manifest 2\n").unwrap_err().line, 1);
        assert_eq!(Manifest::parse(b"ship manifest 1\n"), Ok(Manifest::default()));
    }

    #[test]
    fn sha256sum_reads_the_sums() {
        let folder = tempfile::tempdir().unwrap();
        let names = [&b"-rf"[..], b"a\nb", b"a\\b", b"cr\r x", b"c\xff"];
        let mut entries = Vec::new();
        for name in names {
            let contents = [name, b"!"].concat();
            std::fs::write(
                folder.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)),
                &contents,
            )
            .unwrap();
            let sha256 = Sha256::digest(&contents).into();
            entries.push(Entry { path: name.into(), kind: Kind::File { size: 1, sha256, mode: 0o644 } });
        }
        let manifest = Manifest::new(entries);
        assert!(manifest.has_escaped_sums());
        let list = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(list.path(), manifest.sums(|_| true)).unwrap();
        let output = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet"])
            .arg(list.path())
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    proptest! {
        #[test]
        fn parse_takes_anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
            let _ = Manifest::parse(&[FIRST_LINE, &bytes].concat());
        }

        #[test]
        fn what_parse_takes_is_written_back(lines in prop::collection::vec(
            "(dir 0[0-7]{3} |link |file 0644 [0-9]{1,22} (a5){32} )[a-c/.\\\\xnt0-9]{1,6}(\tt)?", 0..6,
        )) {
            let mut text = String::from("ship manifest 1\n");
            for line in &lines {
                text.push_str(line);
                text.push('\n');
            }
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                prop_assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
            }
        }
    }
}
