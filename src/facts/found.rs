//! What a host has of what `ship setup` wants: files, units, packages. The questions and their parser.
//!
//! Every question changes nothing and succeeds on any host, so that they travel together. What only root may
//! see is asked again through sudo, with one exact command each. Deliberately absent: deciding (`step`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::command::{Command, join, quote};
use crate::layout::Layout;

/// A file larger than this is no settings file; its contents are not read.
const LARGEST: u64 = 1024 * 1024;

/// How `stat` prints what [`Entry`] takes: GNU's and BusyBox's, in every language.
const FORMAT: &str = "%f/%U/%G/%u/%g/%s";

/// The contents of a file. They may be secret: never shown by `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(Arc<Zeroizing<Vec<u8>>>);

impl Bytes {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A regular file; `None` where its contents were not asked for, or it is too large for settings.
    File(Option<Bytes>),
    /// A folder.
    Directory,
    /// A link to this.
    Link(String),
    /// A device, a socket or a pipe.
    Other,
}

/// What stands at a path, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub thing: Thing,
    /// Its permission bits.
    pub mode: u32,
    /// Name and number of its owner.
    pub owner: [String; 2],
    /// Name and number of its group.
    pub group: [String; 2],
}

/// What systemd knows of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `enabled`, `disabled`, `static` …; empty where there is no such unit.
    pub file_state: String,
    /// `active`, `inactive`, `failed` …
    pub active: String,
    /// Whether its file on the disk is another than the one that was read.
    pub needs_reload: bool,
}

/// What is asked of a host.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Absolute paths, and whether the contents are wanted.
    pub paths: BTreeMap<String, bool>,
    /// Units.
    pub units: BTreeSet<String>,
    /// Debian packages.
    pub packages: BTreeSet<String>,
    /// Users and groups that have to be there.
    pub users: BTreeSet<String>,
    /// Groups that have to be there.
    pub groups: BTreeSet<String>,
    /// Shell text whose status 0 says that a step is done.
    pub questions: BTreeSet<String>,
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What stands at each path; a path that is not there has nothing.
    pub entries: BTreeMap<String, Entry>,
    /// What systemd knows of each unit.
    pub units: BTreeMap<String, Unit>,
    /// The packages that are installed.
    pub packages: BTreeSet<String>,
    /// Users and their first groups.
    pub users: BTreeMap<String, String>,
    /// Groups.
    pub groups: BTreeSet<String>,
    /// The questions whose answer is yes.
    pub answers: BTreeSet<String>,
    /// TCP ports that something listens on.
    pub listening: BTreeSet<u16>,
    /// A folder that the login user may write to, for what is on its way.
    pub stage: Option<String>,
    /// Paths that only root may see, each with the nearest folder above it that the login user sees.
    hidden: BTreeMap<String, String>,
    /// Files that only root may read.
    unreadable: BTreeSet<String>,
}

impl Look {
    /// The questions, in the order in which [`Found::parse`] takes the answers.
    pub fn commands(&self, layout: &Layout) -> Vec<Command> {
        let mut commands = vec![self.host(layout), self.systemd()];
        commands.extend(
            self.questions
                .iter()
                .map(|text| Command::shell(format!("( {text}\n) >/dev/null 2>&1 && echo yes; :")).directory("/")),
        );
        commands.extend(self.paths.iter().map(|(path, contents)| place(path, *contents)));
        commands
    }

