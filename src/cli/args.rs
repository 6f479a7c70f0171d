//! The command line as clap types. One variant a command; shared arguments stand once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::document::duration;

mod env;
mod service;

pub use env::{EnvAction, EnvArgs, EnvChange, EnvWords};
pub use service::{ServiceAction, ServiceArgs, ServiceChange, ServiceDown, ServiceSelect};

/// Agentless SSH push deployer.
#[derive(Clone, Debug, Parser)]
#[command(name = "ship", version, about, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done · 1 failed, every host put back · 2 usage, nothing attempted · \
3 a host refused, nothing changed · 4 some host needs a person · 130 interrupted, put back")]
pub struct Cli {
    /// Arguments of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The inventory [default: inventory.toml, looked for upward from here]
    #[arg(long, short = 'i', global = true, value_name = "FILE", env = "SHIP_INVENTORY")]
    pub inventory: Option<PathBuf>,
    /// How to tell what happens
    #[arg(long, global = true, value_enum, default_value_t = Output::Auto, value_name = "FORMAT")]
    pub output: Output,
    /// Say only what went wrong
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Show the output of every task; twice: also what ship does by itself
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No colours (also: NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// How long connecting to a host may take
    #[arg(long, global = true, value_name = "TIME", default_value = "15s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Another OpenSSH client configuration than ~/.ssh/config
    #[arg(long, global = true, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
}

/// How to tell what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The terminal board on a terminal, GitHub's form in its Actions, plain lines elsewhere
    Auto,
    /// Plain lines, each with time and host
    Plain,
    /// One event a line on standard output
    Json,
    /// Groups, annotations and a summary for GitHub Actions
    Github,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Deploy: prepare a release on every host, switch, check, put every host back if one fails
    Deploy(DeployArgs),
    /// Publish an older release that was healthy on every host
    Rollback(RollbackArgs),
    /// Show what `deploy` would do: every command, every file, and the way back
    Plan(DeployArgs),
    /// Check reachability, host keys, login, sudo rights, tools, disk space and the recipe; changes nothing
    Check(SelectArgs),
    /// Prepare hosts as the recipe's `setup` says: shows what would change, and changes nothing twice
    Setup(SetupArgs),
    /// Show what is live on each host; says where hosts differ
    Status(SelectArgs),
    /// List the releases on the hosts
    Releases(SelectArgs),
    /// List what was done, by whom, with which outcome
    History(HistoryArgs),
    /// Run a command on the chosen hosts
    Run(RunArgs),
    /// Show what the recipe's services log, on all chosen hosts, merged
    Logs(LogsArgs),
    /// Restart, stop or start the recipe's services, or tell their state
    Service(ServiceArgs),
    /// Open a shell on a host, in the live release
    Ssh(SshArgs),
    /// Show and change the shared settings file (`.env`): values of several lines survive, none is shown
    Env(EnvArgs),
    /// Hold the deploy lock until `ship unlock`
    Lock(LockArgs),
    /// Free what `ship lock` holds
    Unlock(SelectArgs),
    /// Print the least sudoers fragment that the recipe needs
    Sudoers(SelectArgs),
    /// Write inventory.toml for the project in this folder
    Init(InitArgs),
    /// List, show or copy out the recipes in the binary
    Recipes(RecipesArgs),
    /// Print the JSON Schema of the inventory or of recipes, for editors
    Schema(SchemaArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// See ship work with nothing prepared: an SSH server inside the binary, on loopback
    Demo(DemoArgs),
}

/// Which hosts.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectArgs {
    /// The environment [default: the inventory's `default`, or its only one]
    #[arg(value_name = "ENV")]
    pub environment: Option<String>,
    /// Only these hosts (repeatable, globs)
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Only hosts with these roles (repeatable, globs)
    #[arg(long, value_name = "NAME")]
    pub role: Vec<String>,
    /// Only hosts of these groups (repeatable, globs)
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// Sets a variable, stronger than every file (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
}

/// What changes hosts.
#[derive(Clone, Debug, Default, Args)]
pub struct ChangeArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// How many hosts are published at once: a number, a percentage, or `all`
    #[arg(long, value_name = "N|P%")]
    pub batch: Option<String>,
    /// How many hosts may fail before all are put back
    #[arg(long, value_name = "N")]
    pub max_failures: Option<u32>,
    /// Steps to leave out, by name, kind or tag (repeatable)
    #[arg(long, value_name = "STEP|TAG")]
    pub skip: Vec<String>,
    /// The only steps to take, by name, kind or tag (repeatable)
    #[arg(long, value_name = "STEP|TAG")]
    pub only: Vec<String>,
    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for a lock that somebody else holds
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub lock_wait: Option<Duration>,
    /// Print the time of each step, and round trips, channels and bytes of each host at the end
    #[arg(long)]
    pub timing: bool,
}

