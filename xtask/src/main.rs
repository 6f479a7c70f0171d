//! `cargo xtask`: the project's own chores. Reads the arguments and runs one chore.

mod bench;
mod cargo;
mod ci;
mod failure;
mod lab;
mod layers;
mod packages;
mod privilege;
mod process;
mod test;
mod workspace;

use std::process::ExitCode;

use failure::{Failure, Result};
use test::Tier;

const USAGE: &str = "\
Usage: cargo xtask CHORE

  test [--only TIER]        run the tests: pure, openssh, lab; installs what is missing where it may
  ci                        fmt, clippy, layers, cargo-deny, then all tests
  lab up                    start the servers of the lab (containers with systemd, sshd, sudo), or find them up
  lab down [--all]          remove them; with --all, also stop the Docker engine if the lab started it
  lab status                say how they are
  lab ssh HOST [-- CMD…]    open a shell on one of them, or run a command there
  bench [--only ROW]… [--tool TOOL]… [--runs N] [--ship FILE] [--copies] [--keep]
                            time the same job with ship and with other tools, and write the table into the README;
                            --ship measures a ship that is built already, --copies lets it copy what did not change, --keep leaves the servers up for the next run
  bench down                remove the servers that --keep left up
  layers                    check which module uses which, and the shape of every file";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &[String]) -> Result<u8> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["lab", "up"] => lab::up().map(|_| 0),
        ["lab", "down"] => lab::down(false).map(|()| 0),
        ["lab", "down", "--all"] => lab::down(true).map(|()| 0),
        ["lab", "status"] => lab::status().map(|up| u8::from(!up)),
        ["lab", "ssh", host] => lab::ssh(host, &[]),
        ["lab", "ssh", host, "--", ..] => lab::ssh(host, arguments.get(4..).unwrap_or_default()),
        ["test"] => test::run(None).map(|()| 0),
        ["test", "--only", tier] => test::run(Some(Tier::named(tier)?)).map(|()| 0),
        ["ci"] => ci::run().map(|()| 0),
        ["bench", "down"] => bench::down().map(|()| 0),
        ["bench", rest @ ..] => bench::run(rest).map(|()| 0),
        ["layers"] => layers::check().map(|()| 0),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(0)
        }
        _ => Err(Failure::new(format!("There is no such chore: {}\n\n{USAGE}", words.join(" ")))),
    }
}