    fn host(&self, layout: &Layout) -> Command {
        let words = |words: &BTreeSet<String>| join(words.iter().map(String::as_str));
        let each = |name: &str, all: &BTreeSet<String>, body: &str| {
            if all.is_empty() { String::new() } else { format!("for {name} in {}; do {body}; done\n", words(all)) }
        };
        let packages = if self.packages.is_empty() {
            String::new()
        } else {
            // What was removed but not purged is known too, and is not installed.
            let format = quote("${db:Status-Status} ${Package}\\n").into_owned();
            format!("dpkg-query -W -f {format} {} 2>/dev/null | grep '^installed '\n", words(&self.packages))
        };
        Command::shell(format!(
            "{users}{groups}{packages}\
             for d in \"$HOME\" {records} /tmp; do [ -d \"$d\" ] && [ -w \"$d\" ] && printf 'stage %s\\n' \"$d\" && break; done\n\
             cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == \"0A\" {{ print \"listening \" $2 }}'\n\
             :",
            users = each("u", &self.users, "g=$(id -gn \"$u\" 2>/dev/null) && printf 'user %s %s\\n' \"$u\" \"$g\""),
            groups = each(
                "g",
                &self.groups,
                "{ getent group \"$g\" || grep \"^$g:\" /etc/group; } >/dev/null 2>&1 && printf 'group %s\\n' \"$g\""
            ),
            records = quote(&layout.records()),
        ))
    }

    fn systemd(&self) -> Command {
        if self.units.is_empty() {
            return Command::argv(["true"]);
        }
        Command::shell(format!(
            "systemctl show --no-pager --property=LoadState,ActiveState,UnitFileState,NeedDaemonReload -- {} 2>/dev/null; :",
            join(self.units.iter().map(String::as_str))
        ))
    }
}

/// What stands at `path`, as far as the login user may see it.
fn place(path: &str, contents: bool) -> Command {
    let read = if contents {
        format!(
            "elif [ -f \"$p\" ] && [ \"$(stat -c %s \"$p\")\" -le {LARGEST} ]; then \
             if [ -r \"$p\" ]; then echo contents; cat \"$p\"; else echo unreadable; fi; "
        )
    } else {
        String::new()
    };
    Command::shell(format!(
        "p={}\n\
         if [ -e \"$p\" ] || [ -L \"$p\" ]; then stat -c {FORMAT} \"$p\"; \
         if [ -L \"$p\" ]; then readlink \"$p\"; {read}fi\n\
         else d=$p; while [ ! -d \"$d\" ]; do d=$(dirname \"$d\"); done; [ -x \"$d\" ] || printf 'hidden %s\\n' \"$d\"; fi\n\
         :",
        quote(path)
    ))
}

