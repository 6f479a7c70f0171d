//! What if: each host, each failing task, each way to fail, and what the fleet looks like afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Conclusion, Reconnect, Run, execute};
use crate::command::Command;
use crate::event::{Action as RunAction, Event, HostState, Outcome, Sink, Stream, TaskResult};
use crate::layout::{Layout, ReleaseId};
use crate::plan::record::HistoryEntry;
use crate::plan::{HostPlan, Plan};
use crate::secret::{Masker, Secret};
use crate::session::{Body, BoxFuture, Lost, Reply, Session, Status, Usage};
use crate::step::{Action, Decide, Derive, Feed, Task};

mod alone;

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Exit(i32),
    Lose,
    Interrupt,
    /// Its end is said, and nothing behind it is begun once the host was interrupted.
    Last,
    Abort,
}

type Rule = (&'static str, &'static str, Fate);

/// The fleet that the tests play: every command succeeds, but for the rules.
struct Stage {
    rules: Vec<Rule>,
    heard: Mutex<Vec<String>>,
    tries: Mutex<BTreeMap<String, usize>>,
    cancel: CancellationToken,
    abort: CancellationToken,
    reconnects: bool,
    /// How many batches were sent.
    batches: AtomicUsize,
    /// Batches that end once the host is interrupted.
    held: Mutex<Vec<mpsc::Sender<Reply>>>,
}

impl Stage {
    fn new(rules: &[Rule], reconnects: bool) -> Arc<Self> {
        Arc::new(Self {
            rules: rules.to_vec(),
            heard: Mutex::default(),
            tries: Mutex::default(),
            cancel: CancellationToken::new(),
            abort: CancellationToken::new(),
            reconnects,
            batches: AtomicUsize::default(),
            held: Mutex::default(),
        })
    }
}

struct Actor {
    host: String,
    stage: Arc<Stage>,
}

impl Session for Actor {
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        let (sender, receiver) = mpsc::channel(64);
        self.stage.batches.fetch_add(1, Ordering::Relaxed);
        for (index, command) in batch.iter().enumerate() {
            let text = command.display();
            self.stage.heard.lock().unwrap().push(format!("{}: {text}", self.host));
            let rule = self.stage.rules.iter().find(|(host, word, _)| *host == self.host && text == *word);
            let mut fate = rule.map_or(Fate::Exit(0), |(_, _, fate)| *fate);
            if text.contains("flaky") {
                let mut tries = self.stage.tries.lock().unwrap();
                let tried = tries.entry(text.clone()).or_default();
                *tried += 1;
                fate = Fate::Exit(i32::from(*tried < 3));
            }
            sender.try_send(Reply::Started { index }).unwrap();
            if let Some(answer) = text.strip_prefix("answer ") {
                let bytes = answer.replace(',', "\n").into();
                sender.try_send(Reply::Output { index, stream: Stream::Stdout, bytes }).unwrap();
            }
            match fate {
                Fate::Exit(code) => {
                    sender.try_send(Reply::Ended { index, status: Status::Exited(code) }).unwrap();
                    if code != 0 && !command.may_fail() {
                        break;
                    }
                }
                Fate::Lose => {
                    sender.try_send(Reply::Lost(Lost { reason: "reset by peer".to_owned() })).unwrap();
                    break;
                }
                Fate::Interrupt => {
                    self.stage.cancel.cancel();
                    sender.try_send(Reply::Ended { index, status: Status::Exited(0) }).unwrap();
                }
                Fate::Last => {
                    self.stage.cancel.cancel();
                    sender.try_send(Reply::Ended { index, status: Status::Exited(0) }).unwrap();
                    self.stage.held.lock().unwrap().push(sender);
                    break;
                }
                Fate::Abort => {
                    self.stage.abort.cancel();
                    // The host never answers.
                    std::mem::forget(sender);
                    break;
                }
            }
        }
        receiver
    }

    fn feed(&self, batch: Vec<Command>, _: Body) -> mpsc::Receiver<Reply> {
        self.run(batch)
    }

    fn warm(&self, _: usize) {}

    fn unguard(&self) {}

    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(async { Ok(()) })
    }

    fn interrupt(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.stage.held.lock().unwrap().clear() })
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Again(Arc<Stage>, Vec<String>);

impl Reconnect for Again {
    fn again(&self, index: usize) -> BoxFuture<'_, Result<Arc<dyn Session>, String>> {
        Box::pin(async move {
            if !self.0.reconnects {
                return Err("no route to host".to_owned());
            }
            // The line works again.
            let stage = Stage::new(&[], true);
            let actor: Arc<dyn Session> = Arc::new(Actor { host: self.1[index].clone(), stage });
            Ok(actor)
        })
    }
}

