//! `detach`: a command that goes on when the connection, the laptop or ship itself is gone, and is found again.
//!
//! On the host it has a folder of its own below `.ship/detached/`, named by a digest of what it does. It is alive
//! for as long as a flock(2) on the file `alive` is held, which the kernel frees on any death: no process id is
//! ever looked at. The deploy lock is none of its business: the shell that starts it keeps that to itself.
//! Deliberately absent: following it (`execute`).

use std::collections::BTreeMap;

use sha2::Digest as _;

use crate::command::{AS_ROOT, Command, EnvValue, join, quote};
use crate::facts::{Detached as Known, DetachedState, Facts};
use crate::layout::{Layout, ReleaseId};

/// What [`Detached::start`] ends with where the same command is running already.
pub const RUNS: i32 = 3;
/// What [`Detached::start`] ends with where the same command has succeeded already.
pub const SUCCEEDED: i32 = 4;
/// What [`Detached::follow`] ends with where the command still runs.
pub const GOES_ON: i32 = 72;
/// What [`Detached::follow`] ends with where nobody runs the command any more and it left no status.
pub const VANISHED: i32 = 71;
/// What [`Detached::carry`] ends with where what the command made names the folder that it was made in.
pub const BOUND: i32 = 75;

/// How long [`Detached::follow`] looks before it says [`GOES_ON`], in tenths of a second. It holds up the shell
/// that holds the deploy lock, also when nobody listens any more.
const PATIENCE: u32 = 50;

/// A command that runs detached.
#[derive(Clone, Debug, PartialEq)]
pub struct Detached {
    /// The command as it would run attached.
    pub command: Command,
    /// Its name, for people who look at the host.
    name: String,
    /// What tells it from the other commands of the recipe.
    place: usize,
    release: ReleaseId,
    layout: Layout,
    /// Names the folder.
    key: String,
    /// A digest of the files and settings that it works on.
    tree: String,
    /// What the survey saw, of all.
    seen: BTreeMap<String, Known>,
}

impl Detached {
    /// `command` of the step at `place` of the recipe, for `release`.
    pub fn new(command: Command, name: &str, place: usize, layout: &Layout, release: &ReleaseId) -> Self {
        let (name, layout, release) = (name.to_owned(), layout.clone(), release.clone());
        let (key, tree) = (String::new(), String::new());
        Self { command, name, place, release, layout, key, tree, seen: BTreeMap::new() }
    }

    /// Names it by what it does, what it works on and in which environment. The release's own name and paths do
    /// not count, so that the next deploy of the same thing finds it.
    pub fn of(self, tree: &str, facts: &Facts) -> Self {
        let tree = sha2::Sha256::digest(tree.replace(self.release.as_str(), "{release}"));
        let tree = tree.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { tree, seen: facts.detached.clone(), ..self }.named()
    }

    /// Another command of the same step, on the same files: for one that is known only when a host has answered.
    pub fn running(&self, name: &str, command: Command) -> Self {
        Self { name: name.to_owned(), command, ..self.clone() }.named()
    }

    fn named(self) -> Self {
        let mut digest = sha2::Sha256::new();
        let mut add = |text: &str| {
            digest.update(text.replace(self.release.as_str(), "{release}"));
            digest.update([0]);
        };
        add(&self.tree);
        add(&self.place.to_string());
        add(&self.command.words());
        add(self.command.folder().unwrap_or_default());
        for (name, value) in self.command.environment() {
            add(name);
            add(match value {
                EnvValue::Plain(value) => value,
                EnvValue::Secret(secret) => secret.expose(),
            });
        }
        let key: String = digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Self { key, ..self }
    }

    /// The release that it works in when it is started now.
    pub fn release(&self) -> &ReleaseId {
        &self.release
    }