impl Found {
    /// Reads the answers to [`Look::commands`]. Lines that make no sense are left out: they come from a host.
    pub fn parse(look: &Look, outputs: &[Vec<u8>]) -> Self {
        let mut found = Self::default();
        let mut outputs = outputs.iter();
        let text =
            |output: Option<&Vec<u8>>| String::from_utf8_lossy(output.map_or(&[][..], Vec::as_slice)).into_owned();
        for line in text(outputs.next()).lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            found.take(key, value);
        }
        let shown = text(outputs.next());
        for (name, block) in look.units.iter().zip(shown.split("\n\n")) {
            found.units.insert(name.clone(), unit(block));
        }
        for (question, output) in look.questions.iter().zip(outputs.by_ref().take(look.questions.len())) {
            if output.trim_ascii() == b"yes" {
                found.answers.insert(question.clone());
            }
        }
        for (path, output) in look.paths.keys().zip(outputs) {
            found.place(path, output);
        }
        found
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "user" => {
                if let Some((user, group)) = value.split_once(' ') {
                    self.users.insert(user.to_owned(), group.to_owned());
                }
            }
            "group" => {
                self.groups.insert(value.to_owned());
            }
            "installed" => {
                self.packages.insert(value.to_owned());
            }
            "stage" => self.stage = Some(value.trim_end_matches('/').to_owned()),
            // `0100007F:1F90`: the port is the same in both files, and in hexadecimal.
            "listening" => {
                let port = value.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
                self.listening.extend(port);
            }
            _ => {}
        }
    }

    fn place(&mut self, path: &str, output: &[u8]) {
        let (first, rest) = line(output);
        if let Some(folder) = first.strip_prefix("hidden ") {
            self.hidden.insert(path.to_owned(), folder.to_owned());
            return;
        }
        let Some(mut entry) = entry(&first) else { return };
        let (second, contents) = line(rest);
        match (&mut entry.thing, second.as_str()) {
            (Thing::Link(target), second) => *target = second.to_owned(),
            (Thing::File(kept), "contents") => *kept = Some(Bytes::new(contents.to_vec())),
            (Thing::File(_), "unreadable") => {
                self.unreadable.insert(path.to_owned());
            }
            _ => {}
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// What only root can answer about paths that the login user may not even see, and about which path each is.
    /// Every command succeeds where sudo allows it.
    pub fn hidden(&self) -> Vec<(String, Command)> {
        let ask = |(path, folder): (&String, &String)| {
            let below = path.strip_prefix(folder.as_str()).unwrap_or(path).trim_matches('/');
            let depth = below.split('/').count().to_string();
            // `-path` takes a pattern.
            let pattern: String =
                path.chars().flat_map(|c| "*?[\\".contains(c).then_some('\\').into_iter().chain([c])).collect();
            let find =
                ["find", folder, "-maxdepth", &depth, "-path", &pattern, "-exec", "stat", "-c", FORMAT, "{}", ";"];
            (path.clone(), Command::argv(find).sudo())
        };
        self.hidden.iter().map(ask).collect()
    }

    /// Takes root's answer about a hidden path. A link there is as good as something else: ship leaves it alone.
    pub fn reveal(&mut self, look: &Look, path: &str, output: &[u8]) {
        self.hidden.remove(path);
        let (first, _) = line(output);
        let Some(found) = entry(&first) else { return };
        let size = first.rsplit('/').next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
        if matches!(found.thing, Thing::File(_)) && size <= LARGEST && look.paths.get(path) == Some(&true) {
            self.unreadable.insert(path.to_owned());
        }
        self.entries.insert(path.to_owned(), found);
    }

    /// Reads as root what the login user may not read.
    pub fn unreadable(&self) -> Vec<(String, Command)> {
        self.unreadable.iter().map(|path| (path.clone(), Command::argv(["cat", path]).sudo())).collect()
    }

    /// Takes the contents that root read.
    pub fn fill(&mut self, path: &str, contents: Vec<u8>) {
        self.unreadable.remove(path);
        if let Some(Entry { thing: Thing::File(kept), .. }) = self.entries.get_mut(path) {
            *kept = Some(Bytes::new(contents));
        }
    }
}

/// The first line of `output`, and what follows it.
fn line(output: &[u8]) -> (String, &[u8]) {
    let end = output.iter().position(|byte| *byte == b'\n').unwrap_or(output.len());
    let (first, rest) = output.split_at_checked(end).unwrap_or((output, &[]));
    (String::from_utf8_lossy(first).into_owned(), rest.get(1..).unwrap_or_default())
}

/// One line of `stat -c` [`FORMAT`].
fn entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.split('/').collect();
    let [mode, owner, group, uid, gid, _] = fields.as_slice() else { return None };
    let mode = u32::from_str_radix(mode, 16).ok()?;
    // The types of files as Linux numbers them (inode(7)).
    let thing = match mode & 0o170_000 {
        0o100_000 => Thing::File(None),
        0o040_000 => Thing::Directory,
        0o120_000 => Thing::Link(String::new()),
        _ => Thing::Other,
    };
    Some(Entry {
        thing,
        mode: mode & 0o7777,
        owner: [(*owner).to_owned(), (*uid).to_owned()],
        group: [(*group).to_owned(), (*gid).to_owned()],
    })
}