fn task(word: &str) -> Task {
    Task::new(word, Action::Command(Command::argv([word])))
}

fn plan(hosts: &[&str], batches: &[&[usize]], max_failures: usize) -> Plan {
    let id = |second: &str| ReleaseId::new(&format!("20261121T1015{second}Z"), "aaaaaaa").unwrap();
    Plan {
        action: RunAction::Deploy,
        app: "app".to_owned(),
        environment: None,
        release: id("09"),
        revision: "aaaaaaa".to_owned(),
        description: String::new(),
        hosts: hosts
            .iter()
            .map(|host| HostPlan {
                host: (*host).to_owned(),
                layout: Layout::new("/srv/app"),
                before: Some(id("01")),
                foreign: None,
                transfer: None,
                prepare: vec![task("prepare-1"), task("prepare-2")],
                publish: vec![task("swap"), task("restart")],
                finish: vec![task("finish").tolerated(), task("flaky").tolerated()],
                put_back: vec![task("back-swap"), task("back-restart")],
                discard: vec![task("discard")],
                removal: Some(task("remove")),
                keeping: Some(task("keep")),
                prune: Vec::new(),
            })
            .map(|mut host| {
                host.finish[1].attempts = 3;
                host
            })
            .collect(),
        batches: batches.iter().map(|batch| batch.to_vec()).collect(),
        max_failures,
    }
}

struct Seen {
    conclusion: Conclusion,
    heard: Vec<String>,
    events: Vec<Event>,
    batches: usize,
}

impl Seen {
    fn states(&self) -> Vec<HostState> {
        self.conclusion.hosts.iter().map(|host| host.state).collect()
    }

    fn heard(&self, word: &str) -> Vec<&str> {
        self.heard.iter().filter_map(|line| line.split_once(": ")).filter(|(_, w)| *w == word).map(|(h, _)| h).collect()
    }

    /// How often the history was told how the run ended.
    fn told(&self) -> usize {
        self.heard.iter().filter(|line| line.contains("history.jsonl")).count()
    }

    fn position(&self, line: &str) -> usize {
        self.heard.iter().position(|heard| heard == line).unwrap_or_else(|| panic!("{line} in {:?}", self.heard))
    }
}

fn play(plan: Plan, rules: &[Rule], reconnects: bool) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stage = Stage::new(rules, reconnects);
        let (sink, mut receiver) = Sink::new(Masker::default());
        let names: Vec<String> = plan.hosts.iter().map(|host| host.host.clone()).collect();
        let sessions = names
            .iter()
            .map(|host| Arc::new(Actor { host: host.clone(), stage: Arc::clone(&stage) }) as Arc<dyn Session>)
            .collect();
        let run = Run {
            plan: Arc::new(plan),
            sessions,
            sink,
            cancel: stage.cancel.clone(),
            abort: stage.abort.clone(),
            reconnect: Arc::new(Again(Arc::clone(&stage), names)),
            history: Arc::new(HistoryEntry::default),
            times: Arc::default(),
        };
        let listening = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                events.push(event);
            }
            events
        });
        let conclusion = execute(run).await;
        let events = listening.await.unwrap();
        let heard = stage.heard.lock().unwrap().clone();
        Seen { conclusion, heard, events, batches: stage.batches.load(Ordering::Relaxed) }
    })
}

const THREE: &[&str] = &["web1", "web2", "web3"];

#[test]
fn nobody_publishes_before_everybody_is_prepared() {
    let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &[], true);
    assert_eq!(seen.conclusion.outcome, Outcome::Done);
    assert_eq!(seen.states(), [HostState::Live; 3]);
    let last_prepared = THREE.iter().map(|host| seen.position(&format!("{host}: prepare-2"))).max();
    let first_published = THREE.iter().map(|host| seen.position(&format!("{host}: swap"))).min();
    assert!(last_prepared < first_published);
    assert_eq!(seen.heard("back-swap"), [""; 0]);
}

#[test]
fn a_host_that_fails_to_prepare_leaves_every_host_as_it_was() {
    for fate in [Fate::Exit(1), Fate::Exit(137), Fate::Lose] {
        let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &[("web2", "prepare-2", fate)], true);
        assert_eq!(seen.conclusion.outcome, Outcome::Failed, "{fate:?}");
        assert_eq!(seen.states(), [HostState::Unchanged; 3]);
        assert_eq!((seen.heard("swap").len(), seen.heard("back-swap").len()), (0, 0));
        let discarded = seen.heard("discard").len();
        assert_eq!(discarded, if fate == Fate::Lose { 2 } else { 3 });
    }
}

