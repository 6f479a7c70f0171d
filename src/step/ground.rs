//! The ground on which a step of `setup` stands: what is there, what has to change, and how a file comes into place.

use super::diff::{Contents, unified};
use super::owned::Owned;
use super::{Action, Context, Task};
use crate::command::Command;
use crate::facts::found::{Entry, Found, Thing};
use crate::facts::written::Written;

/// What a step knows of the host when it says what has to change.
#[derive(Clone, Debug)]
pub struct Ground<'a> {
    /// The step's name, its limits, the host's facts.
    pub context: &'a Context<'a>,
    /// What the host has.
    pub found: &'a Found,
    /// What ship wrote there before.
    pub written: &'a Written,
    /// Who deploys.
    pub deploy_user: &'a str,
    /// The text that the step wants somewhere.
    pub contents: Option<&'a Contents>,
    /// Where that text is on the host once it was sent.
    pub staged: &'a str,
}

/// What a change is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// A package that is installed.
    Package,
    /// A folder.
    Directory,
    /// A file.
    File,
    /// A unit.
    Unit,
    /// A command that is run.
    Command,
    /// Something that only looks: it is done where something else changes, and is no change itself.
    Check,
}

impl Noun {
    /// The word for `count` of them.
    pub fn words(self, count: usize) -> String {
        let (one, many) = match self {
            Self::Package => ("package", "packages"),
            Self::Directory => ("folder", "folders"),
            Self::File => ("file", "files"),
            Self::Unit => ("unit", "units"),
            Self::Command => ("command", "commands"),
            Self::Check => ("check", "checks"),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }
}

/// One thing that has to change on a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it is counted as.
    pub noun: Noun,
    /// How many of them it is.
    pub count: usize,
    /// What changes, in a line.
    pub title: String,
    /// How a file differs, without its secrets.
    pub diff: Option<String>,
    /// The file that is written.
    pub file: Option<String>,
    /// What stands there was not written by ship.
    pub foreign: bool,
    /// What has to be on the host before.
    pub staged: Option<Contents>,
    /// What is done.
    pub tasks: Vec<Task>,
    /// What is done then, and shows whether it was right.
    pub trial: Vec<Task>,
    /// What puts back the former state where the trial fails.
    pub undo: Vec<Task>,
}

impl Change {
    /// A change that does nothing yet.
    pub fn new(noun: Noun, title: String) -> Self {
        Self {
            noun,
            count: 1,
            title,
            diff: None,
            file: None,
            foreign: false,
            staged: None,
            tasks: Vec::new(),
            trial: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Adds what is done.
    pub fn task(mut self, task: Task) -> Self {
        self.tasks.push(task);
        self
    }
}

/// A file that is wanted at a place.
#[derive(Clone, Debug)]
pub struct Placed<'a> {
    /// The absolute path.
    pub path: &'a str,
    /// Its owner.
    pub owner: String,
    /// Its group.
    pub group: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub contents: &'a Contents,
    /// Whether what stands there now may hold secrets.
    pub private: bool,
    /// A command that judges the file before it is put in place; its path is added.
    pub verify: Vec<String>,
    /// A command that judges it in place; where it fails, the former file comes back.
    pub check: Vec<String>,
    /// Whether that command has to succeed before anything is changed, too.
    pub check_before: bool,
    /// A link that puts it to use, and what the link points at.
    pub link: Option<(&'a str, &'a str)>,
    /// What follows a change.
    pub then: Vec<Vec<String>>,
}

impl<'a> Placed<'a> {
    /// A file, judged by nothing and followed by nothing.
    pub fn new(path: &'a str, owner: String, group: String, mode: u32, contents: &'a Contents) -> Self {
        Self {
            path,
            owner,
            group,
            mode,
            contents,
            private: mode & 0o004 == 0 || !contents.secrets.is_empty(),
            verify: Vec::new(),
            check: Vec::new(),
            check_before: false,
            link: None,
            then: Vec::new(),
        }
    }
}

impl Ground<'_> {
    /// The text that the step wants somewhere.
    pub fn contents(&self) -> Result<&Contents, String> {
        self.contents.ok_or_else(|| format!("the step \"{}\" has no contents", self.context.name))
    }

