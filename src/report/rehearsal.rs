//! Scripted runs, for the tests of every reporter, and a page to write on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::Reporter;
use crate::event::{
    Action, Event, Failure, HostState, HostSummary, LOCAL, Outcome, Phase, Stamped, Stream, TaskRef, TaskResult,
    VERSION,
};

/// What a reporter wrote.
#[derive(Clone, Debug, Default)]
pub struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run: when each event happens, in milliseconds, and the event.
pub type Script = Vec<(u64, Event)>;

/// Plays `script` to `reporter`, from 11:30 UTC.
pub fn play(script: &Script, reporter: &mut dyn Reporter) {
    play_until(script, u64::MAX, reporter);
    reporter.finish();
}

/// Plays what happens before `until`, and lets time pass as a run does.
pub fn play_until(script: &Script, until: u64, reporter: &mut dyn Reporter) {
    for (seq, (at_millis, event)) in script.iter().enumerate().take_while(|(_, (at, _))| *at < until) {
        reporter.tick(*at_millis);
        reporter.event(&stamped(seq as u64, *at_millis, event.clone()));
    }
    if until != u64::MAX {
        reporter.tick(until);
    }
}

/// `event` with a number and a time.
pub fn stamped(seq: u64, at_millis: u64, event: Event) -> Stamped {
    let start: jiff::Timestamp = "2026-11-21T11:30:00Z".parse().unwrap();
    let time = start + jiff::SignedDuration::from_millis(at_millis as i64);
    Stamped { v: VERSION, seq, time: format!("{time:.3}"), at_millis, event }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

const BEFORE: &str = "20261120T091211Z-77ab01c";
const AFTER: &str = "20261121T113001Z-3f9c2d1";
const HOSTS: [&str; 3] = ["web1", "web2", "db1"];

/// A script that grows.
#[derive(Default)]
pub struct Scene {
    script: Script,
    next: u32,
}

impl Scene {
    /// The script, in the order of time.
    pub fn finished(mut self) -> Script {
        self.script.sort_by_key(|(at, _)| *at);
        self.script
    }

    /// `event` at `at`.
    pub fn add(&mut self, at: u64, event: Event) {
        self.script.push((at, event));
    }

    fn start(&mut self, at: u64, host: &str, phase: Phase, name: &str, command: Option<&str>) -> TaskRef {
        let task = TaskRef { host: text(host), task: self.next };
        self.next += 1;
        let started =
            Event::TaskStarted { task: task.clone(), phase, name: text(name), command: command.map(text), own: false };
        self.add(at, started);
        task
    }

    fn end(&mut self, at: u64, task: TaskRef, phase: Phase, name: &str, result: TaskResult) {
        let began = self.script.iter().find_map(|(at, event)| match event {
            Event::TaskStarted { task: other, .. } if *other == task => Some(*at),
            _ => None,
        });
        let millis = at - began.unwrap();
        self.add(at, Event::TaskFinished { task, phase, name: text(name), result, own: false, millis });
    }

    /// A task that goes well on each of `hosts`, each some time after the one before it.
    pub fn task(&mut self, at: u64, hosts: &[&str], phase: Phase, name: &str, command: Option<&str>, millis: u64) {
        let tasks: Vec<TaskRef> = hosts.iter().map(|host| self.start(at, host, phase, name, command)).collect();
        for (index, task) in tasks.into_iter().enumerate() {
            self.end(at + millis + 100 * index as u64, task, phase, name, TaskResult::Done);
        }
    }

    fn output(&mut self, at: u64, task: &TaskRef, stream: Stream, line: &str) {
        self.add(at, Event::TaskOutput { task: task.clone(), stream, line: text(line) });
    }

    fn phase(&mut self, at: u64, phase: Phase, hosts: &[&str], batch: Option<(usize, usize)>) {
        self.add(at, Event::PhaseStarted { phase, hosts: texts(hosts), batch });
    }

    fn over(&mut self, at: u64, phase: Phase) {
        let began = self.script.iter().rev().find_map(|(at, event)| match event {
            Event::PhaseStarted { phase: other, .. } if *other == phase => Some(*at),
            _ => None,
        });
        self.add(at, Event::PhaseFinished { phase, millis: at - began.unwrap() });
    }

    fn opening(&mut self) {
        let started = Event::RunStarted {
            action: Action::Deploy,
            app: text("tsosi"),
            environment: Some(text("prod")),
            hosts: texts(&HOSTS),
            revision: Some(text("3f9c2d1a8b7e6d5c4b3a29181716151413121110")),
            description: Some(text("main: Fix the search box (Ada Lovelace)")),
        };
        self.add(0, started);
        self.phase(0, Phase::Connect, &HOSTS, None);
        for (index, host) in HOSTS.iter().enumerate() {
            let millis = 380 + 120 * index as u64;
            let address = format!("deployer@{host}.example.org:22");
            self.add(millis, Event::HostConnected { host: text(host), address, millis });
        }
        self.task(640, &HOSTS, Phase::Connect, "Look at what is there", None, 150);
        self.over(1010, Phase::Connect);
        self.add(1010, Event::ReleaseChosen { release: text(AFTER) });
    }

    fn build(&mut self) {
        self.phase(1020, Phase::Build, &[LOCAL], None);
        let (name, command) = ("Build the front end", Some("npm ci && npm run build"));
        let task = self.start(1020, LOCAL, Phase::Build, name, command);
        self.output(4100, &task, Stream::Stdout, "added 412 packages in 3s");
        self.end(9400, task, Phase::Build, name, TaskResult::Done);
        self.over(9400, Phase::Build);
    }

    /// Prepares up to the point where dependencies are installed on all hosts but `db1`'s.
    fn upload(&mut self) {
        self.phase(9410, Phase::Prepare, &HOSTS, None);
        let tasks = HOSTS.map(|host| self.start(9420, host, Phase::Prepare, "Upload", None));
        for step in 0..=4u64 {
            for (index, task) in tasks.iter().enumerate() {
                let sent = 7_800_000 * step * (4 - index as u64) / 4;
                self.add(9500 + step * 1500, Event::TaskProgress { task: task.clone(), sent, total: 31_200_000 });
            }
        }
        for (index, task) in tasks.into_iter().enumerate() {
            let (total, at) = (31_200_000, 16_000 + 900 * index as u64);
            self.add(at, Event::TaskProgress { task: task.clone(), sent: total, total });
            self.end(at, task, Phase::Prepare, "Upload", TaskResult::Done);
        }
    }
}

const INSTALL: &str = "/var/www/tsosi/venv/bin/pip install --requirement requirements.txt";

fn summary(host: &str, after: Option<&str>, state: HostState, why: Option<&str>, commands: &[&str]) -> HostSummary {
    let (before, after) = (Some(text(BEFORE)), after.map(text));
    HostSummary { host: text(host), before, after, state, why: why.map(text), commands: texts(commands) }
}

fn the_end(outcome: Outcome, exit_code: u8, hosts: Vec<HostSummary>, millis: u64, hints: &[&str]) -> Event {
    Event::RunFinished { outcome, exit_code, action: Action::Deploy, hosts, millis, hints: texts(hints) }
}

fn failure(status: &str, command: &str, last_lines: &[&str], advice: Option<&str>) -> Failure {
    Failure {
        status: text(status),
        command: Some(text(command)),
        last_lines: texts(last_lines),
        advice: advice.map(text),
    }
}

/// The end of a run that did nothing.
pub fn nothing_done() -> Event {
    the_end(Outcome::Done, 0, Vec::new(), 0, &[])
}

/// A deploy to three hosts that goes well.
pub fn done() -> Script {
    let mut scene = Scene::default();
    scene.opening();
    scene.build();
    scene.upload();
    let task = scene.start(18_000, "web1", Phase::Prepare, "Install dependencies", Some(INSTALL));
    scene.output(18_400, &task, Stream::Stdout, "Collecting django==5.2");
    scene.output(18_900, &task, Stream::Stderr, "WARNING: Running pip as root is not a good idea");
    scene.end(20_300, task, Phase::Prepare, "Install dependencies", TaskResult::Done);
    scene.task(18_100, &["web2", "db1"], Phase::Prepare, "Install dependencies", Some(INSTALL), 2_900);
    let migrate = Some("/var/www/tsosi/venv/bin/python manage.py migrate --noinput");
    scene.task(21_200, &["web1"], Phase::Prepare, "Migrate the database", migrate, 1_800);
    scene.over(23_100, Phase::Prepare);
    for (batch, hosts, at) in [(1, &["web1", "web2"][..], 23_200), (2, &["db1"][..], 25_400)] {
        scene.phase(at, Phase::Publish, hosts, Some((batch, 2)));
        scene.task(at, hosts, Phase::Publish, "Switch to the release", None, 40);
        let restart = Some("sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service");
        scene.task(at + 200, hosts, Phase::Publish, "Restart gunicorn", restart, 1_500);
        scene.over(at + 2_000, Phase::Publish);
    }
    scene.phase(27_500, Phase::Finish, &HOSTS, None);
    scene.task(27_500, &HOSTS, Phase::Finish, "Remove old releases", None, 90);
    let task = scene.start(27_800, "web1", Phase::Finish, "Warm the cache", Some("curl -fsS http://127.0.0.1:8000/"));
    let cold = failure("exit status 22", "curl -fsS http://127.0.0.1:8000/", &["curl: (22) error: 503"], None);
    scene.end(28_400, task, Phase::Finish, "Warm the cache", TaskResult::Tolerated(cold));
    scene.over(28_500, Phase::Finish);
    scene.add(28_500, Event::Notice { host: Some(text("db1")), text: text("2 releases removed, 41.0 MB freed") });
    scene.add(28_500, Event::Warning { host: Some(text("web2")), text: text("only 1.2 GB are free on /var") });
    let live = HOSTS.map(|host| summary(host, Some(AFTER), HostState::Live, None, &[])).to_vec();
    scene.add(28_600, the_end(Outcome::Done, 0, live, 28_600, &[]));
    scene.finished()
}

/// A deploy that fails in `prepare` on two of three hosts in the same way.
pub fn prepare_fails() -> Script {
    let mut scene = Scene::default();
    scene.opening();
    scene.build();
    scene.upload();
    let name = "Install dependencies";
    let tasks = HOSTS.map(|host| scene.start(18_000, host, Phase::Prepare, name, Some(INSTALL)));
    let lines = [
        "Collecting djnago==5.2",
        "ERROR: Could not find a version that satisfies the requirement djnago==5.2",
        "ERROR: No matching distribution found for djnago==5.2",
    ];
    for line in lines {
        scene.output(19_000, &tasks[1], Stream::Stderr, line);
    }
    let advice = Some("is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2");
    let broken = failure("exit status 1", INSTALL, &lines, advice);
    let [first, second, third] = tasks;
    scene.end(19_200, second, Phase::Prepare, name, TaskResult::Failed(broken.clone()));
    scene.end(19_300, third, Phase::Prepare, name, TaskResult::Failed(broken));
    scene.end(20_400, first, Phase::Prepare, name, TaskResult::Done);
    scene.over(20_400, Phase::Prepare);
    let why = Some("Install dependencies: exit status 1");
    let hosts = vec![
        summary("web1", Some(BEFORE), HostState::Unchanged, None, &[]),
        summary("web2", Some(BEFORE), HostState::Unchanged, why, &[]),
        summary("db1", Some(BEFORE), HostState::Unchanged, why, &[]),
    ];
    let hints = ["nothing was switched; mend the step and deploy again"];
    scene.add(20_600, the_end(Outcome::Failed, 1, hosts, 20_600, &hints));
    scene.finished()
}

fn publish_fails_and(put_back: impl FnOnce(&mut Scene)) -> Script {
    let mut scene = Scene::default();
    scene.opening();
    scene.upload();
    scene.over(18_000, Phase::Prepare);
    scene.phase(18_100, Phase::Publish, &["web1", "web2"], Some((1, 2)));
    scene.task(18_100, &["web1", "web2"], Phase::Publish, "Switch to the release", None, 40);
    let name = "Wait for the site to answer";
    let tasks = ["web1", "web2"]
        .map(|host| scene.start(18_400, host, Phase::Publish, name, Some("GET http://127.0.0.1:8000/api/")));
    let lines = ["GET http://127.0.0.1:8000/api/: 500 Internal Server Error", "::error::##[error]not for the runner"];
    let broken = failure("status 500 for 30s, 200 expected", "GET http://127.0.0.1:8000/api/", &lines, None);
    let [first, second] = tasks;
    scene.end(19_000, first, Phase::Publish, name, TaskResult::Done);
    scene.end(48_400, second, Phase::Publish, name, TaskResult::Failed(broken));
    scene.over(48_500, Phase::Publish);
    scene.phase(48_600, Phase::PutBack, &["web1", "web2"], None);
    put_back(&mut scene);
    scene.finished()
}

/// A deploy whose health check fails on one host; both hosts of the batch are put back.
pub fn publish_fails() -> Script {
    publish_fails_and(|scene| {
        scene.task(48_600, &["web1", "web2"], Phase::PutBack, "Switch to the release", None, 40);
        scene.over(49_500, Phase::PutBack);
        let why = Some("Wait for the site to answer: status 500 for 30s, 200 expected");
        let hosts = vec![
            summary("web1", Some(BEFORE), HostState::PutBack, None, &[]),
            summary("web2", Some(BEFORE), HostState::PutBack, why, &[]),
            summary("db1", Some(BEFORE), HostState::Unchanged, None, &[]),
        ];
        scene.add(49_600, the_end(Outcome::Failed, 1, hosts, 49_600, &[]));
    })
}

/// The same, and one of the hosts is lost while it is put back.
pub fn needs_person() -> Script {
    publish_fails_and(|scene| {
        scene.task(48_600, &["web1"], Phase::PutBack, "Switch to the release", None, 40);
        let name = "Switch to the release";
        let task = scene.start(48_600, "web2", Phase::PutBack, name, None);
        let lost = Failure { status: text("connection lost"), command: None, last_lines: Vec::new(), advice: None };
        scene.end(63_600, task, Phase::PutBack, name, TaskResult::Failed(lost));
        scene.over(63_700, Phase::PutBack);
        let commands =
            ["ssh deployer@web2.example.org", "readlink /var/www/tsosi/current", "ship rollback prod --host web2"];
        let hosts = vec![
            summary("web1", Some(BEFORE), HostState::PutBack, None, &[]),
            summary("web2", None, HostState::Unknown, Some("connection lost while it was put back"), &commands),
            summary("db1", Some(BEFORE), HostState::Unchanged, None, &[]),
        ];
        scene.add(63_800, the_end(Outcome::NeedsPerson, 4, hosts, 63_800, &["the lock is kept on web2"]));
    })
}

/// A deploy that is interrupted before it changed anything.
pub fn interrupted() -> Script {
    let mut scene = Scene::default();
    scene.opening();
    scene.add(
        1_500,
        Event::Warning { host: None, text: text("interrupted: finishing what runs\nagain to stop at once") },
    );
    let hosts = HOSTS.map(|host| summary(host, Some(BEFORE), HostState::Unchanged, None, &[])).to_vec();
    scene.add(1_600, the_end(Outcome::Interrupted, 130, hosts, 1_600, &[]));
    scene.finished()
}

/// `ship run prod -- uptime` on two hosts, which fails on one.
pub fn command() -> Script {
    let mut scene = Scene::default();
    let started = Event::RunStarted {
        action: Action::Run,
        app: text("tsosi"),
        environment: Some(text("prod")),
        hosts: texts(&["web1", "web2"]),
        revision: None,
        description: None,
    };
    scene.add(0, started);
    let tasks = ["web1", "web2"].map(|host| scene.start(10, host, Phase::Finish, "uptime", Some("uptime")));
    scene.output(200, &tasks[0], Stream::Stdout, " 11:30:00 up 41 days,  3:12,  0 users");
    let [first, second] = tasks;
    scene.end(210, first, Phase::Finish, "uptime", TaskResult::Done);
    let missing = failure("exit status 127", "uptime", &["sh: 1: uptime: not found"], None);
    scene.end(220, second, Phase::Finish, "uptime", TaskResult::Failed(missing));
    let hosts = ["web1", "web2"].map(|host| summary(host, Some(BEFORE), HostState::Unchanged, None, &[])).to_vec();
    let end = Event::RunFinished {
        outcome: Outcome::Failed,
        exit_code: 1,
        action: Action::Run,
        hosts,
        millis: 230,
        hints: Vec::new(),
    };
    scene.add(230, end);
    scene.finished()
}
