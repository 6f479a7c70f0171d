//! The containers of a project, as Docker lists them, and whether they stay up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::docker::SEPARATOR;
use super::ready::logged;
use crate::output::visible;
use crate::step::{Sample, Verdict};

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its service.
    pub service: String,
    /// The frozen configuration that it was made with; empty where ship did not make it.
    pub config: String,
    /// `created`, `running`, `exited` …
    pub state: String,
    /// For people: `Up 3 seconds (healthy)`, `Exited (0) 2 minutes ago`.
    pub status: String,
}

impl Container {
    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.state == "running"
    }

    /// The status with which it ended, where it did.
    pub fn ended(&self) -> Option<i32> {
        let (code, _) = self.status.strip_prefix("Exited (")?.split_once(')')?;
        code.parse().ok().filter(|_| self.state == "exited")
    }
}

/// Reads the answer to [`super::docker::Docker::containers`]. Lines that make no sense are left out.
pub fn parse(answer: &str) -> Vec<Container> {
    answer
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(5, SEPARATOR).map(str::to_owned);
            Some(Container {
                id: fields.next().filter(|id| !id.is_empty())?,
                service: fields.next()?,
                config: fields.next()?,
                state: fields.next()?,
                status: fields.next()?,
            })
        })
        .collect()
}

/// What is waited for: a judge of [`crate::step::Poll`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The containers run and are healthy, where they say so, for the window; asked by `docker container inspect`.
    Steady {
        /// The service of each container, by its id.
        services: BTreeMap<String, String>,
        /// How long they must stay up.
        window: Duration,
    },
    /// The one container of a service ended with status 0; asked by `docker ps`.
    Ended {
        /// The service.
        service: String,
        /// The frozen configuration.
        config: String,
    },
    /// A line of the log matches; asked by `docker compose logs`.
    Logged {
        /// A regular expression.
        pattern: String,
    },
}

impl Watch {
    /// What is waited for, for plans.
    pub fn until(&self) -> String {
        match self {
            Self::Steady { window, .. } => format!("every container was up for {} s", window.as_secs_f32()),
            Self::Ended { service, .. } => format!("{service} ended with status 0"),
            Self::Logged { pattern } => format!("a line matches {pattern:?}"),
        }
    }

    /// What the answers so far mean.
    pub fn verdict(&self, samples: &[Sample]) -> Verdict {
        let Some(last) = samples.last() else { return Verdict::Again("no answer yet".to_owned()) };
        match self {
            Self::Steady { services, window } => steady(services, *window, samples, last),
            Self::Logged { pattern } => logged(pattern, last),
            Self::Ended { service, config } => {
                let containers = parse(&last.output);
                let Some(own) = containers.iter().find(|own| own.service == *service && own.config == *config) else {
                    return Verdict::Failed(format!("{service} has no container"));
                };
                match own.ended() {
                    Some(0) => Verdict::Done,
                    Some(code) => Verdict::Failed(format!("{service} ended with status {code}")),
                    None => Verdict::Again(format!("{service} is {}", own.state)),
                }
            }
        }
    }
}

/// What `docker container inspect` says of one container.
struct Seen {
    id: String,
    state: String,
    restarts: u32,
    health: String,
    /// What it ended with, where it did.
    code: Option<i64>,
    /// The last line that its health check printed.
    said: String,
}

