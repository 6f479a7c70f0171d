//! `ship`: an agentless SSH push deployer.
//!
//! # The map
//!
//! ```text
//! argv ───────────┐
//! inventory.toml ─┤ config        facts             plan            execute               report
//! recipes/x.toml ─┴─► Recipe, ──► what each host ──► Plan (value) ──► phases × batches ──► Event ──► terminal | plain
//!                     Inventory   looks like: one    pure; printed     × hosts over SSH     stream    | json | github
//!                     (checked)   read-only batch    by `ship plan`                                   + transcript
//! ```
//!
//! Look, decide, do, tell. Only "decide" is interesting, so only "decide" is pure and most tested: `plan`
//! knows no network, `execute` knows no terminal, `report` knows nothing but events.
//!
//! | room | purpose |
//! |---|---|
//! | [`secret`] | values that are never shown, and the mask over all output |
//! | [`output`] | bytes from a host become lines that are safe to show |
//! | [`dotenv`] | settings files (`.env`): read as Compose reads them, changed without touching another byte |
//! | [`document`] | TOML whose values know their place; problems with file:line:column |
//! | [`command`] | commands as values; the only place that quotes for the shell |
//! | [`target`] | where and as whom to connect |
//! | [`layout`] | paths on a host, names of releases |
//! | [`event`] | what happened |
//! | [`artifact`] | the tree that is uploaded: source, manifest, difference, pack |
//! | [`facts`] | what a host looked like: the survey and its parser; the lock |
//! | [`step`] | one file per step kind: what it is in a recipe, which tasks it becomes |
//! | [`config`] | inventory, recipe, options, secrets, templates: files become checked values |
//! | [`plan`] | deploy, rollback and sudoers as values |
//! | [`session`] | the only folder that touches SSH |
//! | [`fleet`], [`execute`] | all hosts at once; phases, batches, put-back, cancellation |
//! | [`report`] | terminal, plain, json, github, transcript |
//! | [`demo`] | the SSH server in the binary |
//! | [`cli`], [`error`] | a clap type and a short function per command; kind of failure to exit code |
//!
//! # The layer rule
//!
//! `secret dotenv output document command layout event` ← `artifact facts` ← `step` ← `config` ← `plan` ←
//! `fleet execute` ← `cli` ← `main`; `session` sees only `command event output secret`; `report` sees
//! only `event secret output`. `cargo xtask layers` checks it.
//!
//! # What is deliberately absent
//!
//! - An agent, a daemon or a helper file on the host: POSIX `sh`, coreutils, `tar` and `flock` do it.
//! - A second way back: a rollback and a put-back publish an older release through the same steps.
//! - Shell that decides: what a host looks like is a fact, and Rust decides on it.
//! - Meaning read from the text of stderr.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests run real programs and read the clock"))]

pub mod artifact;
pub mod cli;
pub mod command;
pub mod config;
pub mod demo;
pub mod document;
pub mod dotenv;
pub mod error;
pub mod event;
pub mod execute;
pub mod facts;
pub mod fleet;
pub mod layout;
pub mod lock;
pub mod output;
pub mod plan;
pub mod report;
pub mod secret;
pub mod session;
pub mod step;
pub mod target;
