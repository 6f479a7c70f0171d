//! The log reporter: one line per fact, with the time of day in UTC and the host.

use super::ending::Ending;
use super::narrative::{Detail, Line, Narrator};
use super::paint::Paint;
use super::printer::Printer;
use super::{Reporter, Style, text};
use crate::event::Stamped;

/// Writes a log that reads well in a file and in a CI.
#[derive(Debug)]
pub struct Plain {
    out: Printer,
    style: Style,
    narrator: Narrator,
}

impl Plain {
    /// A log on `out`. No line of it is obeyed by a CI that reads along.
    pub fn new(out: Printer, style: Style) -> Self {
        let narrator = Narrator::new(detail(&style));
        Self { out: out.neutral(true), style, narrator }
    }
}

/// How much `style` asks to be told.
pub fn detail(style: &Style) -> Detail {
    match (style.quiet, style.verbose) {
        (true, _) => Detail::Quiet,
        (false, 0) => Detail::Normal,
        (false, _) => Detail::Everything,
    }
}

impl Reporter for Plain {
    fn event(&mut self, stamped: &Stamped) {
        let told = self.narrator.tell(stamped);
        let width = self.narrator.host_width();
        // What `ship run` prints is what the user asked for, so only the host stands before it.
        let time = if self.narrator.run().is_about_output() { None } else { time_of_day(stamped) };
        let lines: Vec<String> = told.iter().map(|line| log_line(time, line, width)).collect();
        self.out.lines(&lines);
        if let Some(ending) = Ending::of(&stamped.event) {
            let run = self.narrator.run();
            if run.is_about_output() && ending.exit_code == 0 {
                return;
            }
            let paint = Paint::new(&Style { color: false, unicode: false, ..self.style.clone() });
            let mut lines = vec![String::new()];
            lines.extend(ending.lines(run, self.style.transcript.as_deref(), None, paint));
            self.out.lines(&lines);
        }
    }

    fn finish(&mut self) {}
}

/// `11:30:00.123`.
fn time_of_day(stamped: &Stamped) -> Option<&str> {
    stamped.time.get(11..23)
}

