//! The command line: a clap type and a short function per command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};

pub mod args;
pub mod check;
mod check_docker;
mod content;
pub mod deploy;
pub mod env;
pub mod env_change;
pub mod env_file;
pub mod images;
pub mod init;
mod known;
pub mod locks;
pub mod logs;
pub mod look;
pub mod machine;
pub mod operation;
pub mod project;
pub mod prompt;
pub mod readme;
pub mod reporters;
pub mod rollback;
pub mod run;
pub mod service;
pub mod services;
pub mod setup;
pub mod setup_ending;
pub mod signals;
pub mod ssh;
pub mod stage;
pub mod status;
pub mod texts;

use args::{Cli, Command, Global, Output};
use machine::Machine;

use crate::config::options::{OptionKind, OptionSpec};
use crate::error::{Error, Kind};
use crate::report;

/// Runs the program and gives back its exit code. Every message was printed.
pub fn main(arguments: Vec<OsString>, machine: &Machine) -> u8 {
    let options = recipe_options(&arguments, machine);
    let command = with_options(Cli::command(), &options);
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // `--help` and `--version` are not mistakes, though clap returns them here.
            let _ = error.print();
            return if error.use_stderr() { Kind::Usage.exit_code() } else { 0 };
        }
    };
    let given = given_options(&matches, &options);
    let result = Cli::from_arg_matches(&matches)
        .map_err(|error| Error::usage(error.to_string()))
        .and_then(|cli| dispatch(&cli, machine, &given));
    match result {
        Ok(()) => 0,
        Err(error) => {
            if !error.shown {
                report::print_stderr(&rendered(&error));
            }
            error.kind.exit_code()
        }
    }
}

/// `error: …` and its hints. Diagnostics of files bring their own heading.
fn rendered(error: &Error) -> String {
    let plain = shown(&error.message);
    let heading = if plain.trim_start_matches("\u{1b}[1m").starts_with("error") { "" } else { "error: " };
    let mut text = format!("{heading}{plain}\n");
    for hint in &error.hints {
        text.push_str(&format!("  hint: {}\n", shown(hint).replace('\n', "\n        ")));
    }
    text
}

/// Text with its line ends and its colours (`ESC [ digits m`); every other control character is shown. A host's
/// words were made visible where they came in, and stay so.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (number, piece) in text.split('\u{1b}').enumerate() {
        let color = piece.strip_prefix('[').and_then(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            rest.get(end..)?.starts_with('m').then_some(())
        });
        match (number, color) {
            (0, _) => {}
            (_, Some(())) => out.push('\u{1b}'),
            (_, None) => out.push_str("\\x1b"),
        }
        let lines: Vec<String> = piece.split('\n').map(|line| crate::output::visible(line.as_bytes())).collect();
        out.push_str(&lines.join("\n"));
    }
    out
}

fn dispatch(cli: &Cli, machine: &Machine, options: &[(String, Option<String>)]) -> Result<(), Error> {
    let global = &cli.global;
    if global.output == Output::Json && !tells_events(&cli.command) {
        return Err(Error::usage("this command has no JSON form yet: its result is a text")
            .hint("deploy, plan, rollback, setup and run tell their events as JSON"));
    }
    match &cli.command {
        Command::Deploy(args) => wait(deploy::run(global, machine, args, options, false)),
        Command::Plan(args) => wait(deploy::run(global, machine, args, options, true)),
        Command::Rollback(args) => wait(rollback::run(global, machine, args, options)),
        Command::Setup(args) => wait(setup::run(global, machine, args, options)),
        Command::Check(args) => wait(check::check(global, machine, args)),
        Command::Sudoers(args) => wait(check::sudoers(global, machine, args)),
        Command::Status(args) => wait(status::status(global, machine, args)),
        Command::Releases(args) => wait(status::releases(global, machine, args)),
        Command::History(args) => wait(status::history(global, machine, args)),
        Command::Run(args) => wait(run::run(global, machine, args)),
        Command::Ssh(args) => ssh::run(global, machine, args),
        Command::Logs(args) => wait(logs::run(global, machine, args)),
        Command::Service(args) => wait(service::run(global, machine, args)),
        Command::Env(args) => wait(env::run(global, machine, args)),
        Command::Lock(args) => wait(locks::hold(global, machine, args)),
        Command::Unlock(args) => wait(locks::free(global, machine, args)),
        Command::Init(args) => init::run(machine, args),
        Command::Recipes(args) => texts::recipes(global, machine, args),
        Command::Schema(args) => texts::print_schema(args),
        Command::Completions(args) => texts::completions(args),
        Command::Man => texts::man(),
        Command::Demo(args) => wait(crate::demo::run(machine, global, args.keep)),
    }
}

