//! The acts of the demo: what is done in each, what has to come of it, and whether it did.

use std::time::Duration;

use super::site::Version;

/// What an act does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Writes a version of the site and deploys it.
    Deploy(Version),
    /// Rolls back.
    Rollback,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// Its name.
    pub(super) title: &'static str,
    /// What is about to happen.
    pub(super) about: &'static str,
    /// What is done.
    pub(super) deed: Deed,
    /// The exit code that it has to have.
    pub(super) exit: u8,
    /// The version that both hosts have to serve afterwards.
    pub(super) live: u32,
    /// The version that has to have been seen meanwhile, though it is not live afterwards.
    pub(super) passing: Option<u32>,
}

/// The acts, in their order.
pub(super) fn acts() -> Vec<Act> {
    let deploy = |number, complete| Deed::Deploy(Version { number, complete });
    vec![
        Act {
            title: "A first deploy",
            about: "Version 1 of a small site goes to both servers: prepared on both, then switched on web1,\n\
                    asked for its health there, and only then switched on web2.",
            deed: deploy(1, true),
            exit: 0,
            live: 1,
            passing: None,
        },
        Act {
            title: "A second deploy",
            about: "Version 2 takes its place. From now on a visitor asks both servers, again and again.",
            deed: deploy(2, true),
            exit: 0,
            live: 2,
            passing: None,
        },
        Act {
            title: "A deploy that fails its health check",
            about: "Version 3 has lost de/health.txt. web1 is asked for the English page and goes live with it;\n\
                    web2 is asked for the German one and answers 404. Then both have to be put back.",
            deed: deploy(3, false),
            exit: 1,
            live: 2,
            passing: Some(3),
        },
        Act {
            title: "A rollback",
            about: "Version 2 is not wanted either: back to version 1, which is still on the servers.",
            deed: Deed::Rollback,
            exit: 0,
            live: 1,
            passing: None,
        },
    ]
}

/// What came of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The exit code that the command would have had.
    pub(super) exit: u8,
    /// How long it took.
    pub(super) took: Duration,
    /// What each host serves afterwards, or why it serves nothing.
    pub(super) live: Vec<(&'static str, Result<String, String>)>,
    /// How often the passing version was seen.
    pub(super) passing: u64,
}

/// The title of a version's pages.
pub(super) fn title(number: u32) -> String {
    Version { number, complete: true }.title()
}

impl Act {
    /// What differs from how it had to be, as sentences without their full stops.
    pub(super) fn differences(&self, outcome: &Outcome) -> Vec<String> {
        let mut differences = Vec::new();
        if outcome.exit != self.exit {
            differences.push(format!("the exit code is {} and should be {}", outcome.exit, self.exit));
        }
        let wanted = title(self.live);
        for (host, live) in &outcome.live {
            match live {
                Ok(title) if *title == wanted => {}
                Ok(title) => differences.push(format!("{host} serves \"{title}\" and should serve \"{wanted}\"")),
                Err(why) => differences.push(format!("{host} should serve \"{wanted}\", but {why}")),
            }
        }
        if let (Some(number), 0) = (self.passing, outcome.passing) {
            differences.push(format!("nobody saw \"{}\", which should have been live for a moment", title(number)));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_that_came_out_otherwise_says_in_what() {
        let acts = acts();
        let failing = acts.iter().find(|act| act.passing.is_some()).unwrap();
        let good = Outcome {
            exit: 1,
            took: Duration::ZERO,
            live: vec![("web1", Ok("Version 2".to_owned())), ("web2", Ok("Version 2".to_owned()))],
            passing: 7,
        };
        assert_eq!(failing.differences(&good), Vec::<String>::new());
        let bad = Outcome {
            exit: 0,
            live: vec![("web1", Ok("Version 3".to_owned())), ("web2", Err("port 1 answered 404".to_owned()))],
            passing: 0,
            ..good
        };
        assert_eq!(
            failing.differences(&bad),
            [
                "the exit code is 0 and should be 1",
                "web1 serves \"Version 3\" and should serve \"Version 2\"",
                "web2 should serve \"Version 2\", but port 1 answered 404",
                "nobody saw \"Version 3\", which should have been live for a moment",
            ]
        );
    }
}
