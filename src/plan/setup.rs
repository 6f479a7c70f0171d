//! The plan of a setup: what a host lacks of what the recipe wants, and what would change it.
//!
//! A host that has everything has no changes. Packages come first and alone: what they bring (programs, folders,
//! files of their own) is looked at again before anything else is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lot::Lot;
use super::record::HistoryEntry;
use super::render::PlannedStep;
use super::{Obstacle, Transfer};
use crate::artifact::{MemoryFile, Packing, Tree};
use crate::command::{Command, quote};
use crate::facts::Facts;
use crate::facts::found::{Found, Look, Thing};
use crate::facts::written::Written;
use crate::layout::{Layout, ReleaseId};
use crate::lock;
use crate::step::diff::Contents;
use crate::step::ground::{Change, Ground, Noun};
use crate::step::swap::Expected;
use crate::step::{Action, Context, Step, Task, packages};

/// A step with the text that it wants somewhere.
#[derive(Clone, Debug)]
pub struct SetupStep {
    /// The step.
    pub planned: PlannedStep,
    /// The text of its template, or the text itself.
    pub contents: Option<Contents>,
}

/// What is known of one host.
pub struct HostInput<'a> {
    /// Its name in the inventory.
    pub name: String,
    /// Its paths.
    pub layout: Layout,
    /// What it looked like.
    pub facts: &'a Facts,
    /// What it has of what is wanted.
    pub found: &'a Found,
    /// Who deploys.
    pub deploy_user: &'a str,
    /// Its steps.
    pub steps: Vec<SetupStep>,
    /// What `ship sudoers` prints for the host, or what it lacks for that; and where it belongs.
    pub sudoers: (Result<Contents, String>, String),
    /// What tells the folder of files on their way from those of other runs.
    pub token: &'a str,
}

impl HostInput<'_> {
    /// The files that its steps want, and what is to be in them.
    fn files(&self) -> impl Iterator<Item = (&str, &Contents)> {
        self.steps.iter().filter_map(|step| match &step.planned.step {
            Step::File(file) => Some((file.to.as_str(), step.contents.as_ref()?)),
            Step::Nginx(nginx) => Some((nginx.to.as_str(), step.contents.as_ref()?)),
            Step::Sudoers(_) => Some((self.sudoers.1.as_str(), self.sudoers.0.as_ref().ok()?)),
            _ => None,
        })
    }
}

/// What will happen on one host.
#[derive(Clone, Debug)]
pub struct HostSetup {
    /// Its name in the inventory.
    pub host: String,
    /// Its paths.
    pub layout: Layout,
    /// Packages that are missing: where there are any, nothing else is done before the host was looked at again.
    pub packages: Option<Change>,
    /// `deploy_to` with ship's own folders, where they are missing.
    pub foundation: Option<Change>,
    /// Everything else, in the order of the recipe.
    pub changes: Vec<Change>,
    /// What can be decided only after the packages are there.
    pub later: Vec<String>,
    /// The folder for what is on its way.
    pub stage: String,
    /// What is sent first.
    pub transfer: Option<Transfer>,
    /// Notes what is going to be written.
    pub begin: Vec<Task>,
    /// Notes that it was.
    pub finish: Vec<Task>,
    /// Removes what was sent.
    pub clean: Vec<Task>,
}

impl HostSetup {
    /// All changes, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Change> {
        self.packages.iter().chain(&self.foundation).chain(&self.changes)
    }

    /// The changes that are made before the host is looked at again.
    pub fn next(&self) -> impl Iterator<Item = &Change> {
        let rest = self.packages.is_none().then(|| self.foundation.iter().chain(&self.changes));
        self.packages.iter().chain(rest.into_iter().flatten())
    }

    /// Whether the host is as the recipe wants it.
    pub fn is_done(&self) -> bool {
        self.all().next().is_none() && self.later.is_empty()
    }

    /// Every command that sudo runs before the host is looked at again, each once.
    pub fn sudo_commands(&self) -> Vec<Vec<String>> {
        let of_changes = self.next().flat_map(|change| change.tasks.iter().chain(&change.trial).chain(&change.undo));
        let own = self.begin.iter().chain(&self.finish).filter(|_| self.packages.is_none());
        let mut all: Vec<Vec<String>> = Vec::new();
        for argv in of_changes.chain(own).filter_map(|task| task.command().and_then(Command::sudo_argv)) {
            if !all.iter().any(|known| known == argv) {
                all.push(argv.to_vec());
            }
        }
        all
    }

    /// The files that would be overwritten and that ship did not write.
    pub fn foreign(&self) -> impl Iterator<Item = (&str, &str)> {
        let foreign = self.changes.iter().filter(|change| change.foreign);
        foreign.filter_map(|change| Some((change.file.as_deref()?, change.diff.as_deref()?)))
    }
}

