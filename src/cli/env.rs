//! `ship env`: the shared settings file, shown masked and changed on every chosen host or on none.

use std::io::Read;
use std::path::Path;

use super::args::{EnvAction, EnvArgs, EnvChange, EnvWords, Global, SelectArgs};
use super::env_file::{Settings, read};
use super::look::Look;
use super::machine::Machine;
use super::project::{Project, definitions};
use super::services;
use super::{env_change, operation, prompt};
use crate::dotenv::{self, File};
use crate::error::{Error, Kind};
use crate::output::visible;
use crate::plan::env::Change;
use crate::plan::render::Filter;
use crate::report::{self, Cell, Paint, Style, Table, Tone};
use crate::secret::Secret;
use crate::session::Prompt;

/// `ship env`.
pub async fn run(global: &Global, machine: &Machine, args: &EnvArgs) -> Result<(), Error> {
    match &args.action {
        EnvAction::List { select, show } => list(global, machine, select, *show).await,
        EnvAction::Get(words) => get(global, machine, words).await,
        EnvAction::Set { change, from_file } => {
            let (select, words) = sorted(global, machine, &change.what)?;
            let values = values(machine, &words, from_file.as_deref())?;
            changed(global, machine, select, change, Change::Set(values)).await
        }
        EnvAction::Unset(change) => {
            let (select, keys) = sorted(global, machine, &change.what)?;
            if keys.is_empty() {
                return Err(Error::usage("which setting is to be removed? `ship env unset [ENV] KEY…`"));
            }
            changed(global, machine, select, change, Change::Unset(keys)).await
        }
        EnvAction::Push { change, allow_placeholders, prune } => {
            let (select, words) = sorted(global, machine, &change.what)?;
            let [file] = words.as_slice() else {
                return Err(Error::usage("which file is to be sent? `ship env push [ENV] FILE`"));
            };
            let whole = pushed(machine, file, *allow_placeholders)?;
            changed(global, machine, select, change, Change::Push { name: file.clone(), file: whole, prune: *prune })
                .await
        }
    }
}

/// The first word is an environment only where the inventory has one of that name.
fn sorted(global: &Global, machine: &Machine, given: &EnvWords) -> Result<(SelectArgs, Vec<String>), Error> {
    if given.select.environment.is_none() {
        return Ok((given.select.clone(), given.words.clone()));
    }
    let (inventory, _) = definitions(global, machine)?;
    Ok(services::words(&inventory, &given.select, &given.words))
}

async fn list(global: &Global, machine: &Machine, select: &SelectArgs, show: bool) -> Result<(), Error> {
    let look = Look::connect(global, machine, select).await?;
    let settings = match read(&look, None).await {
        Ok(settings) => settings,
        Err(error) => {
            super::stage::close(&look.members).await;
            return Err(error);
        }
    };
    let text = if show { values_of(&settings) } else { table_of(&settings)? };
    let differ = settings.windows(2).any(|pair| matches!(pair, [one, other] if !same(&one.file, &other.file)));
    let note = if differ { "\nThe hosts differ.\n" } else { "" };
    if show {
        // The values were asked for; the mask over secrets of the inventory would make them wrong.
        super::stage::close(&look.members).await;
        print(&format!("{text}{note}"))?;
        super::look::refused(&look.refused)?;
    } else {
        look.end(&format!("{text}{note}")).await?;
    }
    if differ { Err(Error::told(Kind::Failed)) } else { Ok(()) }
}

