//! A single host, which passes from `publish` to `finish` by itself.

use std::time::Duration;

use super::{Fate, Rule, Seen, plan, play, task};
use crate::command::Command;
use crate::event::{Event, HostState, Outcome, Phase};
use crate::plan::Plan;
use crate::step::{Action, Judge, Poll, Task};

/// A host that is asked whether it is well, in `publish`, before it is marked.
fn asked(probe: &str) -> Plan {
    let mut plan = plan(&["web1"], &[&[0]], 0);
    let second = Duration::from_secs(1);
    let probe = Command::argv([probe]);
    let poll = Poll { probe, judge: Judge::Success, interval: second, within: second * 5 };
    plan.hosts[0].publish.push(Task::new("Wait", Action::Poll(poll)));
    plan.hosts[0].publish.push(Task::own("Mark", Command::argv(["mark"])));
    plan.hosts[0].finish.truncate(1);
    plan
}

fn ended(seen: &Seen) -> (Outcome, HostState) {
    (seen.conclusion.outcome, seen.states()[0])
}

fn interrupted(rules: &[Rule]) -> Seen {
    let mut plan = asked("well");
    plan.hosts[0].finish.push(task("later").tolerated());
    play(plan, rules, true)
}

/// How often each phase began and ended.
fn phases(seen: &Seen) -> Vec<(Phase, bool)> {
    let told = |event: &Event| match event {
        Event::PhaseStarted { phase, .. } => Some((*phase, true)),
        Event::PhaseFinished { phase, .. } => Some((*phase, false)),
        _ => None,
    };
    seen.events.iter().filter_map(told).collect()
}

#[test]
fn a_question_that_its_status_answers_costs_no_wait() {
    let seen = play(asked("well"), &[], true);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    let order = ["swap", "restart", "well", "mark", "finish"].map(|word| seen.position(&format!("web1: {word}")));
    assert!(order.is_sorted(), "{:?}", seen.heard);
    assert!(seen.heard.last().is_some_and(|line| line == "web1: exec 8>&-"), "{:?}", seen.heard);
    assert_eq!(seen.batches, 2, "one to prepare, one for all the rest");
    let [prepare, publish, finish] =
        [Phase::Prepare, Phase::Publish, Phase::Finish].map(|it| [(it, true), (it, false)]);
    assert_eq!(phases(&seen), [prepare, publish, finish].concat());
}

#[test]
fn nothing_behind_a_question_is_begun_before_its_answer() {
    let seen = play(asked("flaky-well"), &[], true);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    let last = seen.heard.iter().rposition(|line| line == "web1: flaky-well").unwrap();
    assert_eq!(seen.heard("flaky-well").len(), 3);
    assert_eq!(["mark", "finish"].map(|word| seen.heard(word).len()), [1, 1]);
    assert!(last < seen.heard.iter().rposition(|line| line == "web1: mark").unwrap());
    assert_eq!(seen.told(), 1);
}

#[test]
fn a_host_that_never_answers_well_is_put_back() {
    let seen = play(asked("well"), &[("web1", "well", Fate::Exit(1))], true);
    assert_eq!(ended(&seen), (Outcome::Failed, HostState::PutBack));
    assert_eq!((seen.heard("mark").len(), seen.heard("finish").len()), (0, 0));
    let why = seen.conclusion.hosts[0].why.clone().unwrap();
    assert!(why.starts_with("Wait: not so within 5 s"), "{why}");
}

#[test]
fn an_interrupt_while_a_single_host_publishes_puts_it_back() {
    for word in ["swap", "restart", "well", "mark"] {
        let seen = interrupted(&[("web1", word, Fate::Last)]);
        assert_eq!(ended(&seen), (Outcome::Interrupted, HostState::PutBack), "{word}");
        assert_eq!((seen.heard("finish").len(), seen.heard("back-swap").len()), (0, 1), "{word}");
    }
}

