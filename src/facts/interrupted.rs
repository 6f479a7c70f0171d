//! What a release that was never finished has of files, by the host's own hashes.
//!
//! A connection that is lost in an upload leaves such a release, with a file that is cut among many that are whole.
//! Only a hash tells them apart.

use crate::layout::ReleaseId;

/// How long a host hashes what one release has, in seconds. What it has not come to by then is sent again.
const PATIENCE: u32 = 60;

/// The most releases of which it does.
const MOST: u32 = 3;

/// Shell text that, in `deploy_to`, prints a line for each file of the release `$n`, whose state is `$v` and whose
/// record is `$s`, where it is being prepared. Whoever holds the deploy lock knows that nobody works on it; others
/// have to see that nobody does.
///
/// What a step made after the upload was verified is none of it, nor what it shares with another release. OpenSSL is
/// several times faster than coreutils, and prints almost the same.
pub(super) fn look(held: bool) -> String {
    let free = if held { "" } else { "flock -n .ship/lock true 2>/dev/null && " };
    format!(
        "if [ \"$v\" = preparing ] && [ \"${{i:=0}}\" -lt {MOST} ] && {free}[ -d \"releases/$n\" ]; then i=$((i + 1)); h=sha256sum; command -v openssl >/dev/null && h='openssl dgst -sha256 -r'\n\
         set --; [ -e \"$s/verified\" ] && set -- ! -cnewer \"$s/verified\"\n\
         find \"releases/$n\" -type f -links 1 -user \"$(id -u)\" \"$@\" -print0 2>/dev/null | timeout {PATIENCE} xargs -0 $h 2>/dev/null | sed 's/^/whole /'; fi\n"
    )
}

/// Reads what stands behind `whole ` in a line of [`look`]: the release, the path in it, and the SHA-256.
///
/// A name with a newline or a backslash is escaped, or breaks the line. Such files are sent again.
pub(super) fn read(text: &str) -> Option<(ReleaseId, String, String)> {
    let (sum, path) = text.split_once("  releases/").or_else(|| text.split_once(" *releases/"))?;
    let (id, path) = path.split_once('/')?;
    let whole = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) && !path.is_empty();
    Some((ReleaseId::parse(id)?, whole.then(|| path.to_owned())?, sum.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn lines_are_read_and_nonsense_is_left_out() {
        let (id, sum) = ("20261121T101500Z-1a2b3c4", "a5".repeat(32));
        let found = read(&format!("{sum}  releases/{id}/a b/c  d"));
        assert_eq!(found.map(|(id, path, _)| (id.to_string(), path)), Some((id.to_owned(), "a b/c  d".to_owned())));
        for nonsense in [
            format!("\\{sum}  releases/{id}/a\\nb"),
            format!("{sum}  releases/{id}/"),
            format!("{sum}  releases/../../a"),
            format!("{sum}  -"),
            format!("a5  releases/{id}/a"),
            String::new(),
        ] {
            assert_eq!(read(&nonsense), None, "{nonsense}");
        }
    }

    /// What the text prints in `folder` of a release in `state`.
    fn looked(folder: &Path, state: &str, held: bool) -> Vec<String> {
        let text = format!("n=20261121T101500Z-1a2b3c4; s=.ship/releases/$n; v={state}\n{}:", look(held));
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(text).current_dir(folder).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let read = lines.lines().filter_map(|line| read(line.strip_prefix("whole ")?));
        let mut all: Vec<String> = read.map(|(_, path, sum)| format!("{path} {}", &sum[..4])).collect();
        all.sort();
        all
    }

    #[test]
    fn only_what_nobody_works_on_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let release = "releases/20261121T101500Z-1a2b3c4";
        fs::create_dir_all(at(&format!("{release}/d e"))).unwrap();
        fs::create_dir_all(at(&format!(".ship/{release}"))).unwrap();
        assert!(looked(folder.path(), "preparing", true).is_empty());
        for (path, text) in [("a", "1"), ("d e/it's", "2"), ("linked", "3"), ("odd\nname", "4")] {
            fs::write(at(&format!("{release}/{path}")), text).unwrap();
        }
        fs::hard_link(at(&format!("{release}/linked")), at("elsewhere")).unwrap();
        std::os::unix::fs::symlink("a", at(&format!("{release}/link"))).unwrap();
        let both = ["a 6b86", "d e/it's d473"];
        for (state, expected) in [("preparing", &both[..]), ("ready", &[]), ("live", &[]), ("''", &[])] {
            assert_eq!(looked(folder.path(), state, true), expected, "{state}");
        }
        fs::write(at(".ship/lock"), "").unwrap();
        assert_eq!(looked(folder.path(), "preparing", false), both);
        let lock = fs::File::open(at(".ship/lock")).unwrap();
        lock.lock().unwrap();
        assert!(looked(folder.path(), "preparing", false).is_empty());
        assert_eq!(looked(folder.path(), "preparing", true), both);
    }

    #[test]
    fn what_was_made_after_the_upload_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let (release, record) = ("releases/20261121T101500Z-1a2b3c4", ".ship/releases/20261121T101500Z-1a2b3c4");
        fs::create_dir_all(at(release)).unwrap();
        fs::create_dir_all(at(record)).unwrap();
        fs::write(at(&format!("{release}/sent")), "1").unwrap();
        let verified = at(&format!("{record}/verified"));
        fs::write(&verified, "").unwrap();
        let stamp = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).unwrap();
        // The kernel stamps files by a clock that ticks every few milliseconds.
        let made = at(&format!("{release}/made"));
        while fs::write(&made, "2").is_err() || stamp(&made) <= stamp(&verified) {}
        assert_eq!(looked(folder.path(), "preparing", true), ["sent 6b86"]);
    }
}
