//! Shell text with which a host puts a changed large file together: parts of the live release's, and parts that were sent.

use super::lot;
use super::transfer::{Transfer, part};
use crate::artifact::patch::{Range, Segment};
use crate::artifact::{Kind, Manifest, Patch, manifest, path};
use crate::command::quote;
use crate::facts::Facts;
use crate::layout::Layout;

/// From so many bytes on a file is hashed while it is written, where it cannot be a clone: that takes a few programs more.
const LONG: u64 = if cfg!(test) { 4 << 20 } else { 256 << 20 };

/// So many bytes are written before the hashing of the file begins, which takes twice as long as writing: a busy host
/// seldom comes to the end too early.
const AHEAD: u64 = if cfg!(test) { 3 << 20 } else { 128 << 20 };

/// dd(1) of GNU coreutils, told to count in bytes, and to copy in blocks that a processor's cache holds.
const DD: &str = "dd status=none bs=128K iflag=skip_bytes,count_bytes";

/// Bytes of a file on the host, as shell text names it.
#[derive(Clone, Copy)]
struct Bytes {
    file: &'static str,
    offset: u64,
    length: u64,
}

/// Shell text that puts one file together in the release's folder, `$old` being the live release and `$r` the record. Under
/// `set -e`: nothing that fails goes unseen.
pub(super) fn rebuild(
    patch: &Patch,
    transfer: &Transfer,
    layout: &Layout,
    record: &str,
    facts: &Facts,
    time: i64,
) -> Option<String> {
    let manifest = transfer.tree.manifest();
    let entry = manifest.entries().get(patch.entry)?;
    let Kind::File { mode, size, .. } = entry.kind else { return None };
    let name = std::str::from_utf8(&entry.path).ok()?;
    let (joining, came) = match transfer.pieces.iter().find(|pieces| pieces.is_for(patch)) {
        Some(pieces) => {
            let (joining, first) = pieces.join();
            let joining = format!("( cd {}\n{}\n)\n", quote(layout.root()), joining.join("\n"));
            (joining, format!("{}/{first}", layout.root()))
        }
        None => (String::new(), format!("{record}/{}", part(patch))),
    };
    let settle = format!("chmod {mode:04o} \"./$f\"; TZ=UTC0 touch -t {} \"./$f\"", lot::stamp(time));
    let together = if !facts.gnu_cp {
        format!("{{ {}; }} >\"./$f\"\n{settle}", each(&sources(patch), tail).join("; "))
    } else if hashes(patch, manifest, facts) {
        let hashed = hashed(patch, manifest, &settle)?;
        if patch.keeps_places() {
            let cloned = clone("always") + " 2>/dev/null";
            let changed = changed(patch, size);
            // What is left of a clone that failed may not be written to.
            format!("if {cloned}; then\n{changed}\n{settle}\nelse\nrm -f \"./$f\"\n{hashed}\nfi")
        } else {
            hashed
        }
    } else if patch.keeps_places() {
        format!("{}\n{}\n{settle}", clone("auto"), changed(patch, size))
    } else {
        format!("{{ {}; }} >\"./$f\"\n{settle}", each(&sources(patch), dd).join("; "))
    };
    Some(format!("{joining}f={} p={}\n{together}\nrm \"$p\"", quote(name), quote(&came)))
}

/// Shell text, run in the release's folder, that fails and names the file where one that was hashed while it was written
/// was changed since.
pub(super) fn unchanged(transfer: &Transfer, facts: &Facts) -> Vec<String> {
    let manifest = transfer.tree.manifest();
    let hashed = transfer.patches.iter().filter(|patch| facts.gnu_cp && hashes(patch, manifest, facts));
    let text = hashed.filter_map(|patch| {
        let name = path::named(&manifest.entries().get(patch.entry)?.path);
        let (name, stamp) = (quote(std::str::from_utf8(&name).ok()?).into_owned(), stamp(patch));
        Some(format!(
            "{{ [ ! -e {stamp} ] || [ -z \"$(find {name} -cnewer {stamp})\" ] || {{ echo {name}; false; }}; }}"
        ))
    });
    text.collect()
}

/// Whether the file is hashed while it is written.
fn hashes(patch: &Patch, manifest: &Manifest, facts: &Facts) -> bool {
    let long = manifest.entries().get(patch.entry).is_some_and(|entry| entry.size() >= LONG);
    long && facts.program("openssl").is_some() && !manifest.has_escaped_sums()
}