fn same(one: &File, other: &File) -> bool {
    let all = |file: &File| -> Vec<(String, Option<Secret>)> {
        let mut all: Vec<_> = file.effective().iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    all(one) == all(other)
}

/// Every name that any host has, in the order of the first that has it.
fn names(settings: &[Settings]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in settings.iter().flat_map(|settings| settings.file.effective()) {
        if !names.contains(&entry.key) {
            names.push(entry.key.clone());
        }
    }
    names
}

/// A row for each name. A digest under a salt of this run says which values are equal, and nothing else.
fn table_of(settings: &[Settings]) -> Result<String, Error> {
    let names = names(settings);
    if names.is_empty() {
        let paths: Vec<String> = settings.iter().map(|one| format!("{}: {}", one.host, one.place.path())).collect();
        return Ok(format!("There is no setting yet.\n{}\n", paths.join("\n")));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| Error::new(Kind::Failed, format!("this machine has no random numbers: {error}")))?;
    let mut header = vec!["key"];
    header.extend(settings.iter().map(|one| one.host.as_str()));
    let mut table = Table::new(&header);
    for name in &names {
        let cells = settings.iter().map(|one| match one.file.get(name) {
            None => "-".to_owned(),
            Some(entry) => entry.value.as_ref().map_or("from outside".to_owned(), |value| masked(value, &salt)),
        });
        let row: Vec<String> = std::iter::once(name.clone()).chain(cells).collect();
        table.row(row.iter().map(|cell| Cell::new(cell, Tone::Plain)));
    }
    Ok(table.lines(None, 0, Paint::new(&Style::default())).join("\n") + "\n")
}

/// `3f2a91bc 32 bytes`.
fn masked(value: &Secret, salt: &[u8]) -> String {
    use sha2::Digest as _;
    let value = value.expose();
    if value.is_empty() {
        return "empty".to_owned();
    }
    let digest = sha2::Sha256::new().chain_update(salt).chain_update(value).finalize();
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{short} {}", size(value))
}

/// `1 byte`, `1679 bytes, 28 lines`.
pub(super) fn size(value: &str) -> String {
    let bytes = if value.len() == 1 { "1 byte".to_owned() } else { format!("{} bytes", value.len()) };
    match value.lines().count() {
        0 | 1 => bytes,
        lines => format!("{bytes}, {lines} lines"),
    }
}

/// The settings as lines of a file, once for hosts that have the same.
fn values_of(settings: &[Settings]) -> String {
    let mut groups: Vec<(Vec<&str>, &File)> = Vec::new();
    for one in settings {
        match groups.iter_mut().find(|(_, file)| same(file, &one.file)) {
            Some((hosts, _)) => hosts.push(&one.host),
            None => groups.push((vec![&one.host], &one.file)),
        }
    }
    let mut text = String::new();
    for (hosts, file) in groups {
        text.push_str(&format!("# {}\n", hosts.join(", ")));
        for entry in file.effective() {
            text.push_str(&match &entry.value {
                None => format!("{}\n", entry.key),
                Some(value) if entry.refers => format!("{}=\"{}\"\n", entry.key, value.expose()),
                Some(value) => dotenv::line(&entry.key, value.expose())
                    .map_or_else(|_| format!("{}: {}\n", entry.key, value.expose()), |line| format!("{line}\n")),
            });
        }
    }
    text.split('\n').map(|line| visible(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

async fn get(global: &Global, machine: &Machine, given: &EnvWords) -> Result<(), Error> {
    let (select, words) = sorted(global, machine, given)?;
    let [key] = words.as_slice() else {
        return Err(Error::usage("which setting is wanted? `ship env get [ENV] KEY`"));
    };
    let look = Look::connect(global, machine, &select).await?;
    let settings = read(&look, None).await;
    super::stage::close(&look.members).await;
    let settings = settings?;
    super::look::refused(&look.refused)?;
    let values: Vec<Option<&dotenv::Entry>> = settings.iter().map(|one| one.file.get(key)).collect();
    let value = |entry: &Option<&dotenv::Entry>| entry.and_then(|entry| entry.value.clone());
    let Some(first) = values.first() else { return Err(Error::usage("no host is chosen")) };
    if values.iter().any(|other| value(other) != value(first)) {
        let with = |wanted: bool| {
            let hosts = settings.iter().zip(&values).filter(|(_, value)| value.is_some() == wanted);
            hosts.map(|(one, _)| one.host.as_str()).collect::<Vec<_>>().join(", ")
        };
        let missing = with(false);
        let lacking = if missing.is_empty() { String::new() } else { format!("; not set on {missing}") };
        return Err(Error::new(Kind::Failed, format!("{key} is not the same on all hosts{lacking}"))
            .hint("`--host NAME` chooses one; `ship env list` compares them"));
    }
    let Some(found) = value(first) else {
        return Err(Error::new(Kind::Failed, format!("{key} is not set")).hint("`ship env list` lists what is"));
    };
    if first.is_some_and(|entry| entry.refers) {
        report::print_stderr(&format!(
            "note: {key} refers to other variables, which whoever reads the file fills in; this is how it stands\n"
        ));
    }
    if machine.stdout_is_terminal {
        let lines: Vec<String> = found.expose().split('\n').map(|line| visible(line.as_bytes())).collect();
        return print(&format!("{}\n", lines.join("\n")));
    }
    print(found.expose())
}

fn print(text: &str) -> Result<(), Error> {
    report::print_stdout(text).map_err(|error| Error::new(Kind::Failed, format!("standard output: {error}")))
}

/// The values to set: from the words, or of one word from a file, standard input or the person.
fn values(machine: &Machine, words: &[String], from: Option<&Path>) -> Result<Vec<(String, Secret)>, Error> {
    if let [key] = words
        && !key.contains('=')
    {
        let value = match from {
            Some(path) => file(machine, path)?,
            None if machine.stdin_is_terminal => prompt::Terminal::default()
                .secret(&format!("The value of {key}"))
                .ok_or_else(|| Error::usage("no value was given"))?,
            None => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().read_to_end(&mut bytes);
                read.map_err(|error| Error::usage(format!("standard input cannot be read: {error}")))?;
                if bytes.is_empty() {
                    return Err(Error::usage(format!("standard input has no value for {key}"))
                        .hint(format!("`{key}=` sets an empty one")));
                }
                text(bytes, "standard input")?
            }
        };
        return Ok(vec![(key.clone(), value)]);
    }
    if from.is_some() {
        return Err(Error::usage("--from-file takes exactly one KEY, without a value"));
    }
    if words.is_empty() {
        return Err(Error::usage("what is to be set? `ship env set [ENV] KEY=VALUE…`, or KEY alone"));
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), Secret::new(value.to_owned()))),
            None => Err(Error::usage(format!("{word} is no KEY=VALUE, and no environment of the inventory"))),
        })
        .collect()
}

