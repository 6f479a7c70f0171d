//! What the terminal reporter looks like, on a terminal in memory.

use std::io::{self, Write};

use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};
use insta::assert_snapshot;

use super::printer::Printer;
use super::rehearsal::{self, Scene, Script};
use super::terminal::Terminal;
use super::{Reporter, Style};
use crate::event::{Action, Event, Phase};

/// What is written between live lines, on the same terminal.
struct Pen(InMemoryTerm);

impl Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A terminal in its usual mode turns a line end into two.
        self.0.write_str(&String::from_utf8(bytes.to_vec()).unwrap().replace('\n', "\r\n"))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn terminal(rows: u16, columns: u16, style: Style) -> (InMemoryTerm, Terminal) {
    let screen = InMemoryTerm::new(rows, columns);
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let style = Style { unicode: true, ..style };
    let terminal = Terminal::new(Printer::new(Pen(screen.clone())), target, move || Some((columns, rows)), style);
    (screen, terminal)
}

fn shown(script: &Script, columns: u16, style: Style) -> String {
    let (screen, mut terminal) = terminal(70, columns, style);
    rehearsal::play(script, &mut terminal);
    screen.contents()
}

fn shown_at(script: &Script, until: u64) -> String {
    let (screen, mut terminal) = terminal(40, 100, Style::default());
    rehearsal::play_until(script, until, &mut terminal);
    screen.contents()
}