#[test]
fn a_command_that_a_signal_ended_is_a_failure_and_says_so() {
    let seen = play(plan(&["web1"], &[&[0]], 0), &[("web1", "prepare-1", Fate::Exit(137))], true);
    assert_eq!(seen.conclusion.hosts[0].why.as_deref(), Some("prepare-1: killed by SIGKILL (exit status 137)"));
    assert_eq!(seen.heard("prepare-2").len(), 0);
}

#[test]
fn when_publishing_fails_every_reached_host_is_put_back() {
    for word in ["swap", "restart"] {
        let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &[("web2", word, Fate::Exit(1))], true);
        assert_eq!(seen.conclusion.outcome, Outcome::Failed);
        assert_eq!(seen.states(), [HostState::PutBack; 3]);
        let mut back = seen.heard("back-restart");
        back.sort_unstable();
        assert_eq!(back, THREE);
        assert_eq!(seen.heard("finish").len(), 0);
    }
}

#[test]
fn batches_that_were_not_reached_are_never_switched() {
    let seen = play(plan(THREE, &[&[0], &[1], &[2]], 0), &[("web2", "restart", Fate::Exit(1))], true);
    assert_eq!(seen.states(), [HostState::PutBack, HostState::PutBack, HostState::Unchanged]);
    assert_eq!(seen.heard("swap"), ["web1", "web2"]);
    assert_eq!(seen.heard("discard"), ["web3"]);
}

#[test]
fn within_max_failures_only_the_failed_host_is_put_back() {
    let seen = play(plan(THREE, &[&[0], &[1], &[2]], 1), &[("web2", "restart", Fate::Exit(1))], true);
    assert_eq!(seen.states(), [HostState::Live, HostState::PutBack, HostState::Live]);
    assert_eq!(seen.conclusion.outcome, Outcome::Failed);
    assert_eq!(seen.heard("finish"), ["web1", "web3"]);
}

#[test]
fn a_host_that_cannot_be_put_back_needs_a_person_and_gets_the_commands() {
    let rules = [("web2", "restart", Fate::Exit(1)), ("web3", "back-swap", Fate::Exit(74))];
    let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &rules, true);
    assert_eq!(seen.conclusion.outcome, Outcome::NeedsPerson);
    assert_eq!(seen.states(), [HostState::PutBack, HostState::PutBack, HostState::Unknown]);
    assert_eq!(seen.conclusion.hosts[2].commands, ["back-swap", "back-restart"]);
}

#[test]
fn a_host_lost_while_it_publishes_is_found_again_and_put_back() {
    let rules = [("web2", "restart", Fate::Lose), ("web2", "back-swap", Fate::Lose)];
    let found = play(plan(THREE, &[&[0, 1, 2]], 0), &rules, true);
    assert_eq!((found.conclusion.outcome, found.states()), (Outcome::Failed, vec![HostState::PutBack; 3]));
    let gone = play(plan(THREE, &[&[0, 1, 2]], 0), &rules, false);
    assert_eq!(gone.conclusion.outcome, Outcome::NeedsPerson);
    assert_eq!(gone.states(), [HostState::PutBack, HostState::Unknown, HostState::PutBack]);
}

#[test]
fn a_failure_after_the_release_is_live_undoes_nothing() {
    let seen = play(plan(&["web1"], &[&[0]], 0), &[("web1", "finish", Fate::Exit(1))], true);
    assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Done, vec![HostState::Live]));
    assert!(seen.events.iter().any(|event| matches!(
        event,
        Event::TaskFinished { result: TaskResult::Tolerated(_), name, .. } if name == "finish"
    )));
}

#[test]
fn a_task_with_attempts_is_tried_again() {
    let seen = play(plan(&["web1"], &[&[0]], 0), &[], true);
    assert_eq!(seen.heard("flaky").len(), 3);
}

#[test]
fn an_interrupt_while_preparing_removes_what_was_prepared() {
    let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &[("web1", "prepare-1", Fate::Interrupt)], true);
    assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Interrupted, vec![HostState::Unchanged; 3]));
    assert_eq!(seen.heard("swap").len(), 0);
    assert_eq!(seen.heard("discard").len(), 3);
}

#[test]
fn an_interrupt_while_publishing_puts_every_reached_host_back() {
    let seen = play(plan(THREE, &[&[0], &[1], &[2]], 0), &[("web1", "restart", Fate::Interrupt)], true);
    assert_eq!(seen.conclusion.outcome, Outcome::Interrupted);
    assert_eq!(seen.states(), [HostState::PutBack, HostState::Unchanged, HostState::Unchanged]);
}

