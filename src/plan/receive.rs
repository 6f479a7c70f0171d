//! What a host does with a transfer: it takes the rest from the live release, puts files together, and verifies all.

use super::transfer::{Lists, Transfer, part};
use super::{interrupted, lot};
use crate::artifact::patch::{Range, Segment};
use crate::artifact::{Kind, Patch, lists};
use crate::command::{Command, quote};
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};
use crate::step::{Action, Task};

/// From here on hashing takes longer than starting the programs that make it faster.
const WORTH: u64 = 4 << 20;

/// Receives the transfer, takes from the live release what it can, and verifies every file.
pub fn receive(layout: &Layout, facts: &Facts, release: &ReleaseId, time: i64, transfer: &Transfer) -> Vec<Task> {
    let mut tasks = vec![Task::new("Upload the release", Action::Transfer)];
    let record = layout.record(release);
    let folder = layout.release(release);
    tasks.extend(interrupted::task(layout, release, &transfer.taken));
    // What was taken from a release that turns out to be damaged makes the new one damaged.
    let source = facts.live().filter(|_| !transfer.difference.unchanged.is_empty() || !transfer.patches.is_empty());
    let verified = |live: &ReleaseId| format!("{}/verified", layout.record(live));
    let rely_no_more = |live: &ReleaseId| format!("rm -f {}; ", quote(&verified(live)));
    let digest = transfer.tree.digest();
    if let Lists::Made { based, digests, .. } = &transfer.lists {
        let live = facts.live().filter(|_| *based);
        let base = live.as_ref().map(|live| format!("{}/manifest", layout.record(live)));
        let text = write_lists(base.as_deref(), digest, transfer.read_only, digests);
        let distrust = live.as_ref().map(rely_no_more).unwrap_or_default();
        let command = Command::subshell(format!("umask 077; {text} || {{ {distrust}exit 71; }}")).directory(&record);
        let meanings: &'static [(i32, &'static str)] = if *based {
            &[(
                71,
                "the manifest of the live release is not what it was, or the disk is full; nothing was published, and the next deploy sends every file",
            )]
        } else {
            &[(71, "`awk` on the host did not write what it should, or the disk is full; nothing was published")]
        };
        tasks.push(Task::own("Write the lists of the release", command).meanings(meanings));
    }
    let unchanged = transfer.difference.unchanged.len();
    if let Some(live) = source.as_ref().filter(|_| unchanged > 0) {
        let (name, how) = if transfer.read_only {
            ("Link unchanged files to the live release", LINK)
        } else {
            ("Copy unchanged files from the live release", COPY)
        };
        let text = take(how, unchanged, &folder, &record);
        let text = format!("umask 0; {text} || {{ {}exit 73; }}", rely_no_more(live));
        let task = Task::own(name, Command::shell(text).directory(layout.release(live)));
        tasks.push(task.meanings(&[(
            73,
            "a file of the live release is gone or cannot be read; nothing was published, and the next deploy sends every file",
        )]));
    }
    if let Some(live) = source.as_ref().filter(|_| !transfer.patches.is_empty()) {
        let stamp = lot::stamp(time);
        let rebuild = |patch: &Patch| rebuild(patch, transfer, layout, &record, facts.gnu_cp, &stamp);
        let all: Vec<String> = transfer.patches.iter().filter_map(rebuild).collect();
        let text = format!("set -e; umask 077; old={}\n{}", quote(&layout.release(live)), all.join("\n"),);
        tasks.push(Task::own("Put changed large files together", Command::shell(text).directory(&folder)));
    }
    if transfer.pieces.iter().any(|pieces| pieces.of.is_empty()) {
        let command = lot::assemble(layout, release, time, &transfer.tree, &transfer.pieces);
        tasks.push(Task::own("Put very large files in their place", command));
    }
    if transfer.tree.manifest().files() > 0 {
        let many = transfer.verified() >= WORTH;
        let openssl = many && facts.program("openssl").is_some() && !transfer.tree.manifest().has_escaped_sums();
        let distrust =
            source.as_ref().map(rely_no_more).unwrap_or_default() + &interrupted::distrust(layout, &transfer.taken);
        let linked = source.as_ref().filter(|_| transfer.read_only);
        let linked = linked.map(|live| unchanged_since(&verified(live), unchanged));
        let text = verify(
            &record,
            digest,
            &distrust,
            [transfer.lists.sums() > 0, openssl],
            linked.as_deref().unwrap_or("true"),
        );
        let check = Command::shell(text).directory(folder);
        let task = Task::own("Verify the release", check);
        tasks.push(task.meanings(&[(
            70,
            "files on the host are not what was sent; nothing was published, and the next deploy sends every file",
        )]));
    }
    tasks
}