/// What has to be looked at for these steps.
pub fn look(layout: &Layout, deploy_user: &str, facts: &Facts, steps: &[SetupStep], sudoers: &str) -> Look {
    let mut look = Look::default();
    look.paths.extend(own_folders(layout).map(|path| (path, false)));
    look.paths.extend(own_files(layout).map(|path| (path, false)));
    look.paths.insert(layout.written(), true);
    look.users.extend([deploy_user.to_owned(), "root".to_owned(), facts.user.clone()]);
    for SetupStep { planned, .. } in steps {
        look.paths.extend(planned.creates.clone().map(|path| (path, false)));
        look.questions.extend(planned.done_when.clone());
        let owned = match &planned.step {
            Step::Directory(step) => {
                look.paths.extend(step.paths.iter().map(|path| (path.clone(), false)));
                Some(&step.owned)
            }
            Step::File(step) => {
                look.paths.insert(step.to.clone(), true);
                Some(&step.owned)
            }
            Step::Nginx(step) => {
                look.paths.insert(step.to.clone(), true);
                look.paths.extend(step.enabled.iter().map(|(link, _)| (link.clone(), false)));
                None
            }
            Step::Sudoers(_) => {
                look.paths.insert(sudoers.to_owned(), true);
                None
            }
            Step::Packages(step) => {
                look.packages.extend(step.names.iter().cloned());
                None
            }
            Step::Systemd(step) => {
                look.units.extend(step.enable.iter().chain(&step.start).cloned());
                None
            }
            _ => None,
        };
        if let Some(owned) = owned {
            look.users.extend(owned.owner.clone());
            look.groups.extend(owned.group.clone());
        }
    }
    look
}

fn own_folders(layout: &Layout) -> impl Iterator<Item = String> {
    let record = format!("{}/releases", layout.records());
    [layout.root().to_owned(), layout.releases(), layout.shared(), layout.records(), record].into_iter()
}

/// What other users than the deploy user must not be the first to make.
fn own_files(layout: &Layout) -> impl Iterator<Item = String> {
    [layout.lock(), layout.holder(), layout.history()].into_iter()
}