fn file(machine: &Machine, path: &Path) -> Result<Secret, Error> {
    let bytes = std::fs::read(machine.directory.join(path))
        .map_err(|error| Error::usage(format!("{} cannot be read: {error}", path.display())))?;
    text(bytes, &path.display().to_string())
}

fn text(bytes: Vec<u8>, from: &str) -> Result<Secret, Error> {
    String::from_utf8(bytes).map(Secret::new).map_err(|_| {
        Error::usage(format!("{from} is not UTF-8 text, and no reader of settings files takes anything else"))
            .hint("base64 makes text of it")
    })
}

/// The file to send, checked here.
fn pushed(machine: &Machine, name: &str, allow_placeholders: bool) -> Result<File, Error> {
    let text = file(machine, Path::new(name))?;
    let whole = File::parse(text.expose().as_bytes()).map_err(|problem| Error::usage(format!("{name}:{problem}")))?;
    let mut open = Vec::new();
    let mut warnings = Vec::new();
    for entry in whole.entries() {
        let place = format!("{name}:{}: {}", entry.line, entry.key);
        let Some(value) = &entry.value else {
            warnings.push(format!("{place} has no value, and takes that of whoever starts the reader"));
            continue;
        };
        if dotenv::has_placeholder(value.expose()) {
            open.push(place.clone());
        }
        if dotenv::looks_squeezed(value.expose()) {
            warnings.push(format!(
                "{place} has `\\n` or `\\-` in place of line ends or dashes, and is sent so; `ship env set {} --from-file FILE` keeps line ends",
                entry.key
            ));
        }
        if whole.get(&entry.key).is_some_and(|last| last.line != entry.line) {
            warnings.push(format!("{place} is set again further down, and only that counts"));
        }
    }
    if !open.is_empty() && !allow_placeholders {
        return Err(Error::usage(format!("a placeholder has still to be filled in:\n{}", open.join("\n")))
            .hint("--allow-placeholders sends it as it is"));
    }
    for warning in warnings {
        report::print_stderr(&format!("warning: {warning}\n"));
    }
    Ok(whole)
}

async fn changed(
    global: &Global,
    machine: &Machine,
    select: SelectArgs,
    args: &EnvChange,
    change: Change,
) -> Result<(), Error> {
    let project = Project::load(global, machine, &select, Filter::default(), &[])?;
    // What no file can hold is refused before any host is asked.
    if !matches!(change, Change::Push { .. }) {
        change.applied(&File::default()).map_err(|(key, refused)| Error::usage(format!("{key}: {refused}")))?;
    }
    let what = match &change {
        Change::Set(values) => {
            let keys: Vec<&str> = values.iter().map(|(key, _)| key.as_str()).collect();
            for (key, value) in values {
                let others = dotenv::misread_by(key, value.expose());
                if !others.is_empty() {
                    let names = others.join(" and ");
                    report::print_stderr(&format!(
                        "warning: {key}: Docker Compose reads exactly this value, {names} would read another\n"
                    ));
                }
            }
            format!("Set {}", keys.join(", "))
        }
        Change::Unset(keys) => format!("Remove {}", keys.join(", ")),
        Change::Push { file, .. } => format!("Replace the settings by a file of {} variables", file.effective().len()),
    };
    operation::confirm(&project, machine, args.yes, &what)?;
    let look = Look::open(global, machine, project).await;
    env_change::carry_out(machine, look, &change, args.lock_wait.unwrap_or_default()).await
}