/// Shell text that makes the lists in the record in which it runs, of what was sent and of the manifest `base`. It fails
/// where one of them is not what was meant, by the `digest` of the manifest and the `digests` of the others: not every awk
/// says that a disk is full.
fn write_lists(base: Option<&str>, digest: &str, read_only: bool, [sums, copied]: &[String; 2]) -> String {
    format!(
        ": >sums && : >copied && LC_ALL=C awk -v linked={linked} {program} lists {base} && \
         [ \"$(sha256sum manifest sums copied)\" = '{digest}  manifest\n{sums}  sums\n{copied}  copied' ] && \
         tr '\\n' '\\0' <copied >keep",
        program = quote(lists::PROGRAM),
        linked = u8::from(read_only),
        base = quote(base.unwrap_or("/dev/null")),
    )
}

/// Shell text that fails, and names them, where linked files, about so many, are gone or were changed since `verified` was
/// made. They may have been between the look at the host and now, and are not read again.
fn unchanged_since(verified: &str, files: usize) -> String {
    let find = |several: &str| {
        format!(
            "c=$(xargs -0 -r {several} sh -c 'v=$1; shift; exec find \"$@\" -prune -newer \"$v\"' sh {} <\"$r/keep\" 2>&1)",
            quote(verified)
        )
    };
    format!("{{ {} || {}; }} && [ -z \"$c\" ] || {{ printf '%s\\n' \"$c\"; false; }}", find(&several(files)), find(""))
}

/// Options of cp(1) for copies: clones where the file system can, so that a file that is changed in one release never
/// changes in another. Links are copied as links.
const COPY: &str = "-P --preserve=mode,timestamps --reflink=auto";

/// Options of cp(1) for hard links, where the recipe says that nothing changes the files.
const LINK: &str = "-Pl";

/// Takes the files of the record's list, about so many, from the live release, in whose folder it runs. What several at
/// once cannot do is done by one that copies: another user's files cannot be linked (`fs.protected_hardlinks` in proc(5)),
/// and not every `xargs` knows of several at once. Their folders are there, or two might make the same.
fn take(how: &str, files: usize, folder: &str, record: &str) -> String {
    format!(
        "xargs -0 -r {several} cp {how} --parents -t {folder} -- <{keep} 2>/dev/null || \
         xargs -0 -r cp {COPY} --remove-destination --parents -t {folder} -- <{keep}",
        several = several(files),
        folder = quote(folder),
        keep = quote(&format!("{record}/keep")),
    )
}

/// Options of xargs(1) for a program that does little for each of `files`: a host has more than one processor, as a rule.
fn several(files: usize) -> String {
    /// Fewer take no longer than starting a program a few times.
    const LEAST: usize = 700;
    const AT_ONCE: usize = 4;
    format!("-P {AT_ONCE} -n {}", files.div_ceil(AT_ONCE).max(LEAST))
}