/// Makes the plan of a host, or names everything that stands in its way.
pub fn plan(host: HostInput<'_>) -> Result<HostSetup, Vec<Obstacle>> {
    let obstacle = |text: String| Obstacle::new(&host.name, text, None);
    let mut wrong: Vec<Obstacle> = Vec::new();
    if let Some(hold) = &host.facts.hold {
        let text = format!("deploys are locked by {}", lock::parse(hold));
        wrong.push(Obstacle::new(&host.name, text, Some("`ship unlock` frees it".to_owned())));
    }
    if !host.found.users.contains_key(host.deploy_user) {
        let text = format!("the host has no user {}, who is to deploy", host.deploy_user);
        wrong.push(Obstacle::new(
            &host.name,
            text,
            Some("make the user, with your key, and run `ship setup` again".to_owned()),
        ));
        return Err(wrong);
    }
    let written = match host.found.entries.get(&host.layout.written()).map(|entry| &entry.thing) {
        Some(Thing::File(Some(bytes))) => Written::parse(bytes.expose()),
        _ => Written::default(),
    };
    let stage = format!("{}/.ship-setup-{}", host.found.stage.as_deref().unwrap_or("/tmp"), host.token);
    let Some(release) = ReleaseId::parse("00000000T000000Z-setup") else { return Err(wrong) };
    let expected = Expected::default();
    let mut decided = Decided::default();
    let mut names = BTreeSet::new();
    for SetupStep { planned, .. } in &host.steps {
        if let (Step::Packages(step), false) = (&planned.step, is_done(planned, host.found)) {
            names.extend(step.names.iter().cloned());
        }
    }
    for (number, SetupStep { planned, contents }) in host.steps.iter().enumerate() {
        if is_done(planned, host.found) || matches!(planned.step, Step::Packages(_)) {
            continue;
        }
        let directory = match planned.directory.as_str() {
            "" => host.layout.root().to_owned(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("{}/{relative}", host.layout.root()),
        };
        let context = context(&host, planned, &release, &expected, &directory);
        let (sudoers, sudoers_path) = &host.sudoers;
        let staged = format!("{stage}/{number}");
        let ground = Ground {
            context: &context,
            found: host.found,
            written: &written,
            deploy_user: host.deploy_user,
            contents: contents.as_ref(),
            staged: &staged,
        };
        let changes = match &planned.step {
            Step::Directory(step) => step.changes(&ground),
            Step::File(step) => step.changes(&ground),
            Step::Nginx(step) => step.changes(&ground),
            Step::FreePorts(step) => step.changes(&ground),
            Step::Systemd(step) => Ok(step.changes(&ground)),
            Step::Sudoers(step) => sudoers
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|text| step.changes(&Ground { contents: Some(text), ..ground.clone() }, sudoers_path)),
            other => other.tasks(&context).map(|tasks| {
                let noun = if matches!(other, Step::Wait(_)) { Noun::Check } else { Noun::Command };
                vec![Change { tasks, ..Change::new(noun, planned.name.clone()) }]
            }),
        };
        match changes {
            Ok(mut changes) => {
                if planned.tolerate {
                    let tasks = changes.iter_mut().flat_map(|change| change.tasks.iter_mut().chain(&mut change.trial));
                    tasks.for_each(|task| task.tolerate = true);
                }
                decided.changes.extend(changes.into_iter().map(|change| (staged.clone(), change)));
            }
            Err(lack) => decided.lacking.push(lack),
        }
    }
    let context = Context {
        layout: &host.layout,
        facts: host.facts,
        release: &release,
        expected: &expected,
        phase: crate::event::Phase::Setup,
        put_back: false,
        name: "Prepare the host",
        directory: "/",
        environment: &[],
        timeout: None,
        attempts: 1,
        detach: None,
    };
    let ground = Ground {
        context: &context,
        found: host.found,
        written: &written,
        deploy_user: host.deploy_user,
        contents: None,
        staged: "",
    };
    let packages = packages::install(&ground, &names).unwrap_or_else(|lack| {
        wrong.push(obstacle(lack));
        None
    });
    let foundation = foundation(&ground).unwrap_or_else(|lack| {
        wrong.push(obstacle(lack));
        None
    });
    // What packages bring may be what is missing now.
    let later = if packages.is_some() { std::mem::take(&mut decided.lacking) } else { Vec::new() };
    wrong.extend(decided.lacking.drain(..).map(obstacle));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut setup = decided.into_setup(&host, &ground, &stage);
    setup.packages = packages;
    setup.foundation = foundation;
    setup.later = later;
    if setup.all().all(|change| change.noun == Noun::Check) {
        // Nothing but looks, and nothing after which to look.
        setup.changes.clear();
    }
    if host.facts.user == "root" {
        let changes = setup.packages.iter_mut().chain(&mut setup.foundation).chain(&mut setup.changes);
        let of_changes = changes.flat_map(|c| c.tasks.iter_mut().chain(&mut c.trial).chain(&mut c.undo));
        of_changes.chain(&mut setup.begin).chain(&mut setup.finish).for_each(as_login);
    }
    Ok(setup)
}