#[test]
fn an_interrupt_that_comes_when_a_single_host_is_live_undoes_nothing() {
    // The host hears of it when it has passed on.
    let seen = interrupted(&[("web1", "mark", Fate::Interrupt), ("web1", "finish", Fate::Last)]);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    assert_eq!(["finish", "later", "back-swap"].map(|word| seen.heard(word).len()), [1, 1, 0]);
    assert_eq!(seen.told(), 1);
    // Or when it does the last of its tasks.
    let seen = play(asked("well"), &[("web1", "mark", Fate::Interrupt), ("web1", "finish", Fate::Last)], true);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    assert_eq!(seen.told(), 1, "{:?}", seen.heard);
    assert!(!seen.events.iter().any(|event| matches!(event, Event::Warning { .. })), "{:?}", seen.events);
    // Or when all was done.
    let seen = interrupted(&[("web1", "mark", Fate::Interrupt)]);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    // A second one stops it.
    let mut plan = asked("well");
    plan.hosts[0].finish.push(Task { attempts: 2, ..task("later").tolerated() });
    let seen = play(plan, &[("web1", "later", Fate::Abort)], true);
    assert_eq!(ended(&seen), (Outcome::Interrupted, HostState::Live));
}

#[test]
fn a_single_host_that_has_nothing_to_finish_is_put_back_only_before_its_end_is_written_down() {
    for (word, fate, outcome) in [
        ("mark", Fate::Last, Outcome::Interrupted),
        ("mark", Fate::Interrupt, Outcome::Done),
        ("mark", Fate::Exit(1), Outcome::Failed),
    ] {
        let mut plan = asked("well");
        plan.hosts[0].finish.clear();
        let seen = play(plan, &[("web1", word, fate)], true);
        assert_eq!(seen.conclusion.outcome, outcome, "{fate:?}");
        let state = if outcome == Outcome::Done { HostState::Live } else { HostState::PutBack };
        assert_eq!(seen.states(), [state], "{fate:?}");
        assert_eq!(seen.told(), 1, "{fate:?}");
    }
}

#[test]
fn a_single_host_that_is_lost_while_it_finishes_stays_live() {
    let seen = play(asked("well"), &[("web1", "finish", Fate::Lose)], true);
    assert_eq!(ended(&seen), (Outcome::Done, HostState::Live));
    assert_eq!(seen.heard("back-swap").len(), 0);
    assert_eq!(seen.conclusion.hosts[0].why.as_deref(), Some("finish: connection lost: reset by peer"));
}

#[test]
fn the_last_words_to_a_single_host_travel_together() {
    let mut plan = plan(&["web1"], &[&[0]], 0);
    plan.hosts[0].publish.push(Task::own("Mark", Command::argv(["mark"])));
    let seen = play(plan, &[], true);
    assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Done, vec![HostState::Live]));
    assert_eq!(seen.told(), 1, "{:?}", seen.heard);
    assert!(seen.position("web1: restart") < seen.position("web1: mark"));
    assert!(seen.position("web1: mark") < seen.position("web1: finish"));
    assert_eq!(seen.heard.last().map(String::as_str), Some("web1: exec 8>&-"));
}

#[test]
fn a_single_host_that_cannot_be_marked_live_is_put_back() {
    for fate in [Fate::Exit(1), Fate::Lose] {
        let mut plan = plan(&["web1"], &[&[0]], 0);
        plan.hosts[0].publish.push(Task::own("Mark", Command::argv(["mark"])));
        let seen = play(plan, &[("web1", "mark", fate)], true);
        assert_eq!((seen.conclusion.outcome, seen.states()), (Outcome::Failed, vec![HostState::PutBack]), "{fate:?}");
        assert_eq!(seen.heard("finish").len(), 0);
        let why = seen.conclusion.hosts[0].why.clone().unwrap();
        assert!(why.starts_with("Mark: "), "{why}");
    }
}