/// What has the time when the file was complete, and is there as long as nothing speaks against its hash.
fn stamp(patch: &Patch) -> String {
    format!("\"$r/whole-{}\"", patch.entry)
}

/// Writes the file and hashes it meanwhile: copying keeps one processor as busy as hashing does another. Each byte is
/// written once, and reading behind the writing is as good as reading later. Where it comes to the end too early, as a
/// copy from a disk is slower, the hash is another, and the file stays in the list of those that are still to be hashed.
/// What is written is on its way to the disk while the rest is hashed.
fn hashed(patch: &Patch, manifest: &Manifest, settle: &str) -> Option<String> {
    let entry = manifest.entries().get(patch.entry)?;
    let Kind::File { sha256, size, .. } = &entry.kind else { return None };
    let sum = manifest::hex(sha256);
    let name = path::named(&entry.path);
    let (first, rest) = split(&sources(patch), AHEAD);
    let rest: String = each(&rest, dd).iter().map(|text| format!("{text}; ")).collect();
    Some(format!(
        "{{ {first}; }} >\"./$f\"\n\
         {{ {rest}{settle}; : >{stamp}; sync -f . 2>/dev/null & }} >>\"./$f\" &\n\
         h=$(openssl dgst -sha256 -r <\"./$f\") || :\n\
         wait $!\n\
         if [ \"${{h%% *}}\" = {sum} ] && [ \"$(wc -c <\"./$f\")\" -eq {size} ] && [ -s \"$r/sums\" ] && \
         {{ grep -vxFe {line} \"$r/sums\" >\"$r/others\"; [ $? -le 1 ]; }}; then\n\
         mv \"$r/others\" \"$r/sums\"\n\
         else rm {stamp}; fi",
        first = each(&first, dd).join("; "),
        stamp = stamp(patch),
        line = quote(&format!("{sum}  {}", std::str::from_utf8(&name).ok()?)),
    ))
}

/// A copy of the live file, which shares its bytes where the file system can. Its mode is that of a new file.
fn clone(how: &str) -> String {
    format!("cp --reflink={how} --no-preserve=mode -- \"$old/$f\" \"./$f\"")
}

/// Makes a copy of the live file the new one of `size` bytes.
fn changed(patch: &Patch, size: u64) -> String {
    let mut lines: Vec<String> = sent(patch)
        .map(|(from, range)| {
            let bytes = Bytes { file: "$p", offset: from, length: range.length };
            format!("{} of=\"./$f\" oflag=seek_bytes seek={} conv=notrunc", dd(bytes), range.offset)
        })
        .collect();
    lines.push(format!("truncate -s {size} -- \"./$f\""));
    lines.join("\n")
}

/// Where the file's bytes come from, from the first to the last.
fn sources(patch: &Patch) -> Vec<Bytes> {
    let mut sent = sent(patch);
    let sources = patch.segments.iter().filter_map(|segment| match segment {
        Segment::Had(range) => Some(Bytes { file: "$old/$f", offset: range.offset, length: range.length }),
        Segment::Sent(_) => sent.next().map(|(from, range)| Bytes { file: "$p", offset: from, length: range.length }),
    });
    sources.collect()
}

/// What is sent of a file: where it begins in what is sent, and its place in the file.
fn sent(patch: &Patch) -> impl Iterator<Item = (u64, Range)> + '_ {
    patch.sent().scan(0, |at, range| {
        let from = *at;
        *at += range.length;
        Some((from, range))
    })
}

/// The first `count` bytes of all, and the others.
fn split(all: &[Bytes], count: u64) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut first, mut rest, mut left) = (Vec::new(), Vec::new(), count);
    for bytes in all {
        let length = bytes.length.min(left);
        left -= length;
        if length > 0 {
            first.push(Bytes { length, ..*bytes });
        }
        if length < bytes.length {
            rest.push(Bytes { offset: bytes.offset + length, length: bytes.length - length, ..*bytes });
        }
    }
    (first, rest)
}

fn each(all: &[Bytes], print: fn(Bytes) -> String) -> Vec<String> {
    all.iter().copied().map(print).collect()
}

fn dd(Bytes { file, offset, length }: Bytes) -> String {
    format!("{DD} if=\"{file}\" skip={offset} count={length}")
}

