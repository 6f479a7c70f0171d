//! argv to exit code. The only place that knows the clock and the environment.

use std::io::IsTerminal;
use std::process::ExitCode;

use ship::cli::{self, machine::Machine};

#[expect(clippy::disallowed_methods, reason = "main is where the environment and the clock come in")]
fn main() -> ExitCode {
    let machine = Machine {
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        hostname: std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::fs::read_to_string("/etc/hostname"))
            .map_or_else(|_| "this-machine".to_owned(), |name| name.trim().to_owned()),
        clock: jiff::Timestamp::now,
        monotonic: std::time::Instant::now,
        stdin_is_terminal: std::io::stdin().is_terminal(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
    };
    ExitCode::from(cli::main(std::env::args_os().collect(), &machine))
}
