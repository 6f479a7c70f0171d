//! The services of the live Compose release: which commands show their logs, act on them and tell their state.
//!
//! All of it works on the frozen configuration of the live release, so nothing is built, pulled or replaced.

use std::time::Duration;

use super::services::{Act, Entry, Excerpt, Since, State};
use crate::command::Command;
use crate::facts::Facts;
use crate::layout::Layout;
use crate::step::compose::containers::{Container, parse};
use crate::step::compose::docker::{Docker, record};
use crate::step::compose::service::{Services, Way};
use crate::step::compose::{Compose, Watch};
use crate::step::{Action, Judge, Poll, Task};

/// How long services must stay up after they were started.
const WINDOW: Duration = Duration::from_secs(3);

/// How long they have to come up.
const WITHIN: Duration = Duration::from_secs(90);

/// How long one change may take.
const LIMIT: Duration = Duration::from_secs(600);

/// How far back a repeated look at logs goes, where lines of several containers may come late.
pub const OVERLAP: Duration = Duration::from_secs(5);

/// The live release of a Compose project on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// How Docker is called there.
    pub docker: Docker,
    /// The frozen configuration.
    pub file: String,
    /// All its services.
    pub services: Services,
    /// Those that a command is about.
    pub chosen: Vec<String>,
}

impl Stack {
    /// The live release that `step` deploys. The error says what the host lacks.
    pub fn of(step: &Compose, layout: &Layout, facts: &Facts) -> Result<Self, String> {
        let live = facts.live().ok_or("no release is live")?;
        let services = Services::of(facts, &live)
            .ok_or_else(|| format!("the live release {live} has no record of its Compose services"))?;
        let program = facts.program("docker").ok_or("`docker` is not on the host's PATH")?.to_owned();
        let chosen = services.services.iter().map(|own| own.name.clone()).collect();
        let docker = Docker::new(program, step.sudo, &step.project, layout);
        Ok(Self { docker, file: record::frozen(layout, &live), services, chosen })
    }

    /// The names of all its services.
    pub fn names(&self) -> Vec<String> {
        self.services.services.iter().map(|own| own.name.clone()).collect()
    }

    /// Those of the chosen that go on running.
    fn lasting(&self) -> Vec<String> {
        self.services.running().into_iter().filter(|name| self.chosen.contains(name)).collect()
    }

    fn compose(&self, words: &[&str], names: &[String]) -> Command {
        let words = words.iter().map(|word| (*word).to_owned()).chain(names.iter().cloned());
        self.docker.compose(&self.file, words).timeout(LIMIT)
    }

    /// Their logs, each line with its container and time in front.
    pub fn logs(&self, excerpt: Excerpt) -> Command {
        let mut words = vec!["logs".to_owned(), "--no-color".to_owned(), "--timestamps".to_owned()];
        words.extend(excerpt.lines.map(|lines| format!("--tail={lines}")));
        words.extend(excerpt.since.map(|since| match since {
            Since::Ago(ago) => format!("--since={}s", ago.as_secs()),
            Since::At(seconds) => format!("--since={seconds}"),
        }));
        words.extend(excerpt.follow.then(|| "--follow".to_owned()));
        words.extend(self.chosen.iter().cloned());
        self.docker.compose(&self.file, words).timeout(super::services::LONG)
    }

    /// What `act` runs. Stopped services are started as they are, and made anew only where they are gone.
    pub fn act(&self, act: Act) -> Vec<Task> {
        let names = self.lasting();
        if names.is_empty() {
            return Vec::new();
        }
        let command = match act {
            Act::Restart => self.compose(&["restart"], &names),
            Act::Stop => self.compose(&["stop"], &names),
            Act::Start => self.compose(&["up", "--detach", "--no-build", "--no-recreate"], &names),
        };
        vec![Task::new(format!("{} {}", act.name(), names.join(", ")), Action::Command(command))]
    }

    /// Watches that the chosen services stay up, where `answer` lists the containers.
    pub fn watch(&self, answer: &str) -> Option<Task> {
        let names = self.lasting();
        let containers: Vec<Container> =
            parse(answer).into_iter().filter(|container| names.contains(&container.service)).collect();
        if containers.is_empty() {
            return None;
        }
        let ids: Vec<String> = containers.iter().map(|own| own.id.clone()).collect();
        let services = containers.into_iter().map(|own| (own.id, own.service)).collect();
        let poll = Poll {
            probe: self.docker.inspect(&ids).timeout(Duration::from_secs(20)),
            judge: Judge::Compose(Watch::Steady { services, window: WINDOW }),
            interval: Duration::from_millis(500),
            within: WITHIN,
        };
        Some(Task::new(format!("watch {} for {} s", names.join(", "), WINDOW.as_secs()), Action::Poll(poll)))
    }

    /// Removes the containers and networks of the whole project, and with `volumes` what they have stored.
    pub fn down(&self, volumes: bool) -> Task {
        let name = if volumes { "remove the project and its volumes" } else { "remove the project" };
        Task::new(name, Action::Command(self.docker.down(volumes).timeout(LIMIT)))
    }

    /// The state of the chosen services, where `answer` lists the containers.
    pub fn states(&self, answer: &str) -> Vec<State> {
        let containers = parse(answer);
        let mut states = Vec::new();
        for service in self.services.services.iter().filter(|own| self.chosen.contains(&own.name)) {
            let own: Vec<&Container> =
                containers.iter().filter(|container| container.service == service.name).collect();
            if own.is_empty() {
                let wanted = service.replicas > 0;
                let state = if wanted { "no container" } else { "none, as it says" };
                states.push(State {
                    service: service.name.clone(),
                    state: state.to_owned(),
                    up: !wanted,
                    ..State::default()
                });
            }
            for container in own {
                let done = service.way == Way::OneShot && container.ended() == Some(0);
                let up = done || (container.running() && !container.status.contains("(unhealthy)"));
                states.push(State {
                    service: service.name.clone(),
                    state: container.status.clone(),
                    up,
                    ..State::default()
                });
            }
        }
        states
    }