fn seen(output: &str) -> Vec<Seen> {
    let read = |line: &str| -> Option<Seen> {
        let mut fields = line.splitn(3, SEPARATOR);
        let (id, restarts, state) = (fields.next()?, fields.next()?, fields.next()?);
        let state: serde_json::Value = serde_json::from_str(state).ok()?;
        let text = |value: Option<&serde_json::Value>| {
            value.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        Some(Seen {
            id: id.to_owned(),
            state: text(state.get("Status")),
            restarts: restarts.parse().unwrap_or(0),
            health: text(state.get("Health").and_then(|health| health.get("Status"))),
            code: state.get("ExitCode").and_then(serde_json::Value::as_i64),
            said: said(state.get("Health")),
        })
    };
    output.lines().filter_map(read).collect()
}

/// The last line of what a health check printed when it was last run.
fn said(health: Option<&serde_json::Value>) -> String {
    let last = health.and_then(|health| health.get("Log")?.as_array()?.last()?.get("Output")?.as_str());
    let line = last.and_then(|output| output.lines().rfind(|line| !line.trim().is_empty())).unwrap_or_default();
    visible(line.chars().take(200).collect::<String>().as_bytes())
}

/// A container that dies and is started again by its restart policy is running whenever it is looked at, so the
/// number of restarts decides too.
fn steady(services: &BTreeMap<String, String>, window: Duration, samples: &[Sample], last: &Sample) -> Verdict {
    let first = samples.first().map(|sample| seen(&sample.output)).unwrap_or_default();
    let now = seen(&last.output);
    if !last.success || now.len() < services.len() {
        return Verdict::Failed("a container is gone".to_owned());
    }
    let checked =
        |own: &Seen| if own.said.is_empty() { String::new() } else { format!(": its check says {}", own.said) };
    for own in &now {
        let service = services.get(&own.id).map_or("a container", String::as_str);
        let before = first.iter().find(|before| before.id == own.id).map_or(own.restarts, |before| before.restarts);
        match (own.state.as_str(), own.health.as_str()) {
            _ if own.restarts > before => {
                return Verdict::Failed(format!("{service} ended and was started again by Docker"));
            }
            ("running", "unhealthy") => return Verdict::Failed(format!("{service} is unhealthy{}", checked(own))),
            ("running", "starting") => return Verdict::Again(format!("{service} is not healthy yet{}", checked(own))),
            ("running", _) => {}
            ("created", _) => return Verdict::Again(format!("{service} is not started yet")),
            ("exited", _) => {
                let code = own.code.map(|code| format!(" with status {code}")).unwrap_or_default();
                return Verdict::Failed(format!("{service} ended{code}"));
            }
            (state, _) => return Verdict::Failed(format!("{service} is {state}")),
        }
    }
    let up =
        |sample: &Sample| seen(&sample.output).iter().all(|own| own.state == "running" && own.health != "starting");
    let since = samples.iter().rev().take_while(|sample| up(sample)).last().map_or(last.elapsed, |first| first.elapsed);
    if last.elapsed.saturating_sub(since) >= window { Verdict::Done } else { Verdict::Again("up; watching".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_and_nonsense_is_left_out() {
        let answer =
            "aa|front|f1|exited|Exited (0) 2 seconds ago\nbb|web|w1|running|Up 1 second (health: starting)\nx\n";
        let containers = parse(answer);
        assert_eq!(containers.len(), 2);
        assert_eq!(containers.iter().map(Container::ended).collect::<Vec<_>>(), [Some(0), None]);
        assert!(containers.iter().any(Container::running));
    }

    /// `ID|STATE|RESTARTS|HEALTH` as Docker says it.
    fn answer(short: &str) -> String {
        let fields: Vec<&str> = short.split('|').collect();
        let [id, state, restarts, health] = fields[..] else { return String::new() };
        let health = if health.is_empty() { serde_json::json!(null) } else { serde_json::json!({ "Status": health }) };
        format!("{id}|{restarts}|{}\n", serde_json::json!({ "Status": state, "Health": health }))
    }

    fn verdict(outputs: &[(u64, &str)]) -> Verdict {
        let samples: Vec<Sample> = outputs
            .iter()
            .map(|(millis, output)| Sample {
                elapsed: Duration::from_millis(*millis),
                success: true,
                output: answer(output),
            })
            .collect();
        let services = BTreeMap::from([("aa".to_owned(), "web".to_owned())]);
        Watch::Steady { services, window: Duration::from_secs(2) }.verdict(&samples)
    }

    #[test]
    fn a_container_has_to_stay_up_and_healthy_for_the_window() {
        assert_eq!(verdict(&[(0, "aa|running|0|")]), Verdict::Again("up; watching".to_owned()));
        assert_eq!(verdict(&[(0, "aa|running|0|"), (2000, "aa|running|0|")]), Verdict::Done);
        assert_eq!(
            verdict(&[(0, "aa|running|0|starting"), (2000, "aa|running|0|healthy")]),
            Verdict::Again("up; watching".to_owned())
        );
        let failed = |outputs: &[(u64, &str)]| matches!(verdict(outputs), Verdict::Failed(_));
        assert!(failed(&[(0, "aa|running|0|"), (500, "aa|running|1|")]));
        assert!(failed(&[(0, "aa|running|0|unhealthy")]));
        assert!(failed(&[(0, "aa|restarting|3|")]));
        assert!(failed(&[(0, "aa|exited|0|")]));
        assert!(failed(&[(0, "")]));
    }

    #[test]
    fn it_is_said_how_a_container_ended_and_what_its_check_printed() {
        let of = |state: serde_json::Value| {
            let services = BTreeMap::from([("aa".to_owned(), "web".to_owned())]);
            let output = format!("aa|0|{state}\n");
            let sample = Sample { elapsed: Duration::ZERO, success: true, output };
            Watch::Steady { services, window: Duration::from_secs(2) }.verdict(&[sample])
        };
        let ended = of(serde_json::json!({ "Status": "exited", "ExitCode": 7 }));
        assert_eq!(ended, Verdict::Failed("web ended with status 7".to_owned()));
        let log = serde_json::json!([{ "Output": "old" }, { "Output": "curl: no\u{1b} route\n\n" }]);
        let sick = of(serde_json::json!({ "Status": "running", "Health": { "Status": "unhealthy", "Log": log } }));
        assert_eq!(sick, Verdict::Failed("web is unhealthy: its check says curl: no\\x1b route".to_owned()));
    }
}
