//! The lists of a release on its host: its manifest, checksums and what is copied. Only how the manifest differs from
//! that of the live release is sent; `awk` on the host makes all three of it.

use std::cmp::Ordering;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use super::manifest::hex;
use super::{Difference, Entry, Manifest, path};

/// The first line of a difference, so that it is never empty.
const FIRST_LINE: &[u8] = b"ship lists 1\n";

/// How [`PROGRAM`] turns `base`, the manifest on the host, into `new`. `copied` has the indices in `new`, in order, of
/// what the host copies; of `doubtful` ones among those, that they are verified even where links are not.
///
/// `- N` leaves out line N of the host's manifest, `= N` says that what it names is not copied, `~ N` that it is doubtful,
/// and `+ N TEXT` puts a line after it; line 0 comes before all. There is none where a path or a link has bytes that a
/// manifest escapes: awk would have to know them.
pub fn lists(base: &Manifest, new: &Manifest, copied: &[usize], doubtful: impl Fn(usize) -> bool) -> Option<Vec<u8>> {
    if new.entries().iter().any(Entry::is_escaped) {
        return None;
    }
    let based = between(base, new, copied, &doubtful);
    // Where the manifests have little in common, the new one is shorter than how they differ. Only lines of the host's
    // manifest can name what is copied.
    let whole = copied.is_empty() && based.len() > new.text_length();
    Some(if whole { between(&Manifest::default(), new, copied, &doubtful) } else { based })
}

/// Whether [`lists`] says what follows on the host's manifest, or has everything in itself.
pub fn is_based(lists: &[u8]) -> bool {
    !lists.strip_prefix(FIRST_LINE).unwrap_or(lists).starts_with(b"+ 0 ")
}

/// The SHA-256 of what [`PROGRAM`] writes as `sums`, for the files whose index is `verified`, and of its `copied`.
pub fn digests(new: &Manifest, difference: &Difference, verified: impl Fn(usize) -> bool) -> [String; 2] {
    let lines = |byte| if byte == 0 { b'\n' } else { byte };
    let copied = difference.keep_list(new).into_iter().map(lines).collect();
    [new.sums(verified), copied].map(|text: Vec<u8>| hex(&Sha256::digest(text)))
}

fn between(base: &Manifest, new: &Manifest, copied: &[usize], doubtful: &dyn Fn(usize) -> bool) -> Vec<u8> {
    let mut text = FIRST_LINE.to_vec();
    let mut copied = copied.iter().copied().peekable();
    let (mut old, mut entries) = (base.entries().iter().peekable(), new.entries().iter().enumerate().peekable());
    // The first line of a manifest is that of its format.
    let mut line = if base.entries().is_empty() { 0 } else { 1 };
    if line == 0 {
        text.extend_from_slice(b"+ 0 ");
        Manifest::default().write(&mut text);
    }
    loop {
        let order = match (old.peek(), entries.peek()) {
            (None, None) => return text,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(had), Some((_, entry))) => had.path.cmp(&entry.path),
        };
        // Writing to a Vec cannot fail.
        match order {
            Ordering::Less => {
                line += 1;
                old.next();
                let _ = writeln!(text, "- {line}");
            }
            Ordering::Greater => {
                let _ = write!(text, "+ {line} ");
                if let Some((_, entry)) = entries.next() {
                    entry.write(&mut text);
                }
            }
            Ordering::Equal => {
                line += 1;
                let (Some(had), Some((index, entry))) = (old.next(), entries.next()) else { return text };
                while copied.next_if(|next| *next < index).is_some() {}
                if had != entry {
                    let _ = write!(text, "- {line}\n+ {line} ");
                    entry.write(&mut text);
                } else if copied.peek() != Some(&index) {
                    let _ = writeln!(text, "= {line}");
                } else if doubtful(index) {
                    let _ = writeln!(text, "~ {line}");
                }
            }
        }
    }
}