#[test]
fn the_second_interrupt_stops_at_once_and_says_what_is_where() {
    let seen = play(plan(THREE, &[&[0], &[1], &[2]], 0), &[("web2", "restart", Fate::Abort)], true);
    assert_eq!(seen.conclusion.outcome, Outcome::NeedsPerson);
    assert_eq!(seen.states(), [HostState::Live, HostState::Unknown, HostState::Unchanged]);
}

#[test]
fn a_put_back_that_is_stopped_leaves_nobody_called_live() {
    let rules = [("web2", "restart", Fate::Exit(1)), ("web1", "back-swap", Fate::Abort)];
    let seen = play(plan(&["web1", "web2"], &[&[0], &[1]], 0), &rules, true);
    assert_eq!((seen.conclusion.outcome, seen.states()[0]), (Outcome::NeedsPerson, HostState::Unknown));
}

#[test]
fn what_was_prepared_stays_on_a_host_that_needs_a_person() {
    let rules =
        [("web1", "restart", Fate::Exit(1)), ("web1", "back-swap", Fate::Exit(74)), ("web2", "restart", Fate::Exit(1))];
    let seen = play(plan(THREE, &[&[0], &[1], &[2]], 1), &rules, true);
    assert_eq!(seen.states(), [HostState::Unknown, HostState::PutBack, HostState::Unchanged]);
    assert_eq!(seen.heard("discard"), ["web3"]);
}

#[test]
fn the_history_is_told_on_every_host_however_the_run_ends() {
    let seen = play(plan(THREE, &[&[0, 1, 2]], 0), &[("web2", "prepare-1", Fate::Exit(1))], true);
    assert_eq!(seen.told(), 3);
}

/// A plan that asks while it publishes.
fn asking(answer: &str) -> Plan {
    let mut plan = plan(&["web1"], &[&[0]], 0);
    let derive = Derive { question: Command::argv(["answer", answer]), decide: Decide::Lines };
    plan.hosts[0].publish.insert(1, Task::new("ask", Action::Derive(derive.clone())));
    plan.hosts[0].put_back.push(Task::new("ask", Action::Derive(derive)));
    plan
}

#[test]
fn what_follows_from_an_answer_is_done_before_the_rest() {
    let seen = play(asking("one,two"), &[], true);
    assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Done, vec![HostState::Live]));
    let order = ["swap", "answer one,two", "one", "two", "restart"].map(|word| seen.position(&format!("web1: {word}")));
    assert!(order.is_sorted(), "{:?}", seen.heard);
    let told = |word: &str| {
        let named = |event: &&Event| matches!(event, Event::TaskFinished { name, result: TaskResult::Done, .. } if name == word);
        seen.events.iter().filter(named).count()
    };
    assert_eq!([told("ask"), told("one"), told("two")], [1, 1, 1]);
    let output = |event: &Event| matches!(event, Event::TaskOutput { line, .. } if line == "one");
    assert!(!seen.events.iter().any(output), "an answer is never shown");
}

#[test]
fn what_follows_and_fails_is_put_back_and_so_is_an_answer_without_sense() {
    let seen = play(asking("one,two"), &[("web1", "one", Fate::Exit(1))], true);
    assert_eq!(seen.states(), [HostState::Unknown], "the way back runs the same command");
    assert_eq!(seen.conclusion.hosts[0].commands, ["back-swap", "back-restart", "by hand"]);
    assert_eq!(seen.heard("two").len(), 0);
    for (answer, fate) in [("!", Fate::Exit(0)), ("one", Fate::Exit(1)), ("one", Fate::Lose)] {
        let mut plan = asking(answer);
        plan.hosts[0].put_back.pop();
        let question: &'static str = if answer == "!" { "answer '!'" } else { "answer one" };
        let seen = play(plan, &[("web1", question, fate)], true);
        assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Failed, vec![HostState::PutBack]), "{fate:?}");
        assert_eq!((seen.heard("one").len(), seen.heard("restart").len()), (0, 0));
    }
}

#[test]
fn text_for_a_command_is_never_shown() {
    let mut plan = plan(&["web1"], &[&[0]], 0);
    let feed = Feed { command: Command::argv(["tee"]), text: Secret::new("s3cret value".to_owned()) };
    plan.hosts[0].publish.push(Task::new("feed", Action::Feed(feed)));
    let seen = play(plan, &[], true);
    assert_eq!((seen.states(), seen.heard("tee").len()), (vec![HostState::Live], 1));
    assert!(!format!("{:?}", seen.events).contains("s3cret"));
}