/// One block of `systemctl show`.
fn unit(block: &str) -> Unit {
    let mut unit = Unit::default();
    for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "ActiveState" => unit.active = value.to_owned(),
            "UnitFileState" => unit.file_state = value.to_owned(),
            "NeedDaemonReload" => unit.needs_reload = value == "yes",
            _ => {}
        }
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(paths: &[&str]) -> Look {
        Look { paths: paths.iter().map(|path| ((*path).to_owned(), true)).collect(), ..Look::default() }
    }

    fn run(command: &Command) -> Vec<u8> {
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(command.to_shell()).output().expect("sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn files_folders_links_and_nothing_are_told_apart_on_a_real_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("it's a file"), b"hidden /\n\xff\n").expect("a file");
        std::fs::write(at("empty"), b"").expect("a file");
        std::fs::create_dir(at("folder")).expect("a folder");
        std::os::unix::fs::symlink("folder", at("link")).expect("a link");
        let names = ["it's a file", "empty", "folder", "link", "none/at/all"].map(at);
        let look = look(&names.each_ref().map(String::as_str));
        let outputs: Vec<Vec<u8>> = look.commands(&Layout::new("/srv/x")).iter().map(run).collect();
        let found = Found::parse(&look, &outputs);
        let thing = |name: &str| found.entries.get(&at(name)).map(|entry| entry.thing.clone());
        assert_eq!(thing("it's a file"), Some(Thing::File(Some(Bytes::new(b"hidden /\n\xff\n".to_vec())))));
        assert_eq!(thing("empty"), Some(Thing::File(Some(Bytes::new(Vec::new())))));
        assert_eq!(thing("folder"), Some(Thing::Directory));
        assert_eq!(thing("link"), Some(Thing::Link("folder".to_owned())));
        assert_eq!(thing("none/at/all"), None);
        assert!(found.hidden().is_empty() && found.stage.is_some());
    }

    #[test]
    fn what_only_root_may_see_is_asked_with_one_exact_command() {
        let look = look(&["/etc/sudoers.d/ship-a[1]", "/root/key"]);
        let outputs =
            [&b""[..], b"", b"hidden /etc/sudoers.d\n", b"8180/root/root/0/0/5\nunreadable\n"].map(<[u8]>::to_vec);
        let mut found = Found::parse(&look, &outputs);
        let shown: Vec<String> = found.hidden().iter().map(|(_, command)| command.display()).collect();
        assert_eq!(
            shown,
            [
                r"sudo find /etc/sudoers.d -maxdepth 1 -path '/etc/sudoers.d/ship-a\[1]' -exec stat -c %f/%U/%G/%u/%g/%s '{}' ';'"
            ]
        );
        found.reveal(&look, "/etc/sudoers.d/ship-a[1]", b"8120/root/root/0/0/9\n");
        let shown: Vec<String> = found.unreadable().iter().map(|(_, command)| command.display()).collect();
        assert_eq!(shown, ["sudo cat '/etc/sudoers.d/ship-a[1]'", "sudo cat /root/key"]);
        found.fill("/root/key", b"12345".to_vec());
        let entry = found.entries.get("/root/key").expect("an entry");
        assert_eq!(entry.thing, Thing::File(Some(Bytes::new(b"12345".to_vec()))));
    }

    #[test]
    fn the_rest_of_the_answers() {
        let look = Look {
            units: ["a.socket".to_owned(), "b".to_owned()].into(),
            questions: ["true".to_owned(), "false".to_owned()].into(),
            ..Look::default()
        };
        let host = b"user ann staff\ngroup www-data\ninstalled nginx\nstage /home/ann/\nlistening 00000000:0050\nlistening rubbish\nrubbish\n";
        let units = b"LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=yes\n\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n";
        let found = Found::parse(&look, &[host.to_vec(), units.to_vec(), b"".to_vec(), b"yes\n".to_vec()]);
        assert_eq!(found.users.get("ann").map(String::as_str), Some("staff"));
        assert_eq!((found.listening.len(), found.listening.contains(&80)), (1, true));
        assert_eq!(found.stage.as_deref(), Some("/home/ann"));
        assert!(found.units.get("a.socket").is_some_and(|unit| unit.needs_reload && unit.active == "active"));
        assert!(found.units.get("b").is_some_and(|unit| unit.file_state.is_empty()));
        assert_eq!(found.answers, ["true".to_owned()].into());
    }
}
