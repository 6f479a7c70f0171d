//! The transcript: every event of a run in a file under `.ship/log/`, for whoever asks later.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::Reporter;
use super::ending::Ending;
use super::narrative::{Detail, Mark, Narrator};
use super::paint::Paint;
use super::text;
use crate::event::{Action, Stamped, Stream};

/// Which run it is the transcript of; its name is made of this.
#[derive(Clone, Copy, Debug)]
pub struct TranscriptOf<'a> {
    /// What is done.
    pub action: Action,
    /// The environment, where the inventory has any.
    pub environment: Option<&'a str>,
    /// When it began.
    pub started: jiff::Timestamp,
}

/// Appends every event to a file as it happens. What cannot be written is said once, and stops nothing.
#[derive(Debug)]
pub struct Transcript {
    file: Option<File>,
    path: Option<PathBuf>,
    complaint: Option<String>,
    narrator: Narrator,
}

/// How many transcripts are kept.
const KEPT: usize = 50;
/// The link to the newest one.
const LATEST: &str = "latest.log";

impl Transcript {
    /// Creates the file in `folder`, which is made where it is missing, and removes the oldest ones there.
    pub fn create(folder: &Path, of: TranscriptOf<'_>) -> Self {
        let mut transcript =
            Self { file: None, path: None, complaint: None, narrator: Narrator::new(Detail::Everything) };
        match make_folder(folder).and_then(|()| make_file(folder, of)) {
            Ok((file, name)) => {
                transcript.file = Some(file);
                transcript.path = Some(folder.join(&name));
                if let Err(error) = tidy(folder, &name) {
                    transcript.complaint = Some(format!("Could not tidy up {}: {error}", folder.display()));
                }
            }
            Err(error) => transcript.give_up(&format!("create a transcript in {}", folder.display()), &error),
        }
        transcript
    }

    /// Where it is, if it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn give_up(&mut self, what: &str, error: &io::Error) {
        self.file = None;
        self.complaint = Some(format!("Could not {what}: {error}. The run goes on without it."));
    }
}

impl Reporter for Transcript {
    fn event(&mut self, stamped: &Stamped) {
        let told = self.narrator.tell(stamped);
        let width = self.narrator.host_width();
        let mut page = String::new();
        for line in &told {
            let sign = match line.mark {
                Mark::Output(Stream::Stdout) => "|".to_owned(),
                Mark::Output(Stream::Stderr) => "|2".to_owned(),
                mark => mark.sign().to_string(),
            };
            let line =
                format!("{} {} {} {}", stamped.time, text::left(&line.host, width), text::left(&sign, 2), line.text);
            page.push_str(line.trim_end());
            page.push('\n');
        }
        if let Some(ending) = Ending::of(&stamped.event) {
            let paint = Paint::new(&super::Style::default());
            page.push('\n');
            for line in ending.lines(self.narrator.run(), None, None, paint) {
                page.push_str(&line);
                page.push('\n');
            }
        }
        // One write for one event, so that a killed ship leaves whole lines.
        if let Some(file) = self.file.as_mut().filter(|_| !page.is_empty())
            && let Err(error) = file.write_all(page.as_bytes())
        {
            let name = self.path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
            self.give_up(&format!("write the transcript {name}"), &error);
        }
    }

    fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    fn finish(&mut self) {}
}