/// Whether what happens is told as events; the others print a text.
fn tells_events(command: &Command) -> bool {
    matches!(
        command,
        Command::Setup(_)
            | Command::Deploy(_)
            | Command::Plan(_)
            | Command::Rollback(_)
            | Command::Run(_)
            | Command::Demo(_)
    )
}

/// Runs a future to its end on a runtime of its own, so that commands without hosts start none.
fn wait<F: Future<Output = Result<(), Error>>>(future: F) -> Result<(), Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Failed, format!("the runtime cannot be started: {error}")))?
        .block_on(future)
}

/// The commands that take the recipe's options.
const WITH_OPTIONS: &[&str] = &["deploy", "plan", "rollback", "setup"];

/// The options that the recipe declares. A project that cannot be read has none: the command itself will say
/// what is wrong with it.
fn recipe_options(arguments: &[OsString], machine: &Machine) -> Vec<OptionSpec> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    if !words.iter().any(|word| WITH_OPTIONS.contains(word)) {
        return Vec::new();
    }
    let mut inventory = machine.variable("SHIP_INVENTORY").map(PathBuf::from);
    for (index, word) in words.iter().enumerate() {
        if let Some(path) = word.strip_prefix("--inventory=") {
            inventory = Some(PathBuf::from(path));
        } else if matches!(*word, "--inventory" | "-i") {
            inventory = words.get(index + 1).map(PathBuf::from);
        }
    }
    let global = Global { inventory, ..Global::quiet() };
    project::definitions(&global, machine).map(|(_, recipe)| recipe.options).unwrap_or_default()
}

/// Adds each option as a flag of the commands that take them.
fn with_options(command: clap::Command, options: &[OptionSpec]) -> clap::Command {
    WITH_OPTIONS.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            options.iter().filter(|option| !taken(&subcommand_flags(), &option.flag())).fold(
                subcommand,
                |subcommand, option| {
                    let mut arg = clap::Arg::new(format!("option.{}", option.name))
                        .long(option.flag())
                        .help(option.help.clone().unwrap_or_default())
                        .help_heading("Options of the recipe");
                    arg = match &option.kind {
                        OptionKind::Bool => arg.action(clap::ArgAction::SetTrue),
                        OptionKind::Choice(choices) => arg
                            .value_parser(clap::builder::PossibleValuesParser::new(choices.clone()))
                            .value_name("CHOICE"),
                        OptionKind::Integer => arg.value_name("N"),
                        OptionKind::String => arg.value_name("TEXT"),
                    };
                    subcommand.arg(arg)
                },
            )
        })
    })
}

/// The long flags that ship itself has on the commands that take options.
fn subcommand_flags() -> Vec<String> {
    let command = Cli::command();
    let own = command.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned);
    let theirs = WITH_OPTIONS
        .iter()
        .filter_map(|name| command.find_subcommand(name))
        .flat_map(|subcommand| subcommand.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned));
    own.chain(theirs).chain(["help".to_owned(), "version".to_owned()]).collect()
}

fn taken(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|known| known == flag)
}

/// The options that the command line gives, with their values; a flag without a value is a switch.
fn given_options(matches: &clap::ArgMatches, options: &[OptionSpec]) -> Vec<(String, Option<String>)> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    options
        .iter()
        .filter_map(|option| {
            let id = format!("option.{}", option.name);
            match option.kind {
                OptionKind::Bool => {
                    let set = matches.try_get_one::<bool>(&id).ok().flatten().copied().unwrap_or(false);
                    set.then(|| (option.name.clone(), None))
                }
                _ => matches
                    .try_get_one::<String>(&id)
                    .ok()
                    .flatten()
                    .map(|value| (option.name.clone(), Some(value.clone()))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::RESERVED_FLAGS;

    #[test]
    fn an_option_of_a_recipe_can_never_take_a_flag_of_ship() {
        let missing: Vec<String> =
            subcommand_flags().into_iter().filter(|flag| !RESERVED_FLAGS.contains(&flag.as_str())).collect();
        assert_eq!(missing, [""; 0], "flags that RESERVED_FLAGS does not have");
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_a_host_said_is_shown_in_errors_and_never_obeyed() {
        let said = crate::output::visible(b"\x1b[2J gone");
        assert_eq!(rendered(&Error::usage(format!("it said: {said}"))), format!("error: it said: {said}\n"));
        assert_eq!(shown("\u{1b}[1;31merror\u{1b}[0m\nnext"), "\u{1b}[1;31merror\u{1b}[0m\nnext");
        assert_eq!(shown("\u{1b}]0;title\u{7}"), "\\x1b]0;title\\x07");
    }

    #[test]
    fn hints_keep_their_lines_and_headings_come_once() {
        let error = Error::usage("error: there is no environment").hint("add this line:\nweb1 ssh-ed25519 AAAA");
        assert_eq!(
            rendered(&error),
            "error: there is no environment\n  hint: add this line:\n        web1 ssh-ed25519 AAAA\n"
        );
    }
}