/// Whether the step says that it is done already.
fn is_done(planned: &PlannedStep, found: &Found) -> bool {
    planned.creates.as_ref().is_some_and(|path| found.entries.contains_key(path))
        || planned.done_when.as_ref().is_some_and(|text| found.answers.contains(text))
}

/// Root needs no sudo, which may not even be there.
fn as_login(task: &mut Task) {
    match &mut task.action {
        Action::Command(command) => *command = command.clone().without_sudo(),
        Action::Poll(poll) => poll.probe = poll.probe.clone().without_sudo(),
        Action::Derive(derive) => derive.question = derive.question.clone().without_sudo(),
        Action::Feed(feed) => feed.command = feed.command.clone().without_sudo(),
        // A setup is followed to its end.
        Action::Detached(_) | Action::Transfer | Action::Send(_) => {}
    }
}

fn context<'a>(
    host: &'a HostInput<'_>,
    planned: &'a PlannedStep,
    release: &'a ReleaseId,
    expected: &'a Expected,
    directory: &'a str,
) -> Context<'a> {
    Context {
        layout: &host.layout,
        facts: host.facts,
        release,
        expected,
        phase: crate::event::Phase::Setup,
        put_back: false,
        name: &planned.name,
        directory,
        environment: &planned.environment,
        timeout: planned.timeout,
        attempts: planned.attempts,
        detach: None,
    }
}

/// `deploy_to`, ship's folders in it, and the files that a login other than the deploy user's would make its own.
fn foundation(ground: &Ground<'_>) -> Result<Option<Change>, String> {
    let (layout, found) = (ground.context.layout, ground.found);
    let (owner, group) = ground.owner_of(layout.root(), &crate::step::owned::Owned::default())?;
    let mut change =
        Change::new(Noun::Directory, format!("{}: make it with ship's own folders, for {owner}", layout.root()));
    let deploys = ground.context.facts.user == owner;
    if let Some(entry) = found.entries.get(layout.root()) {
        if entry.thing != Thing::Directory && !matches!(entry.thing, Thing::Link(_)) {
            return Err(format!("{} is there and is no folder", layout.root()));
        }
        let can_write = deploys && ground.context.facts.writable;
        if !can_write
            && let Some(owned) = ground.attributes(Noun::Directory, layout.root(), entry, Some(&owner), None, None)
        {
            change = owned;
        } else {
            change.title = format!("{}: make ship's own folders in it, for {owner}", layout.root());
        }
    }
    for (mode, folders) in [
        ("0755", [layout.root().to_owned(), layout.releases(), layout.shared()].to_vec()),
        ("0700", vec![layout.records(), format!("{}/releases", layout.records())]),
    ] {
        let missing: Vec<&str> =
            folders.iter().filter(|path| !found.entries.contains_key(*path)).map(String::as_str).collect();
        if !missing.is_empty() {
            let argv = [&["install", "-d", "-o", &owner, "-g", &group, "-m", mode][..], &missing[..]].concat();
            change.tasks.push(ground.act("Make folders".to_owned(), layout.root(), &owner, &argv));
        }
    }
    for path in own_files(layout).filter(|path| !deploys && !found.entries.contains_key(path)) {
        let argv = ["install", "-o", &owner, "-g", &group, "-m", "0600", "/dev/null", &path];
        change.tasks.push(ground.act(format!("Make {path}"), layout.root(), &owner, &argv));
    }
    Ok(Some(change).filter(|change| !change.tasks.is_empty()))
}

/// What the steps came to.
#[derive(Default)]
struct Decided {
    /// Changes, each with the place on the host for the text that it wants somewhere.
    changes: Vec<(String, Change)>,
    lacking: Vec<String>,
}