    /// Runs `words` in a new container of the chosen service, or in one that runs. `terminal`: for a person.
    pub fn run(&self, words: &[String], in_running: bool, terminal: bool) -> Command {
        let mut argv: Vec<&str> = if in_running { vec!["exec"] } else { vec!["run", "--rm", "--no-deps"] };
        if !terminal {
            argv.push("--no-TTY");
        }
        let service = self.chosen.first().map(String::as_str).unwrap_or_default();
        argv.push(service);
        let shell = ["sh".to_owned(), "-c".to_owned()];
        let words: Vec<String> = match words {
            [text] => shell.into_iter().chain([text.clone()]).collect(),
            words => words.to_vec(),
        };
        self.compose(&argv, &words)
    }
}

/// Reads a line of [`Stack::logs`]: `web-1  | 2026-11-21T10:00:00.123456789Z hello`. What is before the bar and the
/// whole time are given back too, to know the line again.
pub fn entry(line: &[u8]) -> (Entry, Option<(String, String)>) {
    // Compose 2.26 clears a terminal's line before each of its own, also where there is none.
    let line = line.strip_prefix(b"\x1b[2K").unwrap_or(line);
    let whole = || (Entry { service: String::new(), seconds: None, message: line.to_vec() }, None);
    let Some(bar) = line.windows(2).position(|pair| pair == b"| ") else { return whole() };
    let (name, rest) = (line.get(..bar).unwrap_or_default(), line.get(bar + 2..).unwrap_or_default());
    let name = String::from_utf8_lossy(name).trim().to_owned();
    let space = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let time = String::from_utf8_lossy(rest.get(..space).unwrap_or_default()).into_owned();
    let Ok(at) = time.parse::<jiff::Timestamp>() else { return whole() };
    let message = rest.get(space + 1..).unwrap_or_default().to_vec();
    let seconds = Some(at.as_second());
    (Entry { service: name.clone(), seconds, message }, Some((name, time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(chosen: &[&str]) -> Stack {
        let json = r#"{"services":[{"name":"front","way":"one_shot","config":"a","replicas":1,"after":[]},{"name":"web","way":"start_first","config":"b","replicas":1,"after":["front"]},{"name":"db","way":{"recreate":"volumes"},"config":"c","replicas":1,"after":[]}]}"#;
        let docker = Docker { program: "/usr/bin/docker".to_owned(), sudo: true, project: "shop".to_owned() };
        Stack {
            docker,
            file: "/srv/shop/.ship/releases/R/compose.json".to_owned(),
            services: serde_json::from_str(json).expect("services"),
            chosen: chosen.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn everything_works_on_the_live_release() {
        let all = stack(&["front", "web", "db"]);
        let excerpt = Excerpt { lines: Some(9), since: Some(Since::At(5)), follow: false };
        let mut shown = vec![all.logs(excerpt).display(), all.run(&["id".to_owned()], false, false).display()];
        shown.push(stack(&["web"]).run(&["python".to_owned(), "a b".to_owned()], true, true).display());
        for act in [Act::Restart, Act::Stop, Act::Start] {
            shown.extend(all.act(act).iter().filter_map(|task| task.command().map(Command::display)));
        }
        let shown = shown.join("\n").replace("sudo /usr/bin/docker compose --ansi never --progress plain", "COMPOSE");
        insta::assert_snapshot!(shown, @r"
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json logs --no-color --timestamps --tail=9 --since=5 front web db
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json run --rm --no-deps --no-TTY front sh -c id
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json exec web python 'a b'
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json restart web db
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json stop web db
        COMPOSE --project-name shop --file /srv/shop/.ship/releases/R/compose.json up --detach --no-build --no-recreate web db
        ");
        assert!(stack(&["front"]).act(Act::Restart).is_empty(), "what has ended is not restarted");
    }

    #[test]
    fn a_one_shot_that_ended_well_is_up() {
        let answer = "1|front|a|exited|Exited (0) 2 minutes ago\n2|web|b|running|Up 2 minutes (unhealthy)\n";
        let states = stack(&["front", "web", "db"]).states(answer);
        let shown: Vec<_> = states.iter().map(|own| (own.service.as_str(), own.state.as_str(), own.up)).collect();
        assert_eq!(
            shown,
            [
                ("front", "Exited (0) 2 minutes ago", true),
                ("web", "Up 2 minutes (unhealthy)", false),
                ("db", "no container", false)
            ]
        );
        let mut none = stack(&["db"]);
        none.services.services.iter_mut().for_each(|own| own.replicas = 0);
        assert!(none.states("").iter().all(|own| own.up), "of a service that has no replicas nothing is missing");
        assert!(stack(&["db"]).watch(answer).is_none());
        assert!(stack(&["web"]).watch(answer).is_some());
    }

    #[test]
    fn lines_say_their_container_and_time() {
        let (read, mark) = entry(b"\x1b[2Kweb-1  | 1970-01-01T00:00:07.000000001Z a | b");
        assert_eq!(read, Entry { service: "web-1".to_owned(), seconds: Some(7), message: b"a | b".to_vec() });
        assert_eq!(mark, Some(("web-1".to_owned(), "1970-01-01T00:00:07.000000001Z".to_owned())));
        assert_eq!(entry(b"no bar").0.message, b"no bar");
    }
}