/// The program for `awk`: it reads [`lists`] and then the host's manifest, or nothing, and writes `manifest`, `sums` for
/// `sha256sum -c`, and `copied`, a path on each line, in the folder where it runs. In the C locale, so that bytes count.
/// Where `linked` is 1, what is copied is left out of `sums` unless it is doubtful: it was verified under its other name.
/// A name that begins with a dash, or means something to find(1), begins with `./`, so that no program takes it for anything else.
pub const PROGRAM: &str = r#"
function name(path) { return (path ~ /^-/ || path == "(" || path == "!" ? "./" : "") path }
function put(text, copied, verified,    at) {
    print text >"manifest"
    if (text ~ /^file /) {
        at = 11 + index(substr(text, 11), " ")
        if (verified) print substr(text, at, 64) "  " name(substr(text, at + 65)) >"sums"
        if (copied) print name(substr(text, at + 65)) >"copied"
    } else if (copied && text ~ /^link /) print name(substr(text, 6, index(text, "\t") - 6)) >"copied"
}
NR == FNR && $1 == "+" && $2 == 0 { put(substr($0, 5), 0, 1); next }
NR == FNR && $1 == "+" { more[$2, ++count[$2]] = substr($0, length($2) + 4); next }
NR == FNR { what[$2] = $1; next }
!(FNR in what) { put($0, 1, !linked) }
FNR in what && what[FNR] != "-" { put($0, what[FNR] == "~", 1) }
FNR in count { for (i = 1; i <= count[FNR]; i++) put(more[FNR, i], 0, 1) }
"#;

impl Entry {
    /// Whether its line in a manifest has escaped bytes.
    fn is_escaped(&self) -> bool {
        let escaped = |text: &[u8]| path::escape(text).as_bytes() != text;
        escaped(&self.path) || matches!(&self.kind, super::Kind::Symlink { target } if escaped(target))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::Kind;
    use super::super::path::named;
    use super::*;

    /// The programs that are somewhere `awk`, where they are installed.
    fn awks() -> Vec<Vec<&'static str>> {
        let all = [vec!["mawk"], vec!["gawk"], vec!["original-awk"], vec!["busybox", "awk"]];
        all.into_iter().filter(|words| Command::new(words[0]).arg("--help").output().is_ok()).collect()
    }

