//! What `ship env` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{SelectArgs, parse_duration};

/// Arguments of `ship env`.
#[derive(Clone, Debug, Args)]
pub struct EnvArgs {
    /// What to do with the settings
    #[command(subcommand)]
    pub action: EnvAction,
}

/// What to do with the settings.
#[derive(Clone, Debug, Subcommand)]
pub enum EnvAction {
    /// List the settings of each host; says where hosts differ
    List {
        /// Which hosts
        #[command(flatten)]
        select: SelectArgs,
        /// Show the values
        #[arg(long)]
        show: bool,
    },
    /// Print the exact bytes of one value
    Get(EnvWords),
    /// Set values: KEY=VALUE…, or KEY with its value from a file, standard input or a question without echo
    Set {
        /// Which hosts, and what
        #[command(flatten)]
        change: EnvChange,
        /// Take the value of the one KEY from this file, byte for byte
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Remove settings
    Unset(EnvChange),
    /// Replace the whole file by one of this machine
    Push {
        /// Which hosts, and what
        #[command(flatten)]
        change: EnvChange,
        /// Take values that still have a `<placeholder>` in them
        #[arg(long)]
        allow_placeholders: bool,
        /// Remove the variables that only the host has
        #[arg(long)]
        prune: bool,
    },
}

/// Hosts and words. Where the first word is no environment of the inventory, it is one of the words.
#[derive(Clone, Debug, Default, Args)]
pub struct EnvWords {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// KEY, KEY=VALUE or FILE
    #[arg(value_name = "KEY|KEY=VALUE|FILE")]
    pub words: Vec<String>,
}

/// What changes settings.
#[derive(Clone, Debug, Default, Args)]
pub struct EnvChange {
    /// Which hosts, and what
    #[command(flatten)]
    pub what: EnvWords,
    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// How long to wait for a lock that somebody else holds
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub lock_wait: Option<Duration>,
}
