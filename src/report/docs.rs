//! The documentation of `--output json`, from one table that a test holds against every event.

use crate::event::VERSION;

/// An event in the documentation.
struct Entry {
    name: &'static str,
    when: &'static str,
    fields: &'static [Field],
}

/// A field of an event: name, type, meaning.
type Field = (&'static str, &'static str, &'static str);

/// What every event has.
const COMMON: &[Field] = &[
    ("v", "number", "the version of this format; it grows when a reader would have to change"),
    ("seq", "number", "counts from 0 in each run, without gaps"),
    ("time", "string", "when, as RFC 3339 in UTC with milliseconds"),
    ("at_millis", "number", "milliseconds since the run began, by a clock that never jumps"),
    ("event", "string", "which event, as below"),
];

const OWN: Field = ("own", "boolean", "whether it is ship's own bookkeeping");
const HOST: Field = ("host", "string", "the host's name in the inventory; `local` for this machine");
const TASK: Field = ("task", "number", "the task's number, unique on that host in this run");
const PHASE: Field = ("phase", "string", "`connect`, `build`, `prepare`, `publish`, `finish`, `put_back` or `setup`");
const SOME_HOST: Field = ("host", "string or null", "the host that it is about; null where it is about the run");
const ACTION: Field = ("action", "string", "`deploy`, `rollback`, `setup` or `run`");
const MILLIS: Field = ("millis", "number", "how long it took, in milliseconds");

/// Every event, in the order in which a run brings them up.
const EVENTS: &[Entry] = &[
    Entry {
        name: "run_started",
        when: "The first event of every run.",
        fields: &[
            ACTION,
            ("app", "string", "the application"),
            ("environment", "string or null", "the environment, where the inventory has any"),
            ("hosts", "array of strings", "the hosts, in the order of the inventory"),
            ("revision", "string or null", "full commit id, or the digest of an artifact"),
            ("description", "string or null", "for people: branch, author and title, or the artifact's path"),
        ],
    },
    Entry {
        name: "release_chosen",
        when: "The release's name is known.",
        fields: &[("release", "string", "the release's id, the same on every host")],
    },
    Entry {
        name: "phase_started",
        when: "A phase, or one batch of it, begins.",
        fields: &[
            PHASE,
            ("hosts", "array of strings", "its hosts"),
            ("batch", "[number, number] or null", "which batch, counted from 1, and of how many"),
        ],
    },
    Entry { name: "phase_finished", when: "A phase, or one batch of it, ended.", fields: &[PHASE, MILLIS] },
    Entry {
        name: "host_connected",
        when: "A host answered and let us in.",
        fields: &[HOST, ("address", "string", "`user@address:port`"), MILLIS],
    },
    Entry {
        name: "task_started",
        when: "A task begins.",
        fields: &[
            HOST,
            TASK,
            PHASE,
            ("name", "string", "the step's name"),
            ("command", "string or null", "the command, as it would be typed; secrets are masked"),
            OWN,
        ],
    },
    Entry {
        name: "task_output",
        when: "A task printed a line.",
        fields: &[
            HOST,
            TASK,
            ("stream", "string", "`stdout` or `stderr`"),
            ("line", "string", "the line: control characters made visible, secrets masked"),
        ],
    },
    Entry {
        name: "task_progress",
        when: "A task sent bytes.",
        fields: &[HOST, TASK, ("sent", "number", "bytes sent so far"), ("total", "number", "bytes to send in all")],
    },
    Entry {
        name: "task_finished",
        when: "A task ended.",
        fields: &[
            HOST,
            TASK,
            PHASE,
            ("name", "string", "the step's name"),
            ("result", "string", "`done`, `failed`, or `tolerated` where it failed and nothing depends on it"),
            ("status", "string, unless done", "what it came to: `exit status 3`, `killed by SIGKILL`, …"),
            ("command", "string or null, unless done", "the command, as it would be typed"),
            ("last_lines", "array of strings, unless done", "the last lines that it printed"),
            ("advice", "string or null, unless done", "what to try"),
            MILLIS,
            OWN,
        ],
    },
    Entry { name: "notice", when: "Something worth knowing.", fields: &[SOME_HOST, ("text", "string", "what")] },
    Entry {
        name: "warning",
        when: "Something that a person should mend, though the run goes on.",
        fields: &[SOME_HOST, ("text", "string", "what")],
    },
    Entry {
        name: "run_finished",
        when: "The last event of every run.",
        fields: &[
            ("outcome", "string", "`done`, `failed`, `refused`, `needs_person` or `interrupted`"),
            ("exit_code", "number", "the exit code of the process"),
            ACTION,
            ("hosts", "array of objects", "a row for each host, as below"),
            MILLIS,
            ("hints", "array of strings", "what to do next, where something went wrong"),
        ],
    },
];

/// A row of `run_finished`'s `hosts`.
const SUMMARY: &[Field] = &[
    ("host", "string", "the host's name in the inventory"),
    ("before", "string or null", "the release that was live before"),
    ("after", "string or null", "the release that is live now; null where there is none or nobody knows"),
    ("state", "string", "`live`, `unchanged`, `put_back` or `unknown`"),
    ("why", "string or null", "why, where something went wrong"),
    ("commands", "array of strings", "for the person who has to look, where the state is `unknown`"),
];

/// The documentation as Markdown. A new field may come with any version of ship, so readers skip what
/// they do not know; `v` grows only when a field or event changes its meaning or goes.
pub fn docs() -> String {
    let mut text = format!(
        "`--output json` prints one event a line to standard output, version {VERSION} of this format. New events and \
         new fields may come\nwithin a version: skip what you do not know. Every event has:\n\n"
    );
    text.push_str(&table(COMMON));
    for entry in EVENTS {
        text.push_str(&format!("\n**`{}`**: {}\n\n{}", entry.name, entry.when, table(entry.fields)));
    }
    text.push_str(&format!("\nEach of the `hosts` of `run_finished`:\n\n{}", table(SUMMARY)));
    text
}

fn table(fields: &[Field]) -> String {
    let mut text = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    for (name, kind, meaning) in fields {
        text.push_str(&format!("| `{name}` | {kind} | {meaning} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Stamped};
    use crate::report::rehearsal;
    use insta::assert_snapshot;
    use serde_json::Value;

    /// Without a catch-all arm: a new event does not compile until it is named, and then documented, here.
    fn name(event: &Event) -> &'static str {
        match event {
            Event::RunStarted { .. } => "run_started",
            Event::ReleaseChosen { .. } => "release_chosen",
            Event::PhaseStarted { .. } => "phase_started",
            Event::PhaseFinished { .. } => "phase_finished",
            Event::HostConnected { .. } => "host_connected",
            Event::TaskStarted { .. } => "task_started",
            Event::TaskOutput { .. } => "task_output",
            Event::TaskProgress { .. } => "task_progress",
            Event::TaskFinished { .. } => "task_finished",
            Event::Notice { .. } => "notice",
            Event::Warning { .. } => "warning",
            Event::RunFinished { .. } => "run_finished",
        }
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn sorted(fields: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
        let mut names: Vec<&str> = fields.into_iter().collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_event_has_exactly_the_documented_fields() {
        let mut seen = Vec::new();
        let runs = [rehearsal::done(), rehearsal::prepare_fails(), rehearsal::needs_person()];
        for event in runs.into_iter().flatten().map(|(_, event)| event) {
            let stamped = Stamped { v: VERSION, seq: 0, time: String::new(), at_millis: 0, event };
            let name = name(&stamped.event);
            let entry =
                EVENTS.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name} is undocumented"));
            let json = serde_json::to_value(&stamped).unwrap();
            let done = json["result"] == "done";
            let fields = entry.fields.iter().filter(|(_, kind, _)| !done || !kind.ends_with("unless done"));
            let expected = sorted(COMMON.iter().chain(fields).map(|(name, ..)| *name));
            let mut found = keys(&json);
            found.sort_unstable();
            assert_eq!(found, expected, "{name}");
            assert_eq!(json["event"], name);
            if name == "run_finished" {
                let mut found = keys(&json["hosts"][0]);
                found.sort_unstable();
                assert_eq!(found, sorted(SUMMARY.iter().map(|(name, ..)| *name)));
            }
            seen.push(name);
        }
        for entry in EVENTS {
            assert!(seen.contains(&entry.name), "{} is documented and never rehearsed", entry.name);
        }
    }

    #[test]
    fn it_is_markdown() {
        let text = docs();
        assert!(text.contains("| `seq` | number | counts from 0 in each run, without gaps |"), "{text}");
        assert_snapshot!(text.lines().skip(12).take(4).collect::<Vec<_>>().join("\n"), @r"

        | field | type | meaning |
        |---|---|---|
        | `action` | string | `deploy`, `rollback`, `setup` or `run` |
        ");
    }
}