    /// What `awk` writes: the manifest, the sums and what is copied.
    fn written(awk: &[&str], linked: bool, lists: &[u8], base: &Manifest) -> [Vec<u8>; 3] {
        let folder = tempfile::tempdir().unwrap();
        let base = if is_based(lists) { base.to_bytes() } else { Vec::new() };
        std::fs::write(folder.path().join("lists"), lists).unwrap();
        std::fs::write(folder.path().join("base"), base).unwrap();
        let output = Command::new(awk[0])
            .args(&awk[1..])
            .args(["-v", if linked { "linked=1" } else { "linked=0" }, PROGRAM, "lists", "base"])
            .env("LC_ALL", "C")
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{awk:?} {output:?}");
        ["manifest", "sums", "copied"].map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default())
    }

    fn check(base: &Manifest, new: &Manifest, copied: &[usize]) {
        let doubtful = |index: usize| index % 3 == 1;
        let lists = lists(base, new, copied, doubtful).expect("nothing is escaped");
        let paths = copied.iter().map(|index| &new.entries()[*index]);
        let paths = paths.filter(|entry| !matches!(entry.kind, Kind::Directory { .. }));
        let paths: Vec<u8> = paths.flat_map(|entry| [&named(&entry.path)[..], b"\n"].concat()).collect();
        assert!(!awks().is_empty());
        for (awk, linked) in awks().iter().flat_map(|awk| [(awk, false), (awk, true)]) {
            let [manifest, sums, listed] =
                written(awk, linked, &lists, base).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(manifest.as_bytes(), new.to_bytes(), "{awk:?}: {manifest}");
            let wanted = |index: usize| !linked || !copied.contains(&index) || doubtful(index);
            assert_eq!(sums.as_bytes(), new.sums(wanted), "{awk:?}: {sums}");
            assert_eq!(listed.as_bytes(), paths, "{awk:?}: {listed}");
            let difference = Difference { unchanged: copied.to_vec(), ..Difference::default() };
            assert_eq!(digests(new, &difference, wanted), [sums, listed].map(|text| hex(&Sha256::digest(text))));
        }
    }

    fn manifest(text: &str) -> Manifest {
        let entries = text.split(',').filter(|word| !word.is_empty()).map(|word| {
            let (path, mark) = word.split_once('=').unwrap_or((word, ""));
            let kind = match mark.bytes().next() {
                None => Kind::Directory { mode: 0o755 },
                Some(b'>') => Kind::Symlink { target: mark.as_bytes()[1..].into() },
                Some(byte) => Kind::File { size: mark.len() as u64 * 7, sha256: [byte; 32], mode: 0o644 },
            };
            Entry { path: path.as_bytes().into(), kind }
        });
        Manifest::new(entries.collect())
    }

    #[test]
    fn only_what_differs_is_said() {
        let base = manifest("-rf=1,a,a/b c=1,a/d=1,link=>a/b c,z=1");
        let new = manifest("-rf=1,a,a/b c=2,a/e  ü=1,link=>a/b c,zz=1");
        let said = lists(&base, &new, &[0, 1, 4], |index| index == 0).expect("it");
        insta::assert_snapshot!(String::from_utf8(said).unwrap(), @r"
        ship lists 1
        ~ 2
        - 4
        + 4 file 0644 7 3232323232323232323232323232323232323232323232323232323232323232 a/b c
        - 5
        + 5 file 0644 7 3131313131313131313131313131313131313131313131313131313131313131 a/e  ü
        - 7
        + 7 file 0644 7 3131313131313131313131313131313131313131313131313131313131313131 zz
        ");
        check(&base, &new, &[0, 1, 4]);
        // The same, but the host's file is not to be relied on.
        assert_eq!(lists(&base, &base, &[0, 1, 2, 4, 5], |_| false).as_deref(), Some(&b"ship lists 1\n= 5\n"[..]));
        check(&base, &base, &[0, 1, 2, 4, 5]);
    }

    #[test]
    fn a_first_release_and_one_with_nothing_in_common_are_said_whole() {
        let new = manifest("a,a/b=1,c=>x y");
        check(&Manifest::default(), &new, &[]);
        check(&manifest("q=1,r=1,s=1,t=1"), &new, &[]);
        check(&manifest("q=1"), &Manifest::default(), &[]);
        check(&Manifest::default(), &Manifest::default(), &[]);
        assert!(!is_based(&lists(&Manifest::default(), &new, &[], |_| false).expect("it")));
    }

    #[test]
    fn what_is_escaped_is_left_to_others() {
        let odd = Manifest::new(vec![Entry { path: (*b"a\nb").into(), kind: Kind::Directory { mode: 0o755 } }]);
        assert_eq!(lists(&Manifest::default(), &odd, &[], |_| false), None);
        assert!(lists(&odd, &manifest("a"), &[], |_| false).is_some());
        check(&odd, &manifest("a"), &[]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn awk_makes_the_lists(
            old in prop::collection::btree_map("[a-c(!-]{1,2}( [=+])?", "(|>[ab]|[1-3]{1,2})", 0..12),
            new in prop::collection::btree_map("[a-c(!-]{1,2}( [=+])?", "(|>[ab]|[1-3]{1,2})", 0..12),
            chosen in any::<u16>(),
        ) {
            let made = |map: &std::collections::BTreeMap<String, String>| {
                let words: Vec<String> = map.iter().map(|(path, mark)| format!("{path}\u{1}{mark}")).collect();
                let entries = words.iter().map(|word| {
                    let (path, mark) = word.split_once('\u{1}').unwrap();
                    let kind = match mark.bytes().next() {
                        None => Kind::Directory { mode: 0o700 },
                        Some(b'>') => Kind::Symlink { target: mark.as_bytes()[1..].into() },
                        Some(byte) => Kind::File { size: mark.len() as u64 * 9, sha256: [byte; 32], mode: 0o644 },
                    };
                    Entry { path: path.as_bytes().into(), kind }
                });
                Manifest::new(entries.collect())
            };
            let (base, new) = (made(&old), made(&new));
            let copied: Vec<usize> = (0..new.entries().len())
                .filter(|index| chosen >> index & 1 == 1)
                .filter(|index| base.get(&new.entries()[*index].path) == Some(&new.entries()[*index]))
                .collect();
            check(&base, &new, &copied);
        }
    }
}