/// In POSIX, or in every system's head; both seek in a file rather than read it.
fn tail(Bytes { file, offset, length }: Bytes) -> String {
    format!("tail -c +{} \"{file}\" | head -c {length}", offset + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::on_shell::run;
    use super::*;
    use crate::command::Command;

    fn patch(segments: Vec<Segment>) -> Patch {
        Patch { entry: 0, segments }
    }

    fn had(offset: u64, length: u64) -> Segment {
        Segment::Had(Range { offset, length })
    }

    fn came(offset: u64, length: u64) -> Segment {
        Segment::Sent(Range { offset, length })
    }

    #[test]
    fn what_is_written_first_ends_where_it_is_said() {
        let patch = patch(vec![had(100, 10), came(10, 5), had(20, 10)]);
        let shown = |count| {
            let (first, rest) = split(&sources(&patch), count);
            let print = |bytes: Bytes| format!("{} {}+{}", bytes.file, bytes.offset, bytes.length);
            [each(&first, print).join(", "), each(&rest, print).join(", ")]
        };
        assert_eq!(shown(0), ["", "$old/$f 100+10, $p 0+5, $old/$f 20+10"]);
        assert_eq!(shown(4), ["$old/$f 100+4", "$old/$f 104+6, $p 0+5, $old/$f 20+10"]);
        assert_eq!(shown(12), ["$old/$f 100+10, $p 0+2", "$p 2+3, $old/$f 20+10"]);
        assert_eq!(shown(99), ["$old/$f 100+10, $p 0+5, $old/$f 20+10", ""]);
    }

    /// What is left in the list of files to hash, and whether the file has the mark that it was, where `openssl` does this.
    fn rebuilt(openssl: &str, sums: &str) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "old", "new", "record"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("bin/openssl"), format!("#!/bin/sh\n{openssl}\n")).unwrap();
        fs::set_permissions(at("bin/openssl"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("old/it's"), "abcdefgh").unwrap();
        fs::write(at("part"), "XY").unwrap();
        fs::write(at("record/sums"), sums).unwrap();
        let manifest = Manifest::parse(format!("ship manifest 1\nfile 0640 8 {WHOLE} it's\n").as_bytes()).unwrap();
        let patch = patch(vec![had(0, 3), came(3, 2), had(5, 3)]);
        let text = hashed(&patch, &manifest, "chmod 0640 \"./$f\"").unwrap();
        let text = format!("set -e; PATH=../bin:$PATH r=../record old=../old f={} p=../part\n{text}", quote("it's"));
        let output = run(&Command::shell(text).directory(at("new").to_string_lossy()), b"");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(at("new/it's")).unwrap(), "abcXYfgh");
        (fs::read_to_string(at("record/sums")).unwrap(), at("record/whole-0").exists())
    }

    /// The SHA-256 of `abcXYfgh`.
    const WHOLE: &str = "884ef5ce97b034ae79b6f8eba75573aa65d375ecb433e3e8aaa48af495d2c4bb";

    #[test]
    fn what_was_hashed_while_it_was_written_is_not_hashed_again() {
        let line = format!("{WHOLE}  it's\n");
        let other = format!("{WHOLE}  it's not\n");
        let right = format!("cat >/dev/null; echo '{WHOLE} *stdin'");
        assert_eq!(rebuilt(&right, &format!("{other}{line}")), (other.clone(), true));
        assert_eq!(rebuilt(&right, &line), (String::new(), true));
        // The list did not arrive.
        assert_eq!(rebuilt(&right, ""), (String::new(), false));
        // It came to the end too early, or cannot hash at all.
        for wrong in [format!("echo '{} *stdin'", "0".repeat(64)), "exit 1".to_owned()] {
            assert_eq!(rebuilt(&wrong, &format!("{other}{line}")), (format!("{other}{line}"), false));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest::parse(format!("ship manifest 1\nfile 0640 8 {WHOLE} f\n").as_bytes()).unwrap();
        let text = hashed(&patch(vec![had(0, AHEAD + 8)]), &manifest, "false").unwrap();
        let text = format!("set -e; r=. old=. f=f p=p\nmkdir old; : >old/f; old=old\n{text}");
        let output = run(&Command::shell(text).directory(folder.path().to_string_lossy()), b"");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!folder.path().join("whole-0").exists());
    }
}