#[test]
fn a_deploy_from_start_to_end() {
    assert_snapshot!(shown(&rehearsal::done(), 100, Style::default()), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    ✓ connect   Log in                                                       3 hosts              620ms
    ✓ connect   Look at what is there                                        3 hosts              350ms
    · release   20261121T113001Z-3f9c2d1
    ✓ build     Build the front end                                          local                 8.3s
    ✓ prepare   Upload (93.6 MB)                                             3 hosts               8.3s
    ✓ prepare   Install dependencies                                         3 hosts               3.0s
    ✓ prepare   Migrate the database                                         web1                  1.8s
    ✓ publish   Switch to the release                                        web1, web2           140ms
    ✓ publish   Restart gunicorn                                             web1, web2            1.6s
    ✓ publish   Switch to the release                                        db1                   40ms
    ✓ publish   Restart gunicorn                                             db1                   1.5s
    ✓ finish    Remove old releases                                          3 hosts              290ms
    ! finish    Warm the cache                                               web1                 600ms
                failed, and the run goes on: exit status 22
                $ curl -fsS http://127.0.0.1:8000/
                │ curl: (22) error: 503
    · db1       2 releases removed, 41.0 MB freed
    ! web2      warning: only 1.2 GB are free on /var

      HOST  BEFORE                    AFTER                     STATE
      web1  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
      web2  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
      db1   20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live

    ✓ Deployed tsosi to prod: 20261121T113001Z-3f9c2d1 is live on 3 hosts  (28.6s)
    ");
}

#[test]
fn while_it_connects() {
    assert_snapshot!(shown_at(&rehearsal::done(), 450), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    · web1      waiting for the others
    ⠼ web2      Log in                                                                             0.4s
    ⠼ db1       Log in                                                                             0.4s
    ");
}

#[test]
fn hosts_are_seen_to_be_connected_to_before_any_phase_begins() {
    let no_phase =
        |(_, event): &(u64, Event)| !matches!(event, Event::PhaseStarted { .. } | Event::PhaseFinished { .. });
    let script: Script = rehearsal::done().into_iter().filter(no_phase).take_while(|(at, _)| *at < 640).collect();
    assert_snapshot!(shown_at(&script, 450), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    · web1      waiting for the others
    ⠼ web2      Log in                                                                             0.4s
    ⠼ db1       Log in                                                                             0.4s
    ");
    let all = shown_at(&script, 630);
    assert!(all.ends_with(" 620ms") && all.contains("✓ connect   Log in"), "{all}");
}

#[test]
fn while_it_uploads() {
    assert_snapshot!(shown_at(&rehearsal::done(), 14_100), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    ✓ connect   Log in                                                       3 hosts              620ms
    ✓ connect   Look at what is there                                        3 hosts              350ms
    · release   20261121T113001Z-3f9c2d1
    ✓ build     Build the front end                                          local                 8.3s
    ⠙ web1      Upload  ━━━━━━━━━━━━━━━━━━──────           23.4/31.2 MB    5.2 MB/s  2s left       4.6s
    ⠙ web2      Upload  ━━━━━━━━━━━━━───────────           17.6/31.2 MB    3.9 MB/s  4s left       4.6s
    ⠙ db1       Upload  ━━━━━━━━━───────────────           11.7/31.2 MB    2.6 MB/s  8s left       4.6s
    ");
}

#[test]
fn while_one_host_is_behind() {
    assert_snapshot!(shown_at(&rehearsal::done(), 20_500), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    ✓ connect   Log in                                                       3 hosts              620ms
    ✓ connect   Look at what is there                                        3 hosts              350ms
    · release   20261121T113001Z-3f9c2d1
    ✓ build     Build the front end                                          local                 8.3s
    ✓ prepare   Upload (93.6 MB)                                             3 hosts               8.3s
    · web1      waiting for the others
    ⠴ web2      Install dependencies                                                               2.4s
    ⠴ db1       Install dependencies                                                               2.4s
    ");
}

#[test]
fn prepare_fails() {
    let style = Style { transcript: Some(".ship/log/20261121T113000Z-deploy-prod.log".to_owned()), ..Style::default() };
    assert_snapshot!(shown(&rehearsal::prepare_fails(), 100, style), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    ✓ connect   Log in                                                       3 hosts              620ms
    ✓ connect   Look at what is there                                        3 hosts              350ms
    · release   20261121T113001Z-3f9c2d1
    ✓ build     Build the front end                                          local                 8.3s
    ✓ prepare   Upload (93.6 MB)                                             3 hosts               8.3s
    ✗ prepare   Install dependencies                                         web2                  1.2s
                failed: exit status 1
                $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
                │ Collecting djnago==5.2
                │ ERROR: Could not find a version that satisfies the requirement djnago==5.2
                │ ERROR: No matching distribution found for djnago==5.2
                hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download
                      djnago==5.2
    ✗ prepare   Install dependencies                                         db1                   1.3s
                failed: exit status 1, as on web2
    ✓ prepare   Install dependencies                                         web1                  2.4s

      HOST  BEFORE                    AFTER                     STATE      WHY
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
      web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit
                                                                           status 1
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit
                                                                           status 1

    hint: nothing was switched; mend the step and deploy again
    log:  .ship/log/20261121T113000Z-deploy-prod.log

    ✗ Deploy failed: all 3 hosts unchanged  (20.6s, exit code 1)
    ");
}

#[test]
fn publish_fails_on_a_narrow_terminal() {
    assert_snapshot!(shown(&rehearsal::publish_fails(), 72, Style::default()), @r"
    Deploy tsosi to prod  (web1, web2, db1)
      main: Fix the search box (Ada Lovelace)
      revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110

    ✓ connect   Log in                           3 hosts              620ms
    ✓ connect   Look at what is there            3 hosts              350ms
    · release   20261121T113001Z-3f9c2d1
    ✓ prepare   Upload (93.6 MB)                 3 hosts               8.3s
    ✓ publish   Switch to the release            web1, web2           140ms
    ✗ publish   Wait for the site to answer      web2                 30.0s
                failed: status 500 for 30s, 200 expected
                $ GET http://127.0.0.1:8000/api/
                │ GET http://127.0.0.1:8000/api/: 500 Internal Server Error
                │ ::error::##[error]not for the runner
    ✓ publish   Wait for the site to answer      web1                 600ms
    ✓ put back  Switch to the release            web1, web2           140ms

      HOST  BEFORE                    AFTER                     STATE
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back
      web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back
        Wait for the site to answer: status 500 for 30s, 200 expected
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

    ✗ Deploy failed: 2 hosts put back, 1 host unchanged
      (49.6s, exit code 1)
    ");
}

#[test]
fn needs_a_person() {
    let all = shown(&rehearsal::needs_person(), 100, Style::default());
    assert_snapshot!(&all[all.find("✗").unwrap()..], @r"
    ✗ publish   Wait for the site to answer                                  web2                 30.0s
                failed: status 500 for 30s, 200 expected
                $ GET http://127.0.0.1:8000/api/
                │ GET http://127.0.0.1:8000/api/: 500 Internal Server Error
                │ ::error::##[error]not for the runner
    ✓ publish   Wait for the site to answer                                  web1                 600ms
    ✗ put back  Switch to the release                                        web2                 15.0s
                failed: connection lost
    ✓ put back  Switch to the release                                        web1                  40ms

      HOST  BEFORE                    AFTER                     STATE
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back
      web2  20261120T091211Z-77ab01c  ?                         needs a person
        connection lost while it was put back
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

    web2 needs a person. To see how it is, and to mend it:
        ssh deployer@web2.example.org
        readlink /var/www/tsosi/current
        ship rollback prod --host web2

    hint: the lock is kept on web2

    ✗ Deploy failed: web2 needs a person  (1m 03s, exit code 4)
    ");
}

#[test]
fn quiet_tells_only_what_goes_wrong() {
    let quiet = Style { quiet: true, ..Style::default() };
    assert_snapshot!(shown(&rehearsal::done(), 100, quiet.clone()), @r"
    ! finish    Warm the cache                                               web1                 600ms
                failed, and the run goes on: exit status 22
                $ curl -fsS http://127.0.0.1:8000/
                │ curl: (22) error: 503
    ! web2      warning: only 1.2 GB are free on /var
    ");
    assert_snapshot!(shown(&rehearsal::interrupted(), 100, quiet), @r"
    ! warning: interrupted: finishing what runs
      again to stop at once

      HOST  BEFORE                    AFTER                     STATE
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
      web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

    ! Deploy interrupted: all 3 hosts unchanged  (1.6s, exit code 130)
    ");
}

#[test]
fn with_v_it_shows_what_commands_print() {
    let all = shown(&rehearsal::done(), 100, Style { verbose: 2, ..Style::default() });
    let lines: Vec<&str> = all.lines().filter(|line| line.contains('│') || line.contains("Install dep")).collect();
    assert_snapshot!(lines.join("\n"), @r"
      local      │ $ npm ci && npm run build
      local      │ added 412 packages in 3s
      web1       │ $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
      web2       │ $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
      db1        │ $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
      web1       │ Collecting django==5.2
      web1       │ WARNING: Running pip as root is not a good idea
    ✓ prepare   Install dependencies                                         3 hosts               3.0s
      web1       │ $ /var/www/tsosi/venv/bin/python manage.py migrate --noinput
      web1       │ $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
      web2       │ $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
      db1        │ $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
      web1       │ $ curl -fsS http://127.0.0.1:8000/
                │ curl: (22) error: 503
    ");
}

#[test]
fn the_output_of_a_command_is_what_was_asked_for() {
    assert_snapshot!(shown(&rehearsal::command(), 100, Style::default()), @r"
    web1 │  11:30:00 up 41 days,  3:12,  0 users
    ✗ web2  failed: exit status 127  (210ms)

    ✗ Command failed  (230ms, exit code 1)
    ");
}

#[test]
fn a_fleet_beyond_the_screen_shows_who_is_at_work() {
    let hosts: Vec<String> = (1..=60).map(|number| format!("web{number}")).collect();
    let mut scene = Scene::default();
    let started = Event::RunStarted {
        action: Action::Deploy,
        app: "tsosi".to_owned(),
        environment: None,
        hosts: hosts.clone(),
        revision: None,
        description: None,
    };
    scene.add(0, started);
    scene.add(0, Event::PhaseStarted { phase: Phase::Prepare, hosts: hosts.clone(), batch: None });
    for (number, host) in hosts.iter().enumerate().skip(7).take(20) {
        scene.task(100 + number as u64, &[host], Phase::Prepare, "Upload", None, 60_000);
    }
    let (screen, mut terminal) = terminal(12, 80, Style::default());
    rehearsal::play_until(&scene.finished(), 5_000, &mut terminal);
    assert_snapshot!(screen.contents(), @r"
    Deploy tsosi  (60 hosts)

    ⠋ web8      Upload                                                         4.8s
    ⠋ web9      Upload                                                         4.8s
    ⠋ web10     Upload                                                         4.8s
    ⠋ web11     Upload                                                         4.8s
    ⠋ web12     Upload                                                         4.8s
    · 60 hosts: 20 at work, 40 waiting
    ");
}

#[test]
fn live_lines_step_aside_for_a_question() {
    let (screen, mut terminal) = terminal(40, 100, Style::default());
    let script = rehearsal::done();
    rehearsal::play_until(&script, 5_000, &mut terminal);
    let held = terminal.curtain().hold();
    let asked = "Passphrase for ~/.ssh/id_ed25519: ";
    screen.write_str(asked).unwrap();
    for (at, event) in script.iter().filter(|(at, _)| (5_000..10_000).contains(at)) {
        terminal.tick(*at);
        terminal.event(&rehearsal::stamped(0, *at, event.clone()));
    }
    assert!(screen.contents().ends_with(asked.trim_end()), "{}", screen.contents());
    screen.write_str("\r\n").unwrap();
    drop(held);
    let all = screen.contents();
    assert_snapshot!(&all[all.find("· release").unwrap()..], @r"
    · release   20261121T113001Z-3f9c2d1
    Passphrase for ~/.ssh/id_ed25519:
    ✓ build     Build the front end                                          local                 8.3s
    ⠴ web1      Upload  ────────────────────────                                   0.0/31.2 MB     0.0s
    ⠴ web2      Upload  ────────────────────────                                   0.0/31.2 MB     0.0s
    ⠴ db1       Upload                                                                             0.0s
    ");
}

/// Not a test: the deploy as it moves, to be looked at on a real terminal.
/// `cargo test --lib -- --ignored --nocapture look_at_it`
#[test]
#[ignore = "for people to look at"]
fn look_at_it() {
    let style = Style { color: true, unicode: true, ..Style::default() };
    for script in [rehearsal::done(), rehearsal::prepare_fails(), rehearsal::needs_person()] {
        let mut terminal = Terminal::stderr(style.clone());
        let mut now = 0;
        for (seq, (at, event)) in script.iter().enumerate() {
            while now < *at {
                std::thread::sleep(std::time::Duration::from_millis(25));
                now += 100;
                terminal.tick(now);
            }
            terminal.event(&rehearsal::stamped(seq as u64, *at, event.clone()));
        }
        terminal.finish();
    }
}
