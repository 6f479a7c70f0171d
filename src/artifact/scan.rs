//! Folders on this machine as one tree: parts brought together, links checked, files hashed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::tree::{FOLDER_MODE, Origin, Root, Tree, TreeProblem};
use super::walk::{Found, Walk, What, cannot};
use super::{Chunks, Entry, Kind, digest, links, path};

/// A folder, or a file, that goes into the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is on this machine. Of a folder, what is in it goes; a file goes itself.
    pub from: PathBuf,
    /// The folder of the release it goes into, relative; empty for the release itself.
    pub to: String,
    /// What to leave out, as in `.gitignore`, seen from `from`.
    pub exclude: Vec<String>,
}

/// How to scan.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Take symlinks that are absolute or lead out of the release as they are; otherwise they are problems.
    pub allow_escaping_links: bool,
    /// Files lose their write permission.
    pub read_only: bool,
    /// The file that remembers digests by size, mtime, ctime and inode; made when missing.
    pub index: Option<PathBuf>,
    /// Set when nobody waits for the tree any more: hashing ends in problems as soon as it can.
    pub stop: Arc<AtomicBool>,
}

/// Reads and hashes `parts` into one tree, or says everything that is wrong with them.
///
/// Everything named `.git` is left out, and ship's own `.ship` at the top of a part. Modes keep the
/// permission bits alone; the owner may always write to directories, or the release could not be pruned.
pub fn scan(parts: &[Part], options: &ScanOptions) -> Result<Tree, Vec<TreeProblem>> {
    let mut walk = Walk::default();
    for part in parts {
        walk.part(part);
    }
    let Walk { mut found, roots, mut problems } = walk;
    // Stable: of equal paths the first part's comes first.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let found = merge(found, &roots, &mut problems);
    if !options.allow_escaping_links {
        check_links(&found, &mut problems);
    }
    // Hashing may take a while, and what is wrong already is worth saying at once.
    if !problems.is_empty() {
        return Err(problems);
    }
    let (mut entries, cut) = hash(found, &roots, options)?;
    if options.read_only {
        for (entry, _) in &mut entries {
            if let Kind::File { mode, .. } = &mut entry.kind {
                *mode = unwritable(*mode);
            }
        }
    }
    Ok(Tree::new(entries, roots).with_chunks(cut))
}

/// `mode` of a file that nobody may write to.
pub fn unwritable(mode: u32) -> u32 {
    mode & !0o222
}

/// One entry for each path. Folders of several parts become one; anything else is a problem.
fn merge(found: Vec<Found>, roots: &[Root], problems: &mut Vec<TreeProblem>) -> Vec<Found> {
    let mut merged: Vec<Found> = Vec::with_capacity(found.len());
    for new in found {
        match merged.last_mut() {
            Some(last) if last.path == new.path => {
                if !(last.what.is_directory() && new.what.is_directory()) {
                    let from = |root: usize| roots.get(root).map_or_else(String::new, |root| name(&root.from));
                    let message =
                        format!("both `{}` and `{}` give this path of the release", from(last.root), from(new.root));
                    problems.push(TreeProblem::new(&new.path, message));
                } else if matches!(last.what, What::ImpliedDirectory) {
                    *last = new;
                }
            }
            _ => merged.push(new),
        }
    }
    merged
}

fn name(path: &Path) -> String {
    path::escape(path.as_os_str().as_bytes())
}

fn check_links(found: &[Found], problems: &mut Vec<TreeProblem>) {
    let target_of = |path: &[u8]| {
        let index = found.binary_search_by(|found| found.path.as_slice().cmp(path)).ok()?;
        match &found.get(index)?.what {
            What::Symlink { target } => Some(target.as_slice()),
            _ => None,
        }
    };
    for link in found {
        let What::Symlink { target } = &link.what else { continue };
        if links::leads_out(&link.path, target, target_of) {
            let message = format!("this symlink leads out of the release, to `{}`", path::escape(target));
            problems.push(TreeProblem::new(&link.path, message));
        }
    }
}