impl Decided {
    /// Adds what surrounds the changes: the transfer, and the record of what ship wrote.
    fn into_setup(self, host: &HostInput<'_>, ground: &Ground<'_>, stage: &str) -> HostSetup {
        let mut written = ground.written.clone();
        let mut files: BTreeMap<String, MemoryFile> = BTreeMap::new();
        let within = |place: &str| place.strip_prefix(stage).unwrap_or(place).trim_start_matches('/').to_owned();
        for (place, change) in &self.changes {
            if let (Some(contents), Some(file)) = (&change.staged, &change.file) {
                written.note(file, contents.bytes());
                files.insert(place.clone(), MemoryFile::new(within(place), 0o600, contents.bytes().to_vec()));
            }
            written.unfinished.extend(change.file.clone());
        }
        // A file that is as it should be is as good as written: several instances of an app have some in common.
        for (path, contents) in host.files() {
            if let Some(Thing::File(Some(bytes))) = host.found.entries.get(path).map(|entry| &entry.thing)
                && bytes.expose() == contents.bytes()
            {
                written.note(path, contents.bytes());
            }
        }
        let (mut begin, mut finish) = (Vec::new(), Vec::new());
        if self.changes.iter().any(|(_, change)| change.file.is_some()) {
            let ended = Written { unfinished: BTreeSet::new(), ..written.clone() };
            for (name, record, tasks) in [("begin", &written, &mut begin), ("finish", &ended, &mut finish)] {
                let place = format!("{stage}/{name}");
                files.insert(place.clone(), MemoryFile::new(name, 0o600, record.text().into_bytes()));
                tasks.extend(keep(ground, &place));
            }
        }
        let extra: Vec<MemoryFile> = files.into_values().collect();
        let transfer = (!extra.is_empty()).then(|| transfer(stage, extra));
        let clean = transfer.iter().map(|_| Task::own("Remove what was sent", Command::argv(["rm", "-rf", stage])));
        HostSetup {
            host: host.name.clone(),
            layout: host.layout.clone(),
            packages: None,
            foundation: None,
            changes: self.changes.into_iter().map(|(_, change)| change).collect(),
            later: Vec::new(),
            stage: stage.to_owned(),
            begin,
            finish,
            clean: clean.collect(),
            transfer,
        }
    }
}

/// Puts the record at `place` where it belongs.
fn keep(ground: &Ground<'_>, place: &str) -> Vec<Task> {
    let (record, owner) = (ground.context.layout.written(), ground.deploy_user);
    let next = format!("{record}.new");
    let group = ground.found.users.get(owner).map_or(owner, String::as_str);
    let name = "Note what ship writes".to_owned();
    let install = ["install", "-o", owner, "-g", group, "-m", "0600", place, &next];
    let mut tasks = vec![
        ground.act(name.clone(), &record, owner, &install),
        ground.act(name, &record, owner, &["mv", "-f", &next, &record]),
    ];
    tasks.iter_mut().for_each(|task| task.own = true);
    tasks
}

/// Appends an entry to the history that another user keeps: what is sent, and what puts it there.
pub fn append(layout: &Layout, entry: &HistoryEntry, stage: &str) -> (Transfer, Vec<Task>) {
    let stage = format!("{stage}-end");
    let line = MemoryFile::new("entry", 0o600, entry.line().into_bytes());
    let (from, to) = (format!("if={stage}/entry"), format!("of={}", layout.history()));
    // The folder is the deploy user's, who could have put a link there.
    let append = Command::argv(["dd", &from, &to, "oflag=append,nofollow", "conv=notrunc", "status=none"]).sudo();
    let tasks = vec![
        Task { own: true, ..Task::new("Send the entry of the history", Action::Transfer) },
        Task::own("Write the history", append),
        Task::own("Remove what was sent", Command::argv(["rm", "-rf", &stage])),
    ];
    (transfer(&stage, vec![line]), tasks.into_iter().map(Task::tolerated).collect())
}

/// What is sent lands in a folder of the login user's that nobody else may read. It must be new: what is there
/// already could be a trap of somebody else's.
fn transfer(stage: &str, extra: Vec<MemoryFile>) -> Transfer {
    let packing = Packing {
        tree: Arc::new(Tree::default()),
        entries: Vec::new(),
        prefix: String::new(),
        extra,
        parts: Vec::new(),
        chunks: None,
        time: 0,
    };
    let lot = Lot::archive(packing, format!("umask 077; mkdir {0} && cd {0}", quote(stage)));
    Transfer::of(lot)
}