/// Time, host, sign and text in columns.
pub fn log_line(time: Option<&str>, line: &Line, host_width: usize) -> String {
    let host = text::left(&line.host, host_width);
    let lead = time.map(|time| format!("{time} ")).unwrap_or_default();
    format!("{lead}{host} {} {}", line.mark.sign(), line.text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rehearsal::{self, Page, Script};
    use insta::assert_snapshot;

    fn shown(script: &Script, style: Style) -> String {
        let page = Page::default();
        rehearsal::play(script, &mut Plain::new(Printer::new(page.clone()), style));
        page.text()
    }

    #[test]
    fn a_deploy() {
        assert_snapshot!(shown(&rehearsal::done(), Style::default()), @r"
        11:30:00.000       - Deploy tsosi to prod (3 hosts: web1, web2, db1)
        11:30:00.000       - revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110
        11:30:00.000       - main: Fix the search box (Ada Lovelace)
        11:30:00.000       = connect (web1, web2, db1)
        11:30:00.380 web1  - connected to deployer@web1.example.org:22 in 380ms
        11:30:00.500 web2  - connected to deployer@web2.example.org:22 in 500ms
        11:30:00.620 db1   - connected to deployer@db1.example.org:22 in 620ms
        11:30:00.640 web1  > Look at what is there
        11:30:00.640 web2  > Look at what is there
        11:30:00.640 db1   > Look at what is there
        11:30:00.790 web1  + Look at what is there: done in 150ms
        11:30:00.890 web2  + Look at what is there: done in 250ms
        11:30:00.990 db1   + Look at what is there: done in 350ms
        11:30:01.010       = connect took 1.0s
        11:30:01.010       - release 20261121T113001Z-3f9c2d1
        11:30:01.020       = build (local)
        11:30:01.020 local > Build the front end
        11:30:01.020 local $ npm ci && npm run build
        11:30:04.100 local | added 412 packages in 3s
        11:30:09.400 local + Build the front end: done in 8.3s
        11:30:09.400       = build took 8.3s
        11:30:09.410       = prepare (web1, web2, db1)
        11:30:09.420 web1  > Upload
        11:30:09.420 web2  > Upload
        11:30:09.420 db1   > Upload
        11:30:16.000 web1  + Upload: done in 6.5s, 31.2 MB sent
        11:30:16.900 web2  + Upload: done in 7.4s, 31.2 MB sent
        11:30:17.800 db1   + Upload: done in 8.3s, 31.2 MB sent
        11:30:18.000 web1  > Install dependencies
        11:30:18.000 web1  $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        11:30:18.100 web2  > Install dependencies
        11:30:18.100 web2  $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        11:30:18.100 db1   > Install dependencies
        11:30:18.100 db1   $ /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        11:30:18.400 web1  | Collecting django==5.2
        11:30:18.900 web1  | WARNING: Running pip as root is not a good idea
        11:30:20.300 web1  + Install dependencies: done in 2.3s
        11:30:21.000 web2  + Install dependencies: done in 2.9s
        11:30:21.100 db1   + Install dependencies: done in 3.0s
        11:30:21.200 web1  > Migrate the database
        11:30:21.200 web1  $ /var/www/tsosi/venv/bin/python manage.py migrate --noinput
        11:30:23.000 web1  + Migrate the database: done in 1.8s
        11:30:23.100       = prepare took 13.6s
        11:30:23.200       = publish, batch 1 of 2 (web1, web2)
        11:30:23.200 web1  > Switch to the release
        11:30:23.200 web2  > Switch to the release
        11:30:23.240 web1  + Switch to the release: done in 40ms
        11:30:23.340 web2  + Switch to the release: done in 140ms
        11:30:23.400 web1  > Restart gunicorn
        11:30:23.400 web1  $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
        11:30:23.400 web2  > Restart gunicorn
        11:30:23.400 web2  $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
        11:30:24.900 web1  + Restart gunicorn: done in 1.5s
        11:30:25.000 web2  + Restart gunicorn: done in 1.6s
        11:30:25.200       = publish took 2.0s
        11:30:25.400       = publish, batch 2 of 2 (db1)
        11:30:25.400 db1   > Switch to the release
        11:30:25.440 db1   + Switch to the release: done in 40ms
        11:30:25.600 db1   > Restart gunicorn
        11:30:25.600 db1   $ sudo -n -- /usr/bin/systemctl restart tsosi_gunicorn.service
        11:30:27.100 db1   + Restart gunicorn: done in 1.5s
        11:30:27.400       = publish took 2.0s
        11:30:27.500       = finish (web1, web2, db1)
        11:30:27.500 web1  > Remove old releases
        11:30:27.500 web2  > Remove old releases
        11:30:27.500 db1   > Remove old releases
        11:30:27.590 web1  + Remove old releases: done in 90ms
        11:30:27.690 web2  + Remove old releases: done in 190ms
        11:30:27.790 db1   + Remove old releases: done in 290ms
        11:30:27.800 web1  > Warm the cache
        11:30:27.800 web1  $ curl -fsS http://127.0.0.1:8000/
        11:30:28.400 web1  ! Warm the cache: failed, and the run goes on, after 600ms: exit status 22
        11:30:28.400 web1  !   command: curl -fsS http://127.0.0.1:8000/
        11:30:28.400 web1  !   last lines:
        11:30:28.400 web1  !     curl: (22) error: 503
        11:30:28.500       = finish took 1.0s
        11:30:28.500 db1   - 2 releases removed, 41.0 MB freed
        11:30:28.500 web2  ! warning: only 1.2 GB are free on /var

          HOST  BEFORE                    AFTER                     STATE
          web1  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
          web2  20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live
          db1   20261120T091211Z-77ab01c  20261121T113001Z-3f9c2d1  live

        + Deployed tsosi to prod: 20261121T113001Z-3f9c2d1 is live on 3 hosts  (28.6s)
        ");
    }

    #[test]
    fn prepare_fails() {
        let style = Style { transcript: Some(".ship/log/x.log".to_owned()), ..Style::default() };
        let all = shown(&rehearsal::prepare_fails(), style);
        let from = all.find("11:30:19.200").unwrap();
        assert_snapshot!(&all[from..], @r"
        11:30:19.200 web2  ! Install dependencies: failed after 1.2s: exit status 1
        11:30:19.200 web2  !   command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        11:30:19.200 web2  !   last lines:
        11:30:19.200 web2  !     Collecting djnago==5.2
        11:30:19.200 web2  !     ERROR: Could not find a version that satisfies the requirement djnago==5.2
        11:30:19.200 web2  !     ERROR: No matching distribution found for djnago==5.2
        11:30:19.200 web2  !   hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
        11:30:19.300 db1   ! Install dependencies: failed after 1.3s: exit status 1
        11:30:19.300 db1   !   command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        11:30:19.300 db1   !   last lines:
        11:30:19.300 db1   !     Collecting djnago==5.2
        11:30:19.300 db1   !     ERROR: Could not find a version that satisfies the requirement djnago==5.2
        11:30:19.300 db1   !     ERROR: No matching distribution found for djnago==5.2
        11:30:19.300 db1   !   hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
        11:30:20.400 web1  + Install dependencies: done in 2.4s
        11:30:20.400       = prepare took 10.9s

          HOST  BEFORE                    AFTER                     STATE      WHY
          web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
          web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1
          db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1

        hint: nothing was switched; mend the step and deploy again
        log:  .ship/log/x.log

        x Deploy failed: all 3 hosts unchanged  (20.6s, exit code 1)
        ");
    }

    #[test]
    fn publish_fails_and_quiet_tells_only_that() {
        assert_snapshot!(shown(&rehearsal::publish_fails(), Style { quiet: true, ..Style::default() }), @r"
        11:30:48.400 web2  ! Wait for the site to answer: failed after 30.0s: status 500 for 30s, 200 expected
        11:30:48.400 web2  !   command: GET http://127.0.0.1:8000/api/
        11:30:48.400 web2  !   last lines:
        11:30:48.400 web2  !     GET http://127.0.0.1:8000/api/: 500 Internal Server Error
        11:30:48.400 web2  !     ::error::##\[error]not for the runner

          HOST  BEFORE                    AFTER                     STATE      WHY
          web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back
          web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  put back   Wait for the site to answer: status 500 for 30s, 200 expected
          db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

        x Deploy failed: 2 hosts put back, 1 host unchanged  (49.6s, exit code 1)
        ");
    }

    #[test]
    fn needs_a_person() {
        let all = shown(&rehearsal::needs_person(), Style::default());
        let from = all.find("11:30:48.600").unwrap();
        assert_snapshot!(&all[from..], @r"
        11:30:48.600       = put back (web1, web2)
        11:30:48.600 web1  > Switch to the release
        11:30:48.600 web2  > Switch to the release
        11:30:48.640 web1  + Switch to the release: done in 40ms
        11:31:03.600 web2  ! Switch to the release: failed after 15.0s: connection lost
        11:31:03.700       = put back took 15.1s

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
    }

    #[test]
    fn interrupted() {
        let all = shown(&rehearsal::interrupted(), Style::default());
        let from = all.find("11:30:01.010").unwrap();
        assert_snapshot!(&all[from..], @r"
        11:30:01.010       = connect took 1.0s
        11:30:01.010       - release 20261121T113001Z-3f9c2d1
        11:30:01.500       ! warning: interrupted: finishing what runs
        11:30:01.500       !          again to stop at once

          HOST  BEFORE                    AFTER                     STATE
          web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
          web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
          db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged

        ! Deploy interrupted: all 3 hosts unchanged  (1.6s, exit code 130)
        ");
    }

    #[test]
    fn the_output_of_a_command_is_what_was_asked_for() {
        assert_snapshot!(shown(&rehearsal::command(), Style::default()), @r"
        web1 |  11:30:00 up 41 days,  3:12,  0 users
        web2 ! uptime: failed after 210ms: exit status 127

        x Command failed  (230ms, exit code 1)
        ");
    }
}