/// The entries of what was found, files with their digests, and the chunks of large files that were read for it.
#[expect(clippy::type_complexity, reason = "used in one place")]
fn hash(
    found: Vec<Found>,
    roots: &[Root],
    options: &ScanOptions,
) -> Result<(Vec<(Entry, Origin)>, Chunks), Vec<TreeProblem>> {
    let place = |found: &Found| roots.get(found.root).and_then(|root| root.place(&found.path)).unwrap_or_default();
    let files: Vec<digest::Wanted> = found
        .iter()
        .filter_map(|found| match found.what {
            What::File { stamp, .. } => Some(digest::Wanted { path: place(found), stamp }),
            _ => None,
        })
        .collect();
    let mut digests = digest::digests(&files, options.index.as_deref(), &options.stop).into_iter().zip(&files);
    let mut entries = Vec::with_capacity(found.len());
    let mut cut = Chunks::default();
    let mut problems = Vec::new();
    for Found { path, what, root } in found {
        let (kind, origin) = match what {
            What::Directory { mode } => (Kind::Directory { mode }, Origin::Nowhere),
            What::ImpliedDirectory => (Kind::Directory { mode: FOLDER_MODE }, Origin::Nowhere),
            What::Symlink { target } => (Kind::Symlink { target: target.into() }, Origin::Nowhere),
            What::File { stamp, mode } => match digests.next() {
                Some((Ok(digest::Digest { sha256, chunks }), _)) => {
                    if let Some(chunks) = chunks {
                        cut.insert(sha256, chunks);
                    }
                    (Kind::File { size: stamp.size(), sha256, mode }, Origin::Disk(root))
                }
                Some((Err(error), file)) => {
                    let place = file.path.as_os_str().as_bytes();
                    problems.push(TreeProblem::new(place, cannot("be read", &error)));
                    continue;
                }
                None => continue,
            },
        };
        entries.push((Entry { path: path.into(), kind }, origin));
    }
    if problems.is_empty() { Ok((entries, cut)) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        add(folder.path(), files);
        folder
    }

    fn add(folder: &Path, files: &[&str]) {
        for file in files {
            let place = folder.join(file);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, file).unwrap();
            fs::set_permissions(&place, Permissions::from_mode(0o644)).unwrap();
        }
    }

    fn part(from: &Path, to: &str, exclude: &[&str]) -> Part {
        let exclude = exclude.iter().map(|text| (*text).to_owned()).collect();
        Part { from: from.to_owned(), to: to.to_owned(), exclude }
    }

    fn paths(parts: &[Part]) -> String {
        let tree = scan(parts, &ScanOptions::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let paths = tree.manifest().entries().iter().map(|entry| path::escape(&entry.path));
        paths.collect::<Vec<_>>().join(" ")
    }

    fn problems(parts: &[Part], folder: &Path) -> String {
        let problems = scan(parts, &ScanOptions::default()).unwrap_err();
        let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.sort();
        lines.join("\n").replace(folder.to_str().unwrap(), "FOLDER")
    }

    #[test]
    fn parts_come_together() {
        let folder = folder(&[
            "back/app.py",
            "back/app.pyc",
            "back/.env.example",
            "back/node_modules/m/i.js",
            "back/.git/config",
            "back/.ship/log",
            "back/sub/.git",
            "back/sub/.ship/x",
            "front/index.html",
            "bin/server",
        ]);
        fs::create_dir(folder.path().join("back/empty")).unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(
            paths(&[
                part(&at("back"), "", &["*.pyc", "node_modules/"]),
                part(&at("front"), "./public//html/", &[]),
                part(&at("bin/server"), "bin", &[]),
            ]),
            ".env.example app.py bin bin/server empty public public/html public/html/index.html sub sub/.ship sub/.ship/x"
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let folder = folder(&["a/x", "b/x", "a/suid", "a/d/y", "b/z"]);
        let at = |name: &str| folder.path().join(name);
        fs::set_permissions(at("a/suid"), Permissions::from_mode(0o4755)).unwrap();
        let _socket = UnixListener::bind(at("a/sock\n")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("a/pipe")).status().unwrap().success());
        symlink("/etc/passwd", at("a/absolute")).unwrap();
        symlink("../x", at("a/d/inside")).unwrap();
        symlink("../../x", at("a/d/outside")).unwrap();
        symlink("missing", at("a/dangling")).unwrap();
        let parts = [
            part(&at("a"), "", &[]),
            part(&at("b"), "", &[]),
            part(&at("b/z"), "d/y", &[]),
            part(&at("none"), "", &[]),
            part(&at("b"), "../out", &[]),
            part(&at("b"), "c", &["["]),
        ];
        insta::assert_snapshot!(problems(&parts, folder.path()), @r#"
        ../out: this is no folder inside the release
        FOLDER/a/pipe: a named pipe is not carried
        FOLDER/a/sock\x0a: a socket is not carried
        FOLDER/a/suid: a set-user-ID or set-group-ID file is not carried
        FOLDER/b: the pattern "[": unclosed character class; missing ']'
        FOLDER/none: it cannot be read: No such file or directory (os error 2)
        absolute: this symlink leads out of the release, to `/etc/passwd`
        d/outside: this symlink leads out of the release, to `../../x`
        d/y: both `FOLDER/a` and `FOLDER/b/z` give this path of the release
        x: both `FOLDER/a` and `FOLDER/b` give this path of the release
        "#);
    }

    #[test]
    fn links_that_lead_out_can_be_allowed() {
        let folder = folder(&["x"]);
        symlink("/usr/bin/python3", folder.path().join("python")).unwrap();
        let options = ScanOptions { allow_escaping_links: true, ..ScanOptions::default() };
        let tree = scan(&[part(folder.path(), "", &[])], &options).unwrap();
        assert_eq!(tree.manifest().files(), 2);
    }

    #[test]
    fn modes_keep_what_means_the_same_on_a_host() {
        let folder = folder(&["read-only/x", "group/x", "x"]);
        for (name, mode) in [("read-only", 0o555), ("group", 0o2775), ("x", 0o1640)] {
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let tree = scan(&[part(folder.path(), "", &[])], &ScanOptions::default()).unwrap();
        let mode = |path: &str| match tree.manifest().get(path.as_bytes()).unwrap().kind {
            Kind::File { mode, .. } | Kind::Directory { mode } => mode,
            Kind::Symlink { .. } => 0,
        };
        assert_eq!([mode("read-only"), mode("group"), mode("x")], [0o755, 0o775, 0o640]);
    }

    #[test]
    fn folders_that_two_parts_give_become_one() {
        let folder = folder(&["a/shared/x", "b/y", "c/z"]);
        for (name, mode) in [("a/shared", 0o750), ("b", 0o755)] {
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let tree = scan(
            &[part(&at("c"), "shared/deep", &[]), part(&at("b"), "shared", &[]), part(&at("a"), "", &[])],
            &ScanOptions::default(),
        );
        let text = String::from_utf8(tree.unwrap().manifest().to_bytes()).unwrap();
        assert!(text.contains("dir 0755 shared\n"), "{text}");
        assert_eq!(paths(&[part(&at("b"), "shared", &[]), part(&at("a"), "", &[])]), "shared shared/x shared/y");
    }

    #[test]
    fn a_deep_tree_is_walked() {
        let folder = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", 1500).collect();
        fs::create_dir_all(folder.path().join(&deep)).unwrap();
        fs::write(folder.path().join(&deep).join("x"), "x").unwrap();
        let tree = scan(&[part(folder.path(), "", &[])], &ScanOptions::default()).unwrap();
        assert_eq!(tree.manifest().entries().len(), 1501);
    }
}
