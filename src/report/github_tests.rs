//! What the reporter for GitHub Actions writes, and what it never does.

use std::path::PathBuf;

use insta::assert_snapshot;

use super::Style;
use super::github::Github;
use super::printer::Printer;
use super::rehearsal::{self, Page, Script};
use crate::secret::Secret;

fn shown(script: &Script) -> (String, String) {
    let (page, place) = (Page::default(), tempfile::tempdir().unwrap());
    let summary = place.path().join("summary.md");
    let mut github = Github::new(Printer::new(page.clone()), Style::default(), &[], Some(summary.clone()));
    rehearsal::play(script, &mut github);
    (page.text(), std::fs::read_to_string(summary).unwrap())
}

#[test]
fn a_deploy() {
    let (log, summary) = shown(&rehearsal::done());
    let from = log.find("::group::prepare").unwrap();
    assert_snapshot!(&log[from..], @r"
    ::group::prepare (web1, web2, db1)
    web1  > Upload
    web2  > Upload
    db1   > Upload
    web1  + Upload: done in 6.5s, 31.2 MB sent
    web2  + Upload: done in 7.4s, 31.2 MB sent
    db1   + Upload: done in 8.3s, 31.2 MB sent
    web1  > Install dependencies
    web1  $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    web2  > Install dependencies
    web2  $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    db1   > Install dependencies
    db1   $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    web1  | Collecting django==5.2
    web1  | WARNING: Running pip as root is not a good idea
    web1  + Install dependencies: done in 2.3s
    web2  + Install dependencies: done in 2.9s
    db1   + Install dependencies: done in 3.0s
    web1  > Migrate the database
    web1  $ /var/www/tsosi/venv/bin/python manage.py migrate --noinput
    web1  + Migrate the database: done in 1.8s
          = prepare took 13.6s
    ::endgroup::
    ::group::publish, batch 1 of 2 (web1, web2)
    web1  > Switch to the release
    web2  > Switch to the release
    web1  + Switch to the release: done in 40ms
    web2  + Switch to the release: done in 140ms
    web1  > Restart gunicorn
    web1  $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
    web2  > Restart gunicorn
    web2  $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
    web1  + Restart gunicorn: done in 1.5s
    web2  + Restart gunicorn: done in 1.6s
          = publish took 2.0s
    ::endgroup::
    ::group::publish, batch 2 of 2 (db1)
    db1   > Switch to the release
    db1   + Switch to the release: done in 40ms
    db1   > Restart gunicorn
    db1   $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
    db1   + Restart gunicorn: done in 1.5s
          = publish took 2.0s
    ::endgroup::
    ::group::finish (web1, web2, db1)
    web1  > Remove old releases
    web2  > Remove old releases
    db1   > Remove old releases
    web1  + Remove old releases: done in 90ms
    web2  + Remove old releases: done in 190ms
    db1   + Remove old releases: done in 290ms
    web1  > Warm the cache
    web1  $ curl -fsS http://127.0.0.1:8000/
    ::endgroup::
    ::warning title=Warm the cache failed on web1 (finish)::exit status 22%0Acurl: (22) error: 503
    web1  ! Warm the cache: failed, and the run goes on, after 600ms: exit status 22
    web1  !   command: curl -fsS http://127.0.0.1:8000/
    web1  !   last lines:
    web1  !     curl: (22) error: 503
    ::group::finish (web1, web2, db1)
          = finish took 1.0s
    ::endgroup::
    db1   - 2 releases removed, 41.0 MB freed
    ::warning title=Warning from web2::only 1.2 GB are free on /var
    web2  ! warning: only 1.2 GB are free on /var

      HOST  BEFORE                    AFTER                     STATE
      web1  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
      web2  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
      db1   20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live

    + Deployed tsosi to prod: 20261121T113001Z-3f9c2d1 is live on 3 hosts  (28.6s)
    ");
    assert_snapshot!(summary, @r"
    ### ✅ Deployed tsosi to prod: 20261121T113001Z-3f9c2d1 is live on 3 hosts

    main: Fix the search box (Ada Lovelace)

    | Host | Before | After | State | Why |
    |---|---|---|---|---|
    | web1 | 20261120T091211Z-77ab01c | 20261121T113001Z-3f9c2d1 | live |  |
    | web2 | 20261120T091211Z-77ab01c | 20261121T113001Z-3f9c2d1 | live |  |
    | db1 | 20261120T091211Z-77ab01c | 20261121T113001Z-3f9c2d1 | live |  |

    **Warm the cache** failed (the run went on) on **web1** in finish: exit status 22

    ```text
    $ curl -fsS http://127.0.0.1:8000/
    curl: (22) error: 503
    ```


    28.6s
    ");
}

#[test]
fn prepare_fails() {
    let (log, summary) = shown(&rehearsal::prepare_fails());
    let from = log.find("::endgroup::\n::error").unwrap();
    assert_snapshot!(&log[from..], @r"
    ::endgroup::
    ::error title=Install dependencies failed on web2 (prepare)::exit status 1%0ACollecting djnago==5.2%0AERROR: Could not find a version that satisfies the requirement djnago==5.2%0AERROR: No matching distribution found for djnago==5.2%0Ahint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
    web2  ! Install dependencies: failed after 1.2s: exit status 1
    web2  !   command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    web2  !   last lines:
    web2  !     Collecting djnago==5.2
    web2  !     ERROR: Could not find a version that satisfies the requirement djnago==5.2
    web2  !     ERROR: No matching distribution found for djnago==5.2
    web2  !   hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
    ::error title=Install dependencies failed on db1 (prepare)::exit status 1%0ACollecting djnago==5.2%0AERROR: Could not find a version that satisfies the requirement djnago==5.2%0AERROR: No matching distribution found for djnago==5.2%0Ahint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
    db1   ! Install dependencies: failed after 1.3s: exit status 1
    db1   !   command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    db1   !   last lines:
    db1   !     Collecting djnago==5.2
    db1   !     ERROR: Could not find a version that satisfies the requirement djnago==5.2
    db1   !     ERROR: No matching distribution found for djnago==5.2
    db1   !   hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
    ::group::prepare (web1, web2, db1)
    web1  + Install dependencies: done in 2.4s
          = prepare took 10.9s
    ::endgroup::

      HOST  BEFORE                    AFTER                     STATE      WHY
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
      web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1

    hint: nothing was switched; mend the step and deploy again

    x Deploy failed: all 3 hosts unchanged  (20.6s, exit code 1)
    ");
    assert_snapshot!(summary, @r"
    ### ❌ Deploy failed: all 3 hosts unchanged

    main: Fix the search box (Ada Lovelace)

    | Host | Before | After | State | Why |
    |---|---|---|---|---|
    | web1 | 20261120T091211Z-77ab01c | 20261120T091211Z-77ab01c | unchanged |  |
    | web2 | 20261120T091211Z-77ab01c | 20261120T091211Z-77ab01c | unchanged | Install dependencies: exit status 1 |
    | db1 | 20261120T091211Z-77ab01c | 20261120T091211Z-77ab01c | unchanged | Install dependencies: exit status 1 |

    **Install dependencies** failed on **web2** in prepare: exit status 1

    ```text
    $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    Collecting djnago==5.2
    ERROR: Could not find a version that satisfies the requirement djnago==5.2
    ERROR: No matching distribution found for djnago==5.2
    ```

    is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2

    **Install dependencies** failed on **db1** in prepare: exit status 1

    ```text
    $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
    Collecting djnago==5.2
    ERROR: Could not find a version that satisfies the requirement djnago==5.2
    ERROR: No matching distribution found for djnago==5.2
    ```

    is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2

    - nothing was switched; mend the step and deploy again

    20.6s
    ");
}

#[test]
fn nothing_that_a_host_prints_is_obeyed() {
    let (log, summary) = shown(&rehearsal::publish_fails());
    let obeyed = ["::group::", "::endgroup::", "::error title=", "::warning title="];
    for line in log.lines().filter(|line| line.trim_start().starts_with("::")) {
        assert!(obeyed.iter().any(|command| line.starts_with(command)), "{line}");
    }
    assert!(!log.contains("##["), "{log}");
    assert_snapshot!(log.lines().filter(|line| line.contains("not for the runner")).collect::<Vec<_>>().join("\n"), @r"
    ::error title=Wait for the site to answer failed on web2 (publish)::status 500 for 30s, 200 expected%0AGET http://127.0.0.1:8000/api/: 500 Internal Server Error%0A::error::##\[error]not for the runner
    web2  !     ::error::##\[error]not for the runner
    ");
    assert!(summary.contains("::error::##[error]not for the runner"), "in a file it is only text");
}

#[test]
fn needs_a_person() {
    let (log, summary) = shown(&rehearsal::needs_person());
    let from = log.find("::group::put back").unwrap();
    assert_snapshot!(&log[from..], @r"
    ::group::put back (web1, web2)
    web1  > Switch to the release
    web2  > Switch to the release
    web1  + Switch to the release: done in 40ms
    ::endgroup::
    ::error title=Switch to the release failed on web2 (put back)::connection lost
    web2  ! Switch to the release: failed after 15.0s: connection lost
    ::group::put back (web1, web2)
          = put back took 15.1s
    ::endgroup::

      HOST  BEFORE                    AFTER                     STATE           WHY
      web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back
      web2  20261120T091211Z-77ab01c  ?                         needs a person  connection lost while it was put back
      db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

    web2 needs a person. To see how it is, and to mend it:
        ssh deployer@web2.example.org
        readlink /var/www/tsosi/current
        ship rollback prod --host web2

    hint: the lock is kept on web2

    x Deploy failed: web2 needs a person  (1m 03s, exit code 4)
    ");
    let from = summary.find("**web2** needs").unwrap();
    assert_snapshot!(&summary[from..], @r"
    **web2** needs a person:

    ```text
    ssh deployer@web2.example.org
    readlink /var/www/tsosi/current
    ship rollback prod --host web2
    ```

    - the lock is kept on web2

    1m 03s
    ");
}

#[test]
fn secrets_are_announced_line_by_line_before_anything_else() {
    let page = Page::default();
    let secrets = [Secret::new("100%\r\nline two\nabc\n".to_owned()), Secret::new("##[hunter22".to_owned())];
    let github = Github::new(Printer::new(page.clone()), Style::default(), &secrets, None);
    assert_eq!(page.text(), "::add-mask::100%25\n::add-mask::line two\n::add-mask::##[hunter22\n");
    drop(github);
}

#[test]
fn a_summary_that_cannot_be_written_is_a_warning() {
    let page = Page::default();
    let nowhere = Some(PathBuf::from("/nowhere/summary.md"));
    let mut github = Github::new(Printer::new(page.clone()), Style::default(), &[], nowhere);
    rehearsal::play(&rehearsal::interrupted(), &mut github);
    assert!(page.text().ends_with(
        "::warning title=Job summary::Could not write the job summary: No such file or directory (os error 2)\n"
    ));
}