    /// Whose `path` is to be: the deploy user's inside `deploy_to`, root's elsewhere, unless the recipe says.
    pub fn owner_of(&self, path: &str, owned: &Owned) -> Result<(String, String), String> {
        let usual = if self.is_ours(path) { self.deploy_user } else { "root" };
        let owner = owned.owner.clone().unwrap_or_else(|| usual.to_owned());
        let number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let missing = |what: &str, name: &str| {
            format!(
                "the step \"{}\" wants {path} for the {what} {name}, which the host does not have",
                self.context.name
            )
        };
        let first = self.found.users.get(&owner);
        if first.is_none() && !number(&owner) {
            return Err(missing("user", &owner));
        }
        let group = owned.group.clone().or_else(|| first.cloned()).unwrap_or_else(|| owner.clone());
        let known = self.found.groups.contains(&group) || first == Some(&group) || number(&group);
        if known { Ok((owner, group)) } else { Err(missing("group", &group)) }
    }

    fn is_ours(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.context.layout.root());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A command that changes `path` for `owner`: as root, unless the login user may do it without.
    pub fn act(&self, name: String, path: &str, owner: &str, argv: &[&str]) -> Task {
        let facts = self.context.facts;
        let own = facts.writable && facts.user == owner && self.is_ours(path);
        if own && self.login_has_group(argv) {
            Task::new(name, Action::Command(self.context.limited(Command::argv(argv.iter().copied()))))
        } else {
            self.root(name, argv)
        }
    }

    /// Whether the login user may give files to the group that `argv` names, as far as is known.
    fn login_has_group(&self, argv: &[&str]) -> bool {
        let group = argv.iter().position(|word| *word == "-g").and_then(|at| argv.get(at + 1));
        let own = self.found.users.get(&self.context.facts.user);
        group.is_none_or(|group| own.is_some_and(|own| own == group)) && !argv.contains(&"chown")
    }

    /// One exact command as root.
    pub fn root(&self, name: String, argv: &[&str]) -> Task {
        let program = argv.first().copied().unwrap_or_default();
        let program = self.context.facts.program(program).unwrap_or(program);
        let words = std::iter::once(program).chain(argv.iter().skip(1).copied());
        Task::new(name, Action::Command(self.context.limited(Command::argv(words).sudo())))
    }

    /// Corrects owner, group and mode of what is there, as far as they are given.
    pub fn attributes(
        &self,
        noun: Noun,
        path: &str,
        entry: &Entry,
        owner: Option<&str>,
        group: Option<&str>,
        mode: Option<u32>,
    ) -> Option<Change> {
        let is = |names: &[String; 2], wanted: &str| names.iter().any(|name| name == wanted);
        let owner = owner.filter(|owner| !is(&entry.owner, owner));
        let group = group.filter(|group| !is(&entry.group, group));
        let mode = mode.filter(|mode| *mode != entry.mode);
        let mut what = Vec::new();
        let mut tasks = Vec::new();
        if owner.is_some() || group.is_some() {
            let to =
                format!("{}{}", owner.unwrap_or_default(), group.map(|group| format!(":{group}")).unwrap_or_default());
            what.push(format!("owner {}:{} becomes {to}", entry.owner.join("/"), entry.group.join("/")));
            tasks.push(self.root(format!("Give {path} to {to}"), &["chown", "-h", &to, path]));
        }
        if let Some(mode) = mode {
            let mode = format!("{mode:04o}");
            what.push(format!("mode {:04o} becomes {mode}", entry.mode));
            let current = entry.owner.first().map(String::as_str).unwrap_or_default();
            tasks.push(self.act(format!("Set the mode of {path}"), path, current, &["chmod", &mode, path]));
        }
        if tasks.is_empty() {
            return None;
        }
        Some(Change { tasks, ..Change::new(noun, format!("{path}: {}", what.join(", "))) })
    }

