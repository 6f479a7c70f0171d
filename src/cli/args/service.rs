//! What `ship service` is told.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{SelectArgs, parse_duration};

/// Arguments of `ship service`.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// What to do
    #[command(subcommand)]
    pub action: ServiceAction,
}

/// What to do with services.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceAction {
    /// Restart them and watch that they stay up
    Restart(ServiceChange),
    /// Stop them
    Stop(ServiceChange),
    /// Start them and watch that they stay up
    Start(ServiceChange),
    /// Tell whether they are up; exit code 1 where one is not
    Status(ServiceSelect),
    /// Remove the containers and networks of the Compose project; `start` or a deploy makes them anew
    Down(ServiceDown),
}

/// Which services of which hosts.
#[derive(Clone, Debug, Default, Args)]
pub struct ServiceSelect {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// The services [default: all that the recipe names]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Arguments of `ship service restart`, `stop` and `start`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServiceChange {
    /// Which services
    #[command(flatten)]
    pub chosen: ServiceSelect,
    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// How long to wait for a deploy lock that somebody else holds
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub lock_wait: Option<Duration>,
}

/// Arguments of `ship service down`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServiceDown {
    /// Which hosts
    #[command(flatten)]
    pub select: SelectArgs,
    /// Remove the volumes too, with all that the services have stored; asks for the app's name first
    #[arg(long)]
    pub volumes: bool,
    /// Do not ask for confirmation
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// How long to wait for a deploy lock that somebody else holds
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    pub lock_wait: Option<Duration>,
}