    /// What the plan says of it.
    pub fn outlook(&self) -> &'static str {
        match self.seen.get(&self.key).map(|known| &known.state) {
            Some(DetachedState::Runs) => "detached: it runs there already, and is followed to its end",
            Some(DetachedState::Ended(0)) => "detached: it succeeded there already, and is taken up",
            _ => "detached: it goes on when the connection is lost, and is found again",
        }
    }

    fn folder(&self) -> String {
        format!("{}/{}", self.layout.detached(), self.key)
    }

    /// Where what it prints is kept on the host.
    pub fn log(&self) -> String {
        format!("{}/log", self.folder())
    }

    /// Starts it, unless it runs or has succeeded; prints the release that it works in.
    ///
    /// A success whose products in the release's folder are gone with that folder is none. `began` is older than
    /// anything that the command makes: the kernel stamps files by a clock that ticks every few milliseconds.
    pub fn start(&self) -> Command {
        let release = quote(self.release.as_str());
        let Some(argv) = self.command.sudo_argv() else {
            let words = self.command.words();
            let keeper = format!("setsid /bin/sh -c {} sh \"$d\" \"$w\"{release} {words}", quote(KEEPER));
            return self.command.with_text(self.starting(&keeper));
        };
        // The shell has sudo's password, and nothing that it starts: a part of the shell itself is the keeper.
        let words = join(argv.iter().map(String::as_str));
        let keeper = format!("( set -- \"$d\" \"$w\"{release} {AS_ROOT} {words}; {KEEPER} )");
        let text = self.starting(&keeper);
        let folder = self.command.folder().map(|folder| format!("cd -- {} || exit 125; ", quote(folder)));
        Command::session(format!(
            "( command -v {AS_ROOT} >/dev/null || {AS_ROOT}() {{ sudo -n -- \"$@\"; }}; {}{text} ) </dev/null 8>&-",
            folder.unwrap_or_default()
        ))
    }

    fn starting(&self, keeper: &str) -> String {
        format!(
            "mask=$(umask); umask 077; d={folder}; mkdir -p \"$d\" && exec 7>>\"$d/alive\" || exit 70\n\
             w={releases}/\n\
             r=$(cat \"$d/release\" 2>/dev/null)\n\
             flock -w 1 7 || {{ printf '%s\\n' \"$r\"; exit {RUNS}; }}\n\
             if [ \"$(cat \"$d/status\" 2>/dev/null)\" = 0 ] && {{ [ ! -e \"$d/products\" ] || [ -d \"$w$r\" ]; }}; then printf '%s\\n' \"$r\"; exit {SUCCEEDED}; fi\n\
             rm -f \"$d/status\" \"$d/products\" && printf '%s\\n' {release} >\"$d/release\" && printf '%s\\n' {name} >\"$d/name\" && : >\"$d/began\" && : >\"$d/log\" || exit 70\n\
             n=0; while [ $n -lt 1000 ] && : >\"$d/log\" && [ -z \"$(find \"$d/log\" -newer \"$d/began\")\" ]; do n=$((n + 1)); done\n\
             umask \"$mask\"\n\
             {keeper} </dev/null >/dev/null 2>&1 &\n\
             printf '%s\\n' {release}",
            folder = quote(&self.folder()),
            releases = quote(&self.layout.releases()),
            release = quote(self.release.as_str()),
            name = quote(&self.name),
        )
    }

    /// Prints what the command printed from `offset` on, until it ends, but not for long.
    pub fn follow(&self, offset: u64) -> Command {
        Command::shell(format!(
            "d={folder}; o={offset}; n=0\n\
             while :; do\n\
             e={GOES_ON}; if [ -e \"$d/status\" ]; then e=0; elif flock -n -s \"$d/alive\" true; then e={VANISHED}; [ ! -e \"$d/status\" ] || e=0; fi\n\
             s=$(wc -c <\"$d/log\") || exit {VANISHED}\n\
             if [ \"$s\" -gt \"$o\" ]; then tail -c +$((o + 1)) \"$d/log\" | head -c $((s - o)) || exit {GOES_ON}; o=$s; continue; fi\n\
             [ $e = {GOES_ON} ] && [ $n -lt {PATIENCE} ] || exit $e\n\
             n=$((n + 1)); sleep 0.1 2>/dev/null || {{ sleep 1; n=$((n + 10)); }}\n\
             done",
            folder = quote(&self.folder()),
        ))
    }

    /// Prints the status that the command ended with.
    pub fn status(&self) -> Command {
        Command::argv(["cat".to_owned(), format!("{}/status", self.folder())])
    }

    /// Copies what the command made in the folder of the release `from` into that of this one.
    ///
    /// Files that name the folder that they were made in, as those of a Python environment do, are of no use in
    /// another one: then the status is [`BOUND`]. So it is where tar is not GNU's, which copies a list of names that may
    /// hold any byte.
    pub fn carry(&self, from: &ReleaseId) -> Command {
        Command::shell(format!(
            "d={folder}; [ -e \"$d/products\" ] || exit 0; umask 0; cd {from} || exit\n\
             found() {{ find . \\( -type f -o -type l -o -type d \\) -cnewer \"$d/began\" \"$@\"; }}\n\
             [ -z \"$(found -type f -exec grep -lF {id} {{}} + | head -n 1)\" ] && [ -z \"$(found -type l -exec readlink {{}} \\; | grep -F {id})\" ] || exit {BOUND}\n\
             case $(tar --version 2>/dev/null) in *GNU*) ;; *) exit {BOUND};; esac\n\
             found -print0 | tar -cf - --null --no-recursion -T - | tar -xpof - -C {to}",
            folder = quote(&self.folder()),
            to = quote(&self.layout.release(&self.release)),
            from = quote(&self.layout.release(from)),
            id = quote(from.as_str()),
        ))
    }

    /// Forgets how it ended, so that [`Detached::start`] starts it anew.
    pub fn forget(&self) -> Command {
        Command::argv(["rm".to_owned(), "-f".to_owned(), format!("{}/status", self.folder())])
    }
}

