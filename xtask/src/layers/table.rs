//! Which room of `src/` may see which: the layer rule as a table.
//!
//! The lowest rooms come first. A new room is added here, with no more than it needs.

/// A module at the top of the crate, and the other modules at the top that it may use.
#[derive(Debug)]
pub struct Room {
    /// The name of the module.
    pub name: &'static str,
    /// What it may use, apart from itself.
    pub may_use: &'static [&'static str],
}

/// The whole rule.
pub const ROOMS: &[Room] = &[
    // Words that every other room speaks. Each may use those above it.
    Room { name: "secret", may_use: &[] },
    Room { name: "output", may_use: &["secret"] },
    Room { name: "dotenv", may_use: &["secret"] },
    Room { name: "target", may_use: &["secret"] },
    Room { name: "document", may_use: &["secret", "output"] },
    Room { name: "command", may_use: &["secret", "output", "document"] },
    Room { name: "layout", may_use: &["secret", "output", "document", "command"] },
    Room { name: "event", may_use: &["secret", "output", "document", "command", "layout"] },
    // What is sent, and what a host looks like.
    Room { name: "artifact", may_use: &["secret", "output", "document", "command", "layout", "event"] },
    Room { name: "lock", may_use: &["secret", "output", "document", "command", "layout", "event"] },
    Room {
        name: "facts",
        may_use: &["secret", "output", "document", "command", "layout", "event", "artifact", "lock"],
    },
    // Deciding: pure, without a network or a terminal.
    Room {
        name: "step",
        may_use: &["secret", "output", "document", "command", "layout", "event", "artifact", "lock", "facts"],
    },
    Room {
        name: "config",
        may_use: &[
            "secret", "target", "output", "document", "command", "layout", "event", "artifact", "lock", "facts", "step",
        ],
    },
    Room {
        name: "plan",
        may_use: &[
            "secret", "dotenv", "target", "output", "document", "command", "layout", "event", "artifact", "lock",
            "facts", "step", "config",
        ],
    },
    // Talking to hosts, which knows nothing of recipes or plans.
    Room { name: "session", may_use: &["command", "event", "secret", "target", "output"] },
    // Doing.
    Room {
        name: "fleet",
        may_use: &[
            "secret", "target", "output", "document", "command", "layout", "event", "artifact", "lock", "facts",
            "step", "config", "plan", "session",
        ],
    },
    Room {
        name: "execute",
        may_use: &[
            "secret", "target", "output", "document", "command", "layout", "event", "artifact", "lock", "facts",
            "step", "config", "plan", "session", "fleet",
        ],
    },
    // Telling, which knows nothing but what happened.
    Room { name: "report", may_use: &["event", "secret", "output"] },
    // The binary's own surface.
    Room {
        name: "error",
        may_use: &[
            "secret", "target", "output", "document", "command", "layout", "event", "artifact", "lock", "facts",
            "step", "config", "plan", "session", "fleet", "execute",
        ],
    },
    // A server to deploy to, and a deploy that goes through the same door as any other.
    Room { name: "demo", may_use: &["command", "event", "secret", "output", "session", "report", "error", "cli"] },
    Room {
        name: "cli",
        may_use: &[
            "secret", "dotenv", "target", "output", "document", "command", "layout", "event", "artifact", "lock",
            "facts", "step", "config", "plan", "session", "fleet", "execute", "report", "error", "demo",
        ],
    },
    Room { name: "main", may_use: &["cli", "error"] },
];

/// The room of this name.
pub fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

#[cfg(test)]
mod tests {
    use super::{ROOMS, room};

    #[test]
    fn every_name_in_the_table_is_a_room() {
        for room_of_the_table in ROOMS {
            for name in room_of_the_table.may_use {
                assert!(room(name).is_some(), "{} may use {name}, which is no room", room_of_the_table.name);
            }
        }
    }

    #[test]
    fn only_the_demo_and_the_command_line_see_each_other() {
        for (place, lower) in ROOMS.iter().enumerate() {
            for higher in ROOMS.iter().skip(place) {
                let both = lower.may_use.contains(&higher.name) && higher.may_use.contains(&lower.name);
                assert!(!both || (lower.name, higher.name) == ("demo", "cli"), "{} and {}", lower.name, higher.name);
            }
        }
    }
}