/// Shell text that verifies the files of the release in whose folder it runs, and writes down the `digest` of its
/// manifest then. It fails with 70 and names the files that differ, after the shell text `distrust`: nothing that files
/// came from is relied on any more. The shell text `linked` says whether those that are not hashed are what they were.
///
/// OpenSSL is several times faster than coreutils where the processor has instructions for SHA-256. `sha256sum` has the
/// last word, so it does not matter what another version of it prints.
fn verify(record: &str, digest: &str, distrust: &str, [any, openssl]: [bool; 2], linked: &str) -> String {
    let fast = if openssl {
        r#"cut -b 67- "$r/sums" | tr '\n' '\0' | xargs -0 openssl dgst -sha256 -r -- 2>/dev/null | sed 's/ \*/  /' | cmp -s - "$r/sums" || "#
    } else {
        ""
    };
    // A list that did not arrive is no list of nothing.
    let hashed = if any {
        format!(r#"[ -s "$r/sums" ] && {{ {fast}sha256sum -c "$r/sums" >"$r/check"; }}"#)
    } else {
        "true".to_owned()
    };
    // What is hashed is on its way to the disk meanwhile, where it has to be before the release is ready; and what is not
    // is looked at meanwhile.
    //
    // The kernel stamps files by a clock that ticks every few milliseconds: what a step changes right afterwards
    // must have a later time than `verified`, which is the time when the verification began. Most shells know which of
    // two files is newer, some to the second only.
    format!(
        "r={record}; echo {digest} >\"$r/began\"\n\
         sync -f . 2>/dev/null &\n\
         {{ {hashed}; }} & h=$! bad=\n\
         {linked} || bad=1\n\
         wait $h || {{ grep -v ': OK$' \"$r/check\"; bad=1; }}\n\
         [ -z \"$bad\" ] || {{ {distrust}exit 70; }}\n\
         mv \"$r/began\" \"$r/verified\"\n\
         n=0; while [ $n -lt 1000 ] && : >\"$r/check\" && ! [ \"$r/check\" -nt \"$r/verified\" ] 2>/dev/null && [ -z \"$(find \"$r/check\" -newer \"$r/verified\")\" ]; do n=$((n + 1)); done; rm -f \"$r/check\" \"$r/sums\" \"$r/keep\" \"$r/copied\" \"$r/lists\"\n\
         wait",
        record = quote(record),
    )
}

/// Shell text that puts one file together in the release's folder, `$old` being the live release.
fn rebuild(patch: &Patch, transfer: &Transfer, layout: &Layout, record: &str, gnu: bool, time: &str) -> Option<String> {
    let entry = transfer.tree.manifest().entries().get(patch.entry)?;
    let Kind::File { mode, size, .. } = entry.kind else { return None };
    let path = std::str::from_utf8(&entry.path).ok()?;
    let (joining, came) = match transfer.pieces.iter().find(|pieces| pieces.is_for(patch)) {
        Some(pieces) => {
            let (joining, first) = pieces.join();
            let joining = format!("( cd {}\n{}\n)\n", quote(layout.root()), joining.join("\n"));
            (joining, format!("{}/{first}", layout.root()))
        }
        None => (String::new(), format!("{record}/{}", part(patch))),
    };
    let mut lines = vec![format!("{joining}f={} p={}", quote(path), quote(&came))];
    if gnu && patch.keeps_places() {
        // A clone where the file system can, and its mode is that of a new file.
        lines.push("cp --reflink=auto --no-preserve=mode -- \"$old/$f\" \"./$f\"".to_owned());
        lines.extend(sent(patch).map(|(from, range)| {
            let (to, length) = (range.offset, range.length);
            format!("{DD} if=\"$p\" skip={from} count={length} of=\"./$f\" oflag=seek_bytes seek={to} conv=notrunc")
        }));
        lines.push(format!("truncate -s {size} -- \"./$f\""));
    } else {
        let piece = |file: &str, offset: u64, length: u64| {
            if gnu {
                format!("{DD} if=\"{file}\" skip={offset} count={length}")
            } else {
                // In POSIX, or in every system's head; both seek in a file rather than read it.
                format!("tail -c +{} \"{file}\" | head -c {length}", offset + 1)
            }
        };
        let mut sent = sent(patch);
        let pieces: Vec<String> = patch
            .segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Had(range) => Some(piece("$old/$f", range.offset, range.length)),
                Segment::Sent(_) => sent.next().map(|(from, range)| piece("$p", from, range.length)),
            })
            .collect();
        lines.push(format!("{{ {}; }} >\"./$f\"", pieces.join("; ")));
    }
    lines.push(format!("chmod {mode:04o} \"./$f\"; TZ=UTC0 touch -t {time} \"./$f\"; rm \"$p\""));
    Some(lines.join("\n"))
}

/// dd(1) of GNU coreutils, told to count in bytes, and to copy in blocks that a processor's cache holds.
const DD: &str = "dd status=none bs=128K iflag=skip_bytes,count_bytes";

/// What is sent of a file: where it begins in what is sent, and its place in the file.
fn sent(patch: &Patch) -> impl Iterator<Item = (u64, Range)> + '_ {
    patch.sent().scan(0, |at, range| {
        let from = *at;
        *at += range.length;
        Some((from, range))
    })
}
