//! Sources against the real git, tar and compressors.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;

struct Repository {
    folder: TempDir,
    path: PathBuf,
}

impl Repository {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("project");
        fs::create_dir(&path).unwrap();
        let repository = Self { folder, path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        fs::write(repository.path.join(".git/info/exclude"), ".ship\n").unwrap();
        repository
    }

    fn at(path: PathBuf, folder: TempDir) -> Self {
        Self { folder, path }
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, contents) in files {
            let place = self.path.join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, contents).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "Change\n\nbody"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn branch(&self, name: &str) -> Result<Commit, SourceError> {
        resolve(&self.path, &Wanted::Branch(name.to_owned()))
    }

    fn revision(&self, name: &str) -> Result<Commit, SourceError> {
        resolve(&self.path, &Wanted::Revision(name.to_owned()))
    }

    fn head(&self) -> Commit {
        resolve(&self.path, &Wanted::Head).unwrap()
    }

    fn build(&self) -> PathBuf {
        self.path.join(".ship/build/app")
    }

    fn checkout(&self, commit: &Commit, caches: &[&str]) -> Checkout {
        let caches: Vec<String> = caches.iter().map(|cache| (*cache).to_owned()).collect();
        checkout(&self.path, commit, &self.build(), &caches).unwrap()
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=An Author", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Everything in `folder` but `.git`, files with their contents.
fn listed(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(here) = ahead.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if name.ends_with(".git") {
            } else if path.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                lines.push(format!("{name}/"));
                ahead.push(path);
            } else {
                lines.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    lines.sort();
    lines.join(" ")
}

#[test]
fn names_become_one_commit() {
    let repository = Repository::new();
    let first = repository.commit(&[("a", "1")]);
    repository.git(&["tag", "--annotate", "--message", "one", "v1"]);
    repository.git(&["branch", "feature/x"]);
    let second = repository.commit(&[("a", "2")]);
    for (wanted, id) in [("v1", &first), (&first[..8], &first), ("HEAD~1", &first), ("main", &second)] {
        assert_eq!(&repository.revision(wanted).unwrap().id, id, "{wanted}");
    }
    let found = repository.branch("feature/x").unwrap();
    assert_eq!((found.id, found.branch.as_deref()), (first, Some("feature/x")));
    let head = repository.head();
    assert_eq!((head.author.as_str(), head.title.as_str()), ("An Author", "Change"));
    assert_eq!((head.id, head.branch.as_deref(), head.warnings), (second, Some("main"), vec![]));
    assert!(head.time > 1_700_000_000);
}

#[test]
fn names_that_are_none_are_explained() {
    let repository = Repository::new();
    let error = resolve(&repository.path, &Wanted::Head).unwrap_err();
    assert!(error.message.ends_with("has no commit yet"), "{error}");
    repository.commit(&[("a", "1")]);
    repository.git(&["branch", "production"]);
    repository.git(&["tag", "v1.2"]);
    let error = repository.branch("prodction").unwrap_err();
    assert_eq!(error.advice.as_deref(), Some("did you mean `production`?"));
    // A tag is no branch.
    assert!(repository.branch("v1.2").is_err());
    assert_eq!(repository.branch("xyz").unwrap_err().advice.as_deref(), Some("there is `main`, `production`"));
    for odd in ["", "-n", "--all", "--output=/tmp/x", "main..production", "HEAD:a", "^main", "*", "mai[n]"] {
        assert!(repository.revision(odd).is_err(), "{odd}");
        assert!(repository.branch(odd).is_err(), "{odd}");
    }
    assert_eq!(repository.revision("v1.1").unwrap_err().advice.as_deref(), Some("did you mean `v1.2`?"));
    let outside = tempfile::tempdir().unwrap();
    let error = resolve(outside.path(), &Wanted::Head).unwrap_err();
    assert!(error.message.contains("is in no git repository") && error.advice.is_some(), "{error}");
}

#[test]
fn what_a_user_may_not_expect_is_said() {
    let upstream = Repository::new();
    upstream.commit(&[("a", "1")]);
    let path = upstream.folder.path().join("clone");
    git(upstream.folder.path(), &["clone", "--quiet", "project", "clone"]);
    upstream.git(&["checkout", "--quiet", "-b", "elsewhere"]);
    let elsewhere = upstream.commit(&[("b", "1")]);
    upstream.git(&["checkout", "--quiet", "main"]);
    upstream.commit(&[("a", "2")]);
    let repository = Repository::at(path, upstream.folder);
    repository.commit(&[("a", "3")]);
    repository.git(&["fetch", "--quiet"]);
    assert_eq!(repository.branch("elsewhere").unwrap().id, elsewhere);
    fs::write(repository.path.join("a"), "4").unwrap();
    fs::write(repository.path.join("new"), "").unwrap();
    fs::create_dir(repository.path.join(".ship")).unwrap();
    fs::write(repository.path.join(".ship/log"), "").unwrap();
    let expected = [
        "1 commit of `main` is not in origin/main",
        "`main` here is 1 commit behind origin/main",
        "2 uncommitted changes are not deployed: a, new",
    ];
    assert_eq!(repository.head().warnings, expected);
    assert_eq!(repository.branch("main").unwrap().warnings, expected);
    assert_eq!(repository.branch("elsewhere").unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_shallow_clone_is_recognised() {
    let upstream = Repository::new();
    let first = upstream.commit(&[("a", "1")]);
    let second = upstream.commit(&[("a", "2")]);
    let address = format!("file://{}", upstream.path.display());
    git(upstream.folder.path(), &["clone", "--quiet", "--depth=1", &address, "clone"]);
    let repository = Repository::at(upstream.folder.path().join("clone"), upstream.folder);
    let error = repository.revision(&first).unwrap_err();
    assert!(error.advice.unwrap().contains("fetch-depth: 0"));
    let commit = repository.revision(&second).unwrap();
    assert_eq!(listed(repository.checkout(&commit, &[]).root()), "a=2");
    assert_eq!(listed(repository.checkout(&commit, &[]).root()), "a=2");
}

#[test]
fn a_checkout_holds_the_commit_and_the_caches_alone() {
    let repository = Repository::new();
    repository.commit(&[("a", "1"), ("front/x", "1"), (".gitignore", "*.log\nnode_modules\n"), ("gone", "1")]);
    let first = repository.head();
    repository.git(&["rm", "--quiet", "gone"]);
    repository.commit(&[("a", "2")]);
    fs::write(repository.path.join("a"), "not committed").unwrap();
    fs::write(repository.path.join("stray"), "").unwrap();
    let second = repository.head();
    let caches = ["front/node_modules", "we[ird *", "new/cache/"];
    let root = {
        let checkout = repository.checkout(&first, &caches);
        assert_eq!(checkout.path(), checkout.root());
        checkout.root().to_owned()
    };
    assert_eq!(listed(&root), ".gitignore=*.log\nnode_modules\n a=1 front/ front/x=1 gone=1");
    // What a build leaves.
    for file in
        ["front/node_modules/m", "node_modules/m", "we[ird */x", "we/x", "new/cache/x", "new/y", "x.log", "dist/x"]
    {
        let place = root.join(file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "").unwrap();
    }
    fs::write(root.join("a"), "changed by the build").unwrap();
    fs::remove_file(root.join("front/x")).unwrap();
    git(&root, &["init", "--quiet", "inner"]);
    // What a killed run leaves.
    fs::write(root.join(".git/index.lock"), "").unwrap();
    let checkout = repository.checkout(&second, &caches);
    assert_eq!(
        listed(checkout.root()),
        ".gitignore=*.log\nnode_modules\n a=2 front/ front/node_modules/ front/node_modules/m= front/x=1 \
         new/ new/cache/ new/cache/x= we[ird */ we[ird */x="
    );
    assert_eq!(git(&root, &["rev-parse", "HEAD"]), second.id);
    drop(checkout);
    // A broken repository is made anew, and the caches stay; the user's own, around it, is never taken for it.
    fs::write(root.join(".git/HEAD"), "nonsense").unwrap();
    fs::write(root.join(".git/index"), "nonsense").unwrap();
    let checkout = repository.checkout(&first, &["front/node_modules"]);
    assert_eq!(
        listed(checkout.root()),
        ".gitignore=*.log\nnode_modules\n a=1 front/ front/node_modules/ front/node_modules/m= front/x=1 gone=1"
    );
    assert_eq!(fs::read_to_string(repository.path.join("a")).unwrap(), "not committed");
    assert!(repository.path.join("stray").exists());
    assert_eq!(repository.git(&["rev-parse", "HEAD"]), second.id);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let repository = Repository::new();
    repository.commit(&[("a", "1")]);
    let first = repository.head();
    repository.commit(&[("a", "2")]);
    let one = repository.checkout(&first, &[]);
    let two = repository.checkout(&repository.head(), &[]);
    assert_eq!((listed(one.root()).as_str(), listed(two.root()).as_str()), ("a=1", "a=2"));
}

#[test]
fn a_project_may_be_a_part_of_its_repository() {
    let repository = Repository::new();
    repository.commit(&[("apps/web/a", "1"), ("lib/b", "1")]);
    let web = repository.path.join("apps/web");
    let commit = resolve(&web, &Wanted::Head).unwrap();
    let caches = ["cache".to_owned()];
    let into = repository.folder.path().join("build");
    let path = checkout(&web, &commit, &into, &caches).unwrap().path().to_owned();
    fs::create_dir(path.join("cache")).unwrap();
    fs::write(path.join("cache/x"), "").unwrap();
    let again = checkout(&web, &commit, &into, &caches).unwrap();
    assert_eq!(listed(again.path()), "a=1 cache/ cache/x=");
    assert_eq!(listed(again.root()), "apps/ apps/web/ apps/web/a=1 apps/web/cache/ apps/web/cache/x= lib/ lib/b=1");
    for bad in ["../x", "/x", "", ".", ".git", "a/../../b"] {
        assert!(checkout(&web, &commit, &into, &[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn submodules_come_along() {
    let library = Repository::new();
    let old = library.commit(&[("lib.py", "1")]);
    let repository = Repository::new();
    repository.git(&["submodule", "--quiet", "add", library.path.to_str().unwrap(), "vendor/lib"]);
    repository.commit(&[("a", "1")]);
    let commit = repository.head();
    // The library's own address is no longer there: the copy in the project's repository is enough.
    fs::rename(&library.path, library.folder.path().join("moved")).unwrap();
    let checkout = repository.checkout(&commit, &[]);
    fs::write(checkout.root().join("vendor/lib/stray"), "").unwrap();
    let root = checkout.root().to_owned();
    drop(checkout);
    let checkout = repository.checkout(&commit, &[]);
    assert_eq!(git(&root.join("vendor/lib"), &["rev-parse", "HEAD"]), old);
    let text = listed(checkout.root());
    assert!(text.ends_with("a=1 vendor/ vendor/lib/ vendor/lib/lib.py=1"), "{text}");
    drop(checkout);
    repository.git(&["rm", "--quiet", "vendor/lib"]);
    repository.commit(&[("a", "2")]);
    assert_eq!(listed(repository.checkout(&repository.head(), &[]).root()), ".gitmodules= a=2");
}

#[test]
fn a_partial_clone_gets_what_it_lacks() {
    let upstream = Repository::new();
    upstream.commit(&[("a", "1")]);
    upstream.commit(&[("a", "2")]);
    upstream.git(&["config", "uploadpack.allowFilter", "true"]);
    upstream.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let address = format!("file://{}", upstream.path.display());
    git(upstream.folder.path(), &["clone", "--quiet", "--filter=blob:none", &address, "clone"]);
    let repository = Repository::at(upstream.folder.path().join("clone"), upstream.folder);
    let commit = repository.revision("HEAD~1").unwrap();
    assert_eq!(listed(repository.checkout(&commit, &[]).root()), "a=1");
}

#[test]
fn the_users_repository_stays_as_it_is() {
    let repository = Repository::new();
    repository.commit(&[("a", "1")]);
    let state = || {
        let refs = repository.git(&["for-each-ref"]);
        let config = fs::read_to_string(repository.path.join(".git/config")).unwrap();
        let index = fs::metadata(repository.path.join(".git/index")).unwrap().modified().unwrap();
        (refs, config, index, repository.git(&["worktree", "list"]))
    };
    let before = state();
    let checkout = repository.checkout(&repository.head(), &[]);
    assert_eq!(fs::metadata(checkout.root().join("a")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(state(), before);
}

fn tar(folder: &Path, arguments: &[&str]) {
    let output = Command::new("tar").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn archives_are_unpacked_whatever_packed_them() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    fs::create_dir_all(from.join("d/empty")).unwrap();
    fs::write(from.join("d/x"), "x").unwrap();
    fs::set_permissions(from.join("d/x"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(from.join("n".repeat(200)), "long").unwrap();
    fs::hard_link(from.join("d/x"), from.join("hard")).unwrap();
    std::os::unix::fs::symlink("d/x", from.join("soft")).unwrap();
    let expected = listed(&from);
    for (name, option) in
        [("a.tar", "--format=gnu"), ("a.tar.gz", "--gzip"), ("a.tzst", "--zstd"), ("p.tar", "--format=pax")]
    {
        tar(&from, &["-c", option, "-f", &format!("../{name}"), "."]);
        let unpacked = unpack(&folder.path().join(name), &folder.path().join("tmp")).unwrap();
        assert_eq!(listed(unpacked.path()), expected, "{name}");
        let metadata = fs::metadata(unpacked.path().join("d/x")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o750);
        assert_eq!(
            metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
            fs::metadata(from.join("d/x"))
                .unwrap()
                .modified()
                .unwrap()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        );
    }
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "temporary folders are removed");
    let bytes = fs::read(folder.path().join("a.tar.gz")).unwrap();
    fs::write(folder.path().join("cut.tar.gz"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.path().join("text"), "no archive".repeat(100)).unwrap();
    fs::write(folder.path().join("nothing"), "").unwrap();
    tar(&from, &["-c", "-f", "../empty.tar", "-T", "/dev/null"]);
    for name in ["cut.tar.gz", "text", "nothing", "empty.tar", "missing"] {
        assert!(unpack(&folder.path().join(name), folder.path()).is_err(), "{name}");
    }
}

/// Writes an archive that no honest program writes.
fn hostile(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link) in entries {
        let mut header = tar::Header::new_gnu();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

#[test]
fn archives_that_reach_out_are_refused() {
    use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outside"), "safe").unwrap();
    let absolute = folder.path().join("tmp-x").display().to_string();
    let cases: &[&[(tar::EntryType, &str, &str)]] = &[
        &[(Regular, "../outside", "")],
        &[(Regular, "a/../../outside", "")],
        &[(Regular, &absolute, "")],
        &[(Symlink, "s", ".."), (Regular, "s/outside", "")],
        &[(Symlink, "s", "."), (Regular, "s/x", "")],
        &[(Symlink, "s", "/tmp"), (Directory, "s", ""), (Regular, "s/x", "")],
        &[(Link, "h", "../outside")],
        &[(Link, "h", "/etc/passwd")],
        &[(Symlink, "s", ".."), (Link, "h", "s/outside")],
        &[(Symlink, "s", "../outside"), (Link, "h", "s")],
        &[(Link, "h", "missing")],
        &[(Directory, "d", ""), (Regular, "d", "")],
        &[(Regular, "f", ""), (Regular, "f/x", "")],
        &[(Char, "c", "")],
        &[(Block, "b", "")],
        &[(Fifo, "p", "")],
    ];
    for (number, entries) in cases.iter().enumerate() {
        let archive = folder.path().join("archive");
        fs::write(&archive, hostile(entries)).unwrap();
        let result = unpack(&archive, &folder.path().join("tmp"));
        if number == 5 {
            // tar replaces the link by the folder; nothing reached out.
            assert_eq!(listed(result.unwrap().path()), "s/ s/x=");
        } else {
            assert!(result.is_err(), "{entries:?}");
        }
    }
    assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "safe");
    assert!(!Path::new(&absolute).exists());
    // A later entry of the same name takes the place of the earlier, also of a link.
    fs::write(folder.path().join("archive"), hostile(&[(Symlink, "s", "../outside"), (Regular, "s", "")])).unwrap();
    assert_eq!(listed(unpack(&folder.path().join("archive"), folder.path()).unwrap().path()), "s=");
}