/// Arguments of `ship deploy` and `ship plan`.
#[derive(Clone, Debug, Default, Args)]
pub struct DeployArgs {
    /// What changes hosts
    #[command(flatten)]
    pub change: ChangeArgs,
    /// The branch to deploy [default: the environment's branch, or what is checked out]
    #[arg(long, short = 'b', value_name = "BRANCH", conflicts_with_all = ["revision", "artifact"])]
    pub branch: Option<String>,
    /// The commit or tag to deploy
    #[arg(long, value_name = "REV", conflicts_with = "artifact")]
    pub revision: Option<String>,
    /// A folder or tar archive to deploy in place of a commit
    #[arg(long, value_name = "DIR|TAR")]
    pub artifact: Option<PathBuf>,
}

/// Arguments of `ship rollback`.
#[derive(Clone, Debug, Default, Args)]
pub struct RollbackArgs {
    /// What changes hosts
    #[command(flatten)]
    pub change: ChangeArgs,
    /// The release to go back to [default: the newest older one that was healthy on every host]
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<String>,
}

/// Arguments of `ship setup`.
#[derive(Clone, Debug, Default, Args)]
pub struct SetupArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// Another login than the one that deploys: root, or one that may use sudo for everything
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Overwrite this file though ship did not write it (repeatable)
    #[arg(long, value_name = "PATH")]
    pub overwrite: Vec<String>,
    /// Steps to leave out, by name, kind or tag (repeatable)
    #[arg(long, value_name = "STEP|TAG")]
    pub skip: Vec<String>,
    /// The only steps to take, by name, kind or tag (repeatable)
    #[arg(long, value_name = "STEP|TAG")]
    pub only: Vec<String>,
    /// Do not ask for confirmation; a file that ship did not write is still not overwritten
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Show what would change, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for a lock that somebody else holds
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub lock_wait: Option<Duration>,
}

/// Arguments of `ship history`.
#[derive(Clone, Debug, Default, Args)]
pub struct HistoryArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// How many entries to show
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub lines: usize,
}

/// Arguments of `ship run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// Run it as root through sudo
    #[arg(long)]
    pub sudo: bool,
    /// Run it in the folder of the live release
    #[arg(long)]
    pub in_release: bool,
    /// Run it where this service runs, with its settings, on the first host that has it; on a terminal a person
    /// can answer it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["sudo", "in_release"])]
    pub service: Option<String>,
    /// In the service's running container, in place of a new one
    #[arg(long, requires = "service")]
    pub exec: bool,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub limit: Option<Duration>,
    /// The command; one argument is shell text, several are a program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub words: Vec<String>,
}

/// Arguments of `ship logs`.
#[derive(Clone, Debug, Default, Args)]
pub struct LogsArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// The services [default: all that the recipe names]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Go on as lines are written, until Ctrl-C
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// How many of the last lines to show [default: 100, or all since `--since`]
    #[arg(long, short = 'n', value_name = "LINES")]
    pub lines: Option<u32>,
    /// From when on: 2h, 30m, or 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Read them as root through sudo
    #[arg(long)]
    pub sudo: bool,
}

/// Arguments of `ship ssh`.
#[derive(Clone, Debug, Default, Args)]
pub struct SshArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub environment: Option<String>,
    /// The host [default: the first]
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
}

/// Arguments of `ship lock`.
#[derive(Clone, Debug, Default, Args)]
pub struct LockArgs {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// Why, for those who meet the lock
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Arguments of `ship init`.
#[derive(Clone, Debug, Default, Args)]
pub struct InitArgs {
    /// The server to deploy to: `user@host` or a Host of ~/.ssh/config
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
    /// The recipe [default: what fits the files here]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Overwrite an inventory.toml that is there
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `ship recipes`.
#[derive(Clone, Debug, Default, Args)]
pub struct RecipesArgs {
    /// What to do with them
    #[command(subcommand)]
    pub action: Option<RecipesAction>,
}

/// What to do with recipes.
#[derive(Clone, Debug, Subcommand)]
pub enum RecipesAction {
    /// Print a recipe
    Show {
        /// Its name
        name: String,
    },
    /// Copy a recipe into the project, to change it
    Eject {
        /// Its name
        name: String,
    },
}

/// Arguments of `ship schema`.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// Of which file
    #[arg(value_enum)]
    pub file: SchemaFile,
}

/// The files that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaFile {
    /// inventory.toml
    Inventory,
    /// recipes/NAME.toml
    Recipe,
}

/// Arguments of `ship completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `ship demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Keep the folders and print where they are
    #[arg(long)]
    pub keep: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "expected a time such as 30s, 5m or 250ms".to_owned())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl Global {
    /// The defaults, for runs that no command line started.
    pub fn quiet() -> Self {
        Self {
            inventory: None,
            output: Output::Auto,
            quiet: false,
            verbose: 0,
            no_color: false,
            timeout: Duration::from_secs(15),
            ssh_config: None,
        }
    }
}