    /// Brings a file into place, where it is not there as it should be.
    ///
    /// It is written beside its place under a name that nothing reads (no suffix that a folder of settings
    /// includes, a dot in front), and then renamed: readers see the old or the new one, whole.
    pub fn place(&self, want: &Placed<'_>) -> Result<Option<Change>, String> {
        let (path, mode) = (want.path, format!("{:04o}", want.mode));
        let entry = self.found.entries.get(path);
        let (old, foreign, same) = match entry.map(|entry| &entry.thing) {
            None => (None, false, false),
            Some(Thing::File(Some(bytes))) => {
                let bytes = bytes.expose();
                let same = bytes == want.contents.bytes();
                (Some(bytes), !same && !self.written.wrote(path, bytes), same)
            }
            // Too large to be what ship wrote, or a link to somewhere.
            Some(Thing::File(None)) => (Some(&b"(a large file)\n"[..]), true, false),
            Some(Thing::Link(_)) => (Some(&b"(a link)\n"[..]), true, false),
            Some(Thing::Directory | Thing::Other) => return Err(format!("{path} is there and is no file")),
        };
        let attributes = entry.filter(|_| same).and_then(|entry| {
            self.attributes(Noun::File, path, entry, Some(&want.owner), Some(&want.group), Some(want.mode))
        });
        let link = match want.link {
            Some((link, target)) => match self.found.entries.get(link).map(|entry| &entry.thing) {
                None => Some((link, target)),
                Some(Thing::Link(found)) if found == target => None,
                Some(_) => return Err(format!("{link} is there and is no link to {target}: move it away")),
            },
            None => None,
        };
        let unfinished = self.written.unfinished.contains(path);
        if same && attributes.is_none() && link.is_none() && !unfinished {
            return Ok(None);
        }
        let mut change = match attributes {
            Some(change) => change,
            None if !same => Change::new(
                Noun::File,
                match entry {
                    None => format!("{path}: write it, {}:{} {mode}", want.owner, want.group),
                    Some(_) if foreign => format!("{path}: replace what ship did not write"),
                    Some(_) => format!("{path}: change it"),
                },
            ),
            None if link.is_some() => Change::new(Noun::File, format!("{path}: put it to use")),
            None => Change::new(Noun::File, format!("{path}: what follows a change, which was interrupted")),
        };
        change.file = Some(path.to_owned());
        let words = |argv: &[String]| argv.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let judge = |argv: &[String], name: String| {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            self.root(name, &argv)
        };
        let act = |name: String, argv: &[&str]| {
            let mut task = self.act(name, path, &want.owner, argv);
            task.own = true;
            task
        };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (next, former) = (format!("{folder}/.{name}.ship-new"), format!("{folder}/.{name}.ship-old"));
        if want.check_before && (!same || link.is_some()) {
            let task = judge(&want.check, format!("{}, before anything is changed", words(&want.check)));
            change.tasks.push(task.meanings(&[(1, "the configuration was broken already; nothing was changed")]));
        }
        if !same {
            let private =
                want.private || (entry.is_some_and(|entry| entry.mode & 0o004 == 0) && want.verify.is_empty());
            change.diff = Some(unified(path, old, want.contents, private));
            change.foreign = foreign;
            change.staged = Some(want.contents.clone());
            if !want.verify.is_empty() {
                let argv: Vec<String> = want.verify.iter().cloned().chain([self.staged.to_owned()]).collect();
                change.tasks.push(judge(&argv, words(&want.verify)));
            }
            let install = ["install", "-D", "-o", &want.owner, "-g", &want.group, "-m", &mode, self.staged, &next];
            change.tasks.push(self.act(format!("Write {path}"), path, &want.owner, &install));
            if entry.is_some() {
                if !want.check.is_empty() {
                    change.tasks.push(act(format!("Keep the former {path}"), &["ln", "-f", path, &former]));
                    change.undo.push(act(format!("Put back the former {path}"), &["mv", "-f", &former, path]));
                }
                change.tasks.push(act(format!("Put {path} in place"), &["mv", "-f", &next, path]));
            } else {
                // A link is made only where nothing is, so what appeared meanwhile is never overwritten.
                let place = act(format!("Put {path} in place"), &["ln", &next, path]);
                change.tasks.push(place.meanings(&[(1, "it appeared meanwhile: `ship setup` again looks at it")]));
                change.tasks.push(act(format!("Put {path} in place"), &["rm", "-f", &next]));
                if !want.check.is_empty() {
                    change.undo.push(act(format!("Remove {path} again"), &["rm", "-f", path]));
                }
            }
        }
        if let Some((link, target)) = link {
            let mut task = self.root(format!("Put {path} to use"), &["ln", "-s", target, link]);
            task.own = true;
            change.trial.push(task);
            // First of all: a link to nothing would break what reads the folder.
            change.undo.insert(0, self.root(format!("Remove {link} again"), &["rm", "-f", link]));
        }
        if !want.check.is_empty() {
            change.trial.push(judge(&want.check, words(&want.check)));
        }
        change.trial.extend(want.then.iter().map(|argv| judge(argv, words(argv))));
        if !want.check.is_empty() && entry.is_some() && !same {
            change.trial.push(act(format!("Forget the former {path}"), &["rm", "-f", &former]).tolerated());
        }
        Ok(Some(change))
    }
}