/// Holds descriptor 7, the sign of life, which the command itself has not: what it leaves running is not it.
///
/// SIGPIPE is left alone, for it means something within the command. `$0` is `sh`, then come the folder, the
/// release's folder and the command.
const KEEPER: &str = "trap '' HUP; d=$1 w=$2; shift 2; \"$@\" </dev/null >>\"$d/log\" 2>&1 7>&-; r=$?; umask 077; \
     [ -z \"$(find \"$w\" -cnewer \"$d/began\" 2>/dev/null | head -n 1)\" ] || : >\"$d/products\"; \
     printf '%s\\n' $r >\"$d/status.new\"; sync \"$d/log\" \"$d/status.new\" 2>/dev/null || sync; mv -f \"$d/status.new\" \"$d/status\"";

/// Removes the records of detached commands of which none runs any more.
pub fn clear(layout: &Layout) -> Command {
    Command::shell(format!(
        "for d in {}/*/; do [ ! -e \"$d/alive\" ] || flock -n \"$d/alive\" rm -rf \"$d\" || :; done",
        quote(&layout.detached())
    ))
}

/// Forgets successes whose products go with the folder of `release`; its name may come again within its second.
pub fn discard(layout: &Layout, release: &ReleaseId) -> Command {
    Command::shell(format!(
        "for d in {}/*/; do [ ! -e \"$d/products\" ] || [ \"$(cat \"$d/release\")\" != {release} ] || rm -f \"$d/status\"; done",
        quote(&layout.detached())
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command as Process, Output, Stdio};

    use super::*;
    use crate::secret::Secret;

    fn id(second: u32) -> ReleaseId {
        ReleaseId::new(&format!("20261121T1015{second:02}Z"), "aaaaaaa").expect("an id")
    }

    /// A host with the folder of each release.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new(releases: &[u32]) -> Self {
            let place = Self(tempfile::tempdir().expect("a folder"));
            for release in releases {
                std::fs::create_dir_all(place.release(*release)).expect("a release");
            }
            place
        }

        fn release(&self, second: u32) -> PathBuf {
            self.0.path().join("it's/releases").join(id(second).as_str())
        }

        fn layout(&self) -> Layout {
            Layout::new(&self.0.path().join("it's").to_string_lossy())
        }

        fn detached(&self, release: u32, text: &str) -> Detached {
            let folder = self.release(release).to_string_lossy().into_owned();
            let command = Command::shell(text).directory(folder);
            Detached::new(command, "Build it", 0, &self.layout(), &id(release)).of("tree", &Facts::default())
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }
    }

    fn process(command: &Command) -> Process {
        let mut process = Process::new("/bin/sh");
        process.arg("-c").arg(command.to_shell()).stdin(Stdio::null());
        process
    }

    fn run(command: &Command) -> (i32, String) {
        let Output { status, stdout, stderr } = process(command).output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&stderr), "");
        (status.code().unwrap_or(-1), String::from_utf8(stdout).expect("text"))
    }

    /// Follows to the end, as from `offset`.
    fn end(detached: &Detached, mut offset: u64) -> (i32, String) {
        let mut all = String::new();
        loop {
            let (status, text) = run(&detached.follow(offset));
            offset += text.len() as u64;
            all.push_str(&text);
            match status {
                GOES_ON => {}
                0 => return (run(&detached.status()).1.trim().parse().expect("a status"), all),
                other => return (other, all),
            }
        }
    }

    fn pipe(path: &Path) {
        assert!(Process::new("mkfifo").arg(path).status().expect("mkfifo").success());
    }

    #[test]
    fn it_runs_once_and_every_byte_is_seen_from_any_offset() {
        let place = Place::new(&[1, 2]);
        let (gate, count) = (place.at("gate"), place.at("count"));
        pipe(&gate);
        let text = format!(
            "echo begin; echo x >>'{}'; read -r _ <'{}'; printf 'end\\n\\0x' >&2; exit 7",
            count.display(),
            gate.display()
        );
        let first = place.detached(1, &text);
        let started = format!("{}\n", id(1));
        assert_eq!(run(&first.start()), (0, started.clone()));
        // Another deploy of the same thing finds it, whatever its release is called.
        let second = place.detached(2, &text);
        assert_eq!(run(&second.start()), (RUNS, started));
        let (status, seen) = run(&second.follow(0));
        assert_eq!((status, seen.as_str()), (GOES_ON, "begin\n"));
        std::fs::write(&gate, "\n").expect("the gate");
        assert_eq!(end(&second, 3), (7, "in\nend\n\0x".to_owned()));
        assert_eq!(std::fs::read_to_string(&count).expect("the count"), "x\n");
        // What failed is started anew.
        assert_eq!(run(&second.start()), (0, format!("{}\n", id(2))));
        std::fs::write(&gate, "\n").expect("the gate");
        assert_eq!(end(&second, 0).0, 7);
        assert_eq!(std::fs::read_to_string(&count).expect("the count"), "x\nx\n");
        run(&clear(&place.layout()));
        assert!(!Path::new(&second.log()).exists());
    }

    #[test]
    fn a_success_is_taken_and_what_it_made_goes_along() {
        let place = Place::new(&[1, 2]);
        std::fs::write(place.release(1).join("before"), "old").expect("a file");
        std::fs::write(place.release(2).join("before"), "new").expect("a file");
        let text = "mkdir -p dist/empty; echo made >dist/a; ln -s a dist/b; printf 1 >'odd\nname'";
        let first = place.detached(1, text);
        assert_eq!(run(&first.start()).0, 0);
        assert_eq!(end(&first, 0).0, 0);
        let second = place.detached(2, text);
        assert_eq!(run(&second.start()), (SUCCEEDED, format!("{}\n", id(1))));
        assert_eq!(run(&second.carry(&id(1))).0, 0);
        let read = |path: &str| std::fs::read_to_string(place.release(2).join(path)).expect("a file");
        assert_eq!((read("dist/b"), read("odd\nname"), read("before")), ("made\n".into(), "1".into(), "new".into()));
        assert!(place.release(2).join("dist/empty").is_dir() && place.release(2).join("dist/b").is_symlink());
        // Gone with the folder that it made things in, it is no success.
        std::fs::remove_dir_all(place.release(1)).expect("removed");
        assert_eq!(run(&second.start()), (0, format!("{}\n", id(2))));
        assert_eq!(end(&second, 0).0, 0);
    }

    #[test]
    fn what_names_its_own_folder_is_not_carried() {
        for text in ["pwd >activate", "ln -s \"$PWD\" self"] {
            let place = Place::new(&[1, 2]);
            let first = place.detached(1, text);
            assert_eq!(run(&first.start()).0, 0);
            assert_eq!(end(&first, 0).0, 0);
            let second = place.detached(2, text);
            assert_eq!(run(&second.carry(&id(1))).0, BOUND);
            assert_eq!(run(&second.forget()).0, 0);
            assert_eq!(run(&second.start()), (0, format!("{}\n", id(2))));
            assert_eq!(end(&second, 0).0, 0);
        }
    }

    #[test]
    fn without_gnu_tar_nothing_is_carried() {
        let place = Place::new(&[1, 2]);
        let text = "echo made >new";
        assert_eq!(run(&place.detached(1, text).start()).0, 0);
        assert_eq!(end(&place.detached(1, text), 0).0, 0);
        let tar = place.at("tar");
        std::fs::write(&tar, "#!/bin/sh\necho bsdtar 3.6\n").expect("a program");
        std::fs::set_permissions(&tar, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        let carry = place.detached(2, text).carry(&id(1));
        let path = format!("PATH='{}':$PATH; export PATH; {}", place.0.path().display(), carry.to_shell());
        assert_eq!(run(&Command::shell(path)).0, BOUND);
        assert!(!place.release(2).join("new").exists());
        assert_eq!(run(&carry).0, 0);
        assert!(place.release(2).join("new").exists());
    }

    #[test]
    fn nothing_made_means_nothing_to_lose() {
        let place = Place::new(&[1, 2]);
        let first = place.detached(1, "echo done");
        run(&first.start());
        assert_eq!(end(&first, 0), (0, "done\n".to_owned()));
        std::fs::remove_dir_all(place.release(1)).expect("removed");
        let second = place.detached(2, "echo done");
        assert_eq!(run(&second.start()), (SUCCEEDED, format!("{}\n", id(1))));
        assert_eq!(run(&second.carry(&id(1))).0, 0);
    }

    #[test]
    fn it_outlives_who_started_it_and_what_it_leaves_running_is_not_it() {
        let place = Place::new(&[1]);
        let gate = place.at("gate");
        pipe(&gate);
        let text = format!("sleep 60 & echo $!; read -r _ <'{}'; echo end", gate.display());
        let detached = place.detached(1, &text);
        // Started from a process group that is then killed whole, with the deploy lock on descriptor 8.
        let lock = place.at("lock");
        let line = format!(
            "exec 8>>'{}'; flock -n 8 || exit 9; {} 8>&-; sleep 60",
            lock.display(),
            detached.start().to_shell()
        );
        let mut starter = Process::new("/bin/sh");
        starter.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut starter = starter.spawn().expect("sh");
        let mut out = std::io::BufReader::new(starter.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut out, &mut String::new()).expect("a line");
        let group = format!("-{}", starter.id());
        assert!(Process::new("kill").args(["-KILL", "--", &group]).status().expect("kill").success());
        starter.wait().expect("it ends");
        // The deploy lock is free once the kernel has ended the group, though the command goes on.
        assert!(Process::new("flock").args(["-w", "20"]).arg(&lock).arg("true").status().expect("flock").success());
        let (status, seen) = run(&detached.follow(0));
        assert_eq!(status, GOES_ON);
        std::fs::write(&gate, "\n").expect("the gate");
        assert_eq!(end(&detached, seen.len() as u64), (0, "end\n".to_owned()));
        assert_eq!(run(&detached.start()).0, SUCCEEDED);
        assert!(Process::new("kill").arg(seen.trim()).status().expect("kill").success());
    }

    #[test]
    fn a_command_of_root_is_kept_by_a_part_of_the_shell_that_knows_the_password() {
        let place = Place::new(&[1]);
        let gate = place.at("gate");
        pipe(&gate);
        let text = format!("echo root; read -r _ <'{}'; exit 4", gate.display());
        let command = Command::argv(["/bin/sh", "-c", &text]).sudo();
        let detached = Detached::new(command, "Build it", 0, &place.layout(), &id(1)).of("tree", &Facts::default());
        // As the session has it where sudo wants a password: a function, which no process but the shell has.
        let line = format!("{AS_ROOT}() {{ echo \"as root: $1\"; \"$@\"; }}\n{}", detached.start().to_shell());
        let shell = Process::new("/bin/sh").args(["-c", &line]).output().expect("sh");
        assert_eq!((shell.status.code(), shell.stderr), (Some(0), Vec::new()));
        assert_eq!(run(&detached.start()).0, RUNS);
        std::fs::write(&gate, "\n").expect("the gate");
        assert_eq!(end(&detached, 0), (4, "as root: /bin/sh\nroot\n".to_owned()));
    }

    #[test]
    fn one_whose_keeper_was_killed_has_vanished() {
        let place = Place::new(&[1]);
        let detached = place.detached(1, "kill -KILL $(ps -o ppid= -p $PPID) $PPID");
        run(&detached.start());
        assert_eq!(end(&detached, 0).0, VANISHED);
        assert_eq!(run(&detached.start()).0, 0);
    }

    #[test]
    fn the_key_knows_what_counts() {
        let place = Place::new(&[]);
        let key = |release: u32, text: &str, secret: &str, tree: &str, at: usize| {
            let text = text.replace("RELEASE", id(release).as_str());
            let command = Command::shell(text)
                .directory(place.release(release).to_string_lossy().into_owned())
                .env("TOKEN", EnvValue::Secret(Secret::new(secret.to_owned())));
            Detached::new(command, "x", at, &place.layout(), &id(release)).of(tree, &Facts::default()).key
        };
        let one = key(1, "build RELEASE", "s", "t", 0);
        assert_eq!(one, key(2, "build RELEASE", "s", "t", 0));
        for other in [
            key(1, "build", "s", "t", 0),
            key(1, "build RELEASE", "z", "t", 0),
            key(1, "build RELEASE", "s", "u", 0),
            key(1, "build RELEASE", "s", "t", 1),
        ] {
            assert_ne!(one, other);
        }
    }
}
