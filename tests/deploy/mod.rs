//! Whole deploys: the real `ship` against real OpenSSH servers on loopback, without root, port 22 or Docker.
//!
//! A test is a story: a [`fleet::Fleet`] of hosts and a project, commits, runs of `ship`, and what each host
//! then serves. Hosts are shared between tests, each of which deploys to a folder of its own; a test that
//! changes a server asks for its own. What must happen at one moment waits at a [`gate::Gate`], never for a while.

mod basics;
mod changed_by_hand;
mod crashes;
mod detach;
mod eleven_bugs;
mod env;
mod every_moment;
mod failures;
mod files;
mod fleet;
mod gate;
mod host;
mod interrupts;
mod large_files;
mod link;
mod lost_connections;
mod many_hosts;
mod odd_hosts;
mod racing;
mod ran;
mod recipe;
mod refusals;
mod round_trips;
mod secrets;
mod setup;
mod shared_files;
mod slow_hosts;
mod sources;
mod steps;
mod surroundings;
mod uploads;
