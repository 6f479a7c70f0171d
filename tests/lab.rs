//! The lab tier: `ship` against real servers with systemd, sshd and sudo. `cargo xtask test` brings them up.
//!
//! `SHIP_LAB` names the file that `cargo xtask lab up` wrote. Run these one after the other: they share hosts.

#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]

#[path = "lab/certificate.rs"]
mod certificate;
#[path = "lab/compose_one_shot.rs"]
mod compose_one_shot;
#[path = "lab/compose_proxy.rs"]
mod compose_proxy;
#[path = "lab/compose_stage.rs"]
mod compose_stage;
#[path = "lab/crash_loop.rs"]
mod crash_loop;
#[path = "lab/detach.rs"]
mod detach;
#[path = "lab/django.rs"]
mod django;
#[path = "lab/django_instances.rs"]
mod django_instances;
#[path = "lab/django_single.rs"]
mod django_single;
#[path = "lab/hosts.rs"]
mod hosts;
#[path = "lab/images.rs"]
mod images;
#[path = "lab/password.rs"]
mod password;
#[path = "lab/services.rs"]
mod services;
#[path = "lab/settings.rs"]
mod settings;
#[path = "lab/setup.rs"]
mod setup;
#[path = "lab/spy.rs"]
mod spy;
#[path = "lab/stack.rs"]
mod stack;
#[path = "lab/visitor.rs"]
mod visitor;