/// The folder, for its owner alone, and kept out of version control.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(".gitignore")) {
        Ok(mut ignore) => ignore.write_all(b"*\n"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file, 0600 before its first byte, under a name that no other run has.
fn make_file(folder: &Path, of: TranscriptOf<'_>) -> io::Result<(File, String)> {
    let time = of.started.strftime("%Y%m%dT%H%M%SZ").to_string();
    let environment = of.environment.map(|name| format!("-{}", plain_name(name))).unwrap_or_default();
    for number in 1..100 {
        let again = if number == 1 { String::new() } else { format!(".{number}") };
        let name = format!("{time}-{}{environment}{again}.log", of.action.name());
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((file, name)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// `name` with nothing in it that means something in a path.
fn plain_name(name: &str) -> String {
    let kept = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    name.chars().map(kept).take(40).collect()
}

/// Points `latest.log` to the newest file and removes all but the newest [`KEPT`].
fn tidy(folder: &Path, newest: &str) -> io::Result<()> {
    let fresh = folder.join(format!("{newest}.link"));
    let _ = fs::remove_file(&fresh);
    symlink(newest, &fresh)?;
    fs::rename(&fresh, folder.join(LATEST))?;
    let mut names: Vec<String> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_transcript(name))
        .collect();
    names.sort_unstable();
    let old = names.len().saturating_sub(KEPT);
    names.iter().take(old).filter(|name| *name != newest).try_for_each(|name| fs::remove_file(folder.join(name)))
}

/// Whether ship gave a file this name: nothing else in the folder is ever removed.
fn is_transcript(name: &str) -> bool {
    let shaped = |(index, byte): (usize, u8)| match index {
        8 => byte == b'T',
        15 => byte == b'Z',
        16 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    name.len() > 17 && name.ends_with(".log") && name.bytes().take(17).enumerate().all(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rehearsal;
    use insta::assert_snapshot;

    const START: &str = "2026-11-21T11:30:00Z";

    fn of(environment: Option<&str>) -> TranscriptOf<'_> {
        TranscriptOf { action: Action::Deploy, environment, started: START.parse().unwrap() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_holds_every_event() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(".ship/log");
        let mut transcript = Transcript::create(&folder, of(Some("prod")));
        rehearsal::play(&rehearsal::prepare_fails(), &mut transcript);
        assert_snapshot!(fs::read_to_string(folder.join(LATEST)).unwrap(), @r"
        2026-11-21T11:30:00.000Z       -  Deploy tsosi to prod (3 hosts: web1, web2, db1)
        2026-11-21T11:30:00.000Z       -  revision 3f9c2d1a8b7e6d5c4b3a29181716151413121110
        2026-11-21T11:30:00.000Z       -  main: Fix the search box (Ada Lovelace)
        2026-11-21T11:30:00.000Z       =  connect (web1, web2, db1)
        2026-11-21T11:30:00.380Z web1  -  connected to deployer@web1.example.org:22 in 380ms
        2026-11-21T11:30:00.500Z web2  -  connected to deployer@web2.example.org:22 in 500ms
        2026-11-21T11:30:00.620Z db1   -  connected to deployer@db1.example.org:22 in 620ms
        2026-11-21T11:30:00.640Z web1  >  Look at what is there
        2026-11-21T11:30:00.640Z web2  >  Look at what is there
        2026-11-21T11:30:00.640Z db1   >  Look at what is there
        2026-11-21T11:30:00.790Z web1  +  Look at what is there: done in 150ms
        2026-11-21T11:30:00.890Z web2  +  Look at what is there: done in 250ms
        2026-11-21T11:30:00.990Z db1   +  Look at what is there: done in 350ms
        2026-11-21T11:30:01.010Z       =  connect took 1.0s
        2026-11-21T11:30:01.010Z       -  release 20261121T113001Z-3f9c2d1
        2026-11-21T11:30:01.020Z       =  build (local)
        2026-11-21T11:30:01.020Z local >  Build the front end
        2026-11-21T11:30:01.020Z local $  npm ci && npm run build
        2026-11-21T11:30:04.100Z local |  added 412 packages in 3s
        2026-11-21T11:30:09.400Z local +  Build the front end: done in 8.3s
        2026-11-21T11:30:09.400Z       =  build took 8.3s
        2026-11-21T11:30:09.410Z       =  prepare (web1, web2, db1)
        2026-11-21T11:30:09.420Z web1  >  Upload
        2026-11-21T11:30:09.420Z web2  >  Upload
        2026-11-21T11:30:09.420Z db1   >  Upload
        2026-11-21T11:30:11.000Z web1  -  Upload: 7.8/31.2 MB (25%)
        2026-11-21T11:30:11.000Z web2  -  Upload: 5.9/31.2 MB (18%)
        2026-11-21T11:30:11.000Z db1   -  Upload: 3.9/31.2 MB (12%)
        2026-11-21T11:30:12.500Z web1  -  Upload: 15.6/31.2 MB (50%)
        2026-11-21T11:30:12.500Z web2  -  Upload: 11.7/31.2 MB (37%)
        2026-11-21T11:30:12.500Z db1   -  Upload: 7.8/31.2 MB (25%)
        2026-11-21T11:30:14.000Z web1  -  Upload: 23.4/31.2 MB (75%)
        2026-11-21T11:30:14.000Z web2  -  Upload: 17.6/31.2 MB (56%)
        2026-11-21T11:30:14.000Z db1   -  Upload: 11.7/31.2 MB (37%)
        2026-11-21T11:30:15.500Z web1  -  Upload: 31.2/31.2 MB (100%)
        2026-11-21T11:30:15.500Z web2  -  Upload: 23.4/31.2 MB (75%)
        2026-11-21T11:30:15.500Z db1   -  Upload: 15.6/31.2 MB (50%)
        2026-11-21T11:30:16.000Z web1  +  Upload: done in 6.5s, 31.2 MB sent
        2026-11-21T11:30:16.900Z web2  -  Upload: 31.2/31.2 MB (100%)
        2026-11-21T11:30:16.900Z web2  +  Upload: done in 7.4s, 31.2 MB sent
        2026-11-21T11:30:17.800Z db1   -  Upload: 31.2/31.2 MB (100%)
        2026-11-21T11:30:17.800Z db1   +  Upload: done in 8.3s, 31.2 MB sent
        2026-11-21T11:30:18.000Z web1  >  Install dependencies
        2026-11-21T11:30:18.000Z web1  $  /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        2026-11-21T11:30:18.000Z web2  >  Install dependencies
        2026-11-21T11:30:18.000Z web2  $  /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        2026-11-21T11:30:18.000Z db1   >  Install dependencies
        2026-11-21T11:30:18.000Z db1   $  /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        2026-11-21T11:30:19.000Z web2  |2 Collecting djnago==5.2
        2026-11-21T11:30:19.000Z web2  |2 ERROR: Could not find a version that satisfies the requirement djnago==5.2
        2026-11-21T11:30:19.000Z web2  |2 ERROR: No matching distribution found for djnago==5.2
        2026-11-21T11:30:19.200Z web2  !  Install dependencies: failed after 1.2s: exit status 1
        2026-11-21T11:30:19.200Z web2  !    command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        2026-11-21T11:30:19.200Z web2  !    last lines:
        2026-11-21T11:30:19.200Z web2  !      Collecting djnago==5.2
        2026-11-21T11:30:19.200Z web2  !      ERROR: Could not find a version that satisfies the requirement djnago==5.2
        2026-11-21T11:30:19.200Z web2  !      ERROR: No matching distribution found for djnago==5.2
        2026-11-21T11:30:19.200Z web2  !    hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
        2026-11-21T11:30:19.300Z db1   !  Install dependencies: failed after 1.3s: exit status 1
        2026-11-21T11:30:19.300Z db1   !    command: /var/www/tsosi/venv/bin/pip install --requirement requirements.txt
        2026-11-21T11:30:19.300Z db1   !    last lines:
        2026-11-21T11:30:19.300Z db1   !      Collecting djnago==5.2
        2026-11-21T11:30:19.300Z db1   !      ERROR: Could not find a version that satisfies the requirement djnago==5.2
        2026-11-21T11:30:19.300Z db1   !      ERROR: No matching distribution found for djnago==5.2
        2026-11-21T11:30:19.300Z db1   !    hint: is the requirement spelled right? try: ship run prod --host web2 -- pip download djnago==5.2
        2026-11-21T11:30:20.400Z web1  +  Install dependencies: done in 2.4s
        2026-11-21T11:30:20.400Z       =  prepare took 10.9s

          HOST  BEFORE                    AFTER                     STATE      WHY
          web1  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged
          web2  20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1
          db1   20261120T091211Z-77ab01c  20261120T091211Z-77ab01c  unchanged  Install dependencies: exit status 1

        hint: nothing was switched; mend the step and deploy again

        x Deploy failed: all 3 hosts unchanged  (20.6s, exit code 1)
        ");
        assert_eq!(transcript.complaint(), None);
    }

    #[test]
    fn only_its_owner_reads_it_and_git_leaves_it_out() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(".ship/log");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let first = Transcript::create(&folder, of(Some("../pro d")));
        let second = Transcript::create(&folder, of(Some("../pro d")));
        let third = Transcript::create(&folder, of(None));
        assert_eq!(first.path().map(mode), Some(0o600));
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(
            names(&folder),
            [
                ".gitignore",
                "20261121T113000Z-deploy----pro-d.2.log",
                "20261121T113000Z-deploy----pro-d.log",
                "20261121T113000Z-deploy.log",
                "latest.log"
            ]
        );
        assert_eq!(second.path().map(mode), Some(0o600));
        assert_eq!(fs::canonicalize(folder.join(LATEST)).unwrap(), fs::canonicalize(third.path().unwrap()).unwrap());
    }

    #[test]
    fn the_newest_fifty_stay_and_nothing_else_is_touched() {
        let place = tempfile::tempdir().unwrap();
        for minute in 0..60 {
            fs::write(place.path().join(format!("20261120T10{minute:02}00Z-deploy-prod.log")), "").unwrap();
        }
        fs::write(place.path().join("00-notes.log"), "mine").unwrap();
        let transcript = Transcript::create(place.path(), of(Some("prod")));
        let left = names(place.path());
        let kept: Vec<&String> = left.iter().filter(|name| is_transcript(name)).collect();
        assert_eq!(kept.len(), 50);
        assert_eq!(kept[0], "20261120T101100Z-deploy-prod.log");
        assert!(left.contains(&"00-notes.log".to_owned()));
        assert!(transcript.path().is_some_and(Path::exists));
    }

    #[test]
    fn what_cannot_be_written_is_said_once_and_stops_nothing() {
        let place = tempfile::tempdir().unwrap();
        let in_the_way = place.path().join("log");
        fs::write(&in_the_way, "").unwrap();
        let mut transcript = Transcript::create(&in_the_way, of(Some("prod")));
        rehearsal::play(&rehearsal::done(), &mut transcript);
        assert_eq!(transcript.path(), None);
        let complaint = transcript.complaint().unwrap();
        assert!(complaint.ends_with("The run goes on without it."), "{complaint}");
        assert_eq!(transcript.complaint(), None);

        let mut full = Transcript::create(place.path(), of(Some("prod")));
        full.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        rehearsal::play(&rehearsal::done(), &mut full);
        assert!(full.complaint().unwrap().contains("No space left"));
        assert_eq!(full.complaint(), None);
    }
}
