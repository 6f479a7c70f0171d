//! A `ship` that runs, and one that ran: what it said and how it ended.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No run of a test takes this long; one that does hangs.
pub const LONGEST: Duration = Duration::from_secs(90);

/// What was read so far, and how many of the streams have ended.
#[derive(Default)]
struct Said {
    streams: [Vec<u8>; 2],
    ended: usize,
}

/// A `ship` that runs.
pub struct Running {
    line: String,
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Running {
    /// Starts `command`.
    pub fn start(mut command: Command) -> Self {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        for (index, mut stream) in [out, err].into_iter().enumerate() {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let (said, news) = &*said;
                let mut buffer = [0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    said.lock().unwrap().streams[index].extend_from_slice(&buffer[..count]);
                    news.notify_all();
                }
                said.lock().unwrap().ended += 1;
                news.notify_all();
            });
        }
        Self { line: format!("ship {}", words.join(" ")), child, said }
    }

    /// Returns once it has said `text`.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        self.until(|said| said.streams.iter().any(|stream| String::from_utf8_lossy(stream).contains(text)), text);
    }

    /// Whether it has said `text` so far.
    pub fn has_said(&self, text: &str) -> bool {
        let said = self.said.0.lock().unwrap();
        said.streams.iter().any(|stream| String::from_utf8_lossy(stream).contains(text))
    }

    /// Returns true once it has told `lines` lines on its standard output, false where it ends before.
    pub fn tells(&mut self, lines: usize) -> bool {
        let (said, news) = &*self.said;
        let mut said = said.lock().unwrap();
        loop {
            if said.streams[0].iter().filter(|byte| **byte == b'\n').count() >= lines {
                return true;
            }
            if said.ended == 2 {
                return false;
            }
            said = news.wait_timeout(said, LONGEST).unwrap().0;
        }
    }

    /// Sends it a signal, by the name that kill(1) knows.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).stderr(Stdio::null()).status();
        // It may have ended by itself, and nobody has waited for it yet.
        assert!(kill.unwrap().success(), "no process {id}");
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would: it gets no chance to clean up.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns once it has ended.
    #[track_caller]
    pub fn ends(mut self) -> Ran {
        self.until(|said| said.ended == 2, "anything more, and does not end");
        let code = self.child.wait().unwrap().code();
        let said = self.said.0.lock().unwrap();
        let [stdout, stderr] = said.streams.each_ref().map(|stream| String::from_utf8_lossy(stream).into_owned());
        Ran { line: self.line.clone(), code, stdout, stderr }
    }

    #[track_caller]
    fn until(&mut self, done: impl Fn(&Said) -> bool, what: &str) {
        let (said, news) = &*self.said;
        let deadline = Instant::now() + LONGEST;
        let mut said = said.lock().unwrap();
        while !done(&said) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || said.ended == 2 {
                let [out, err] = said.streams.each_ref().map(|stream| String::from_utf8_lossy(stream).into_owned());
                drop(said);
                panic!("{} does not say {what}\n{out}\n{err}", self.line);
            }
            said = news.wait_timeout(said, left).unwrap().0;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `ship` that ran.
#[derive(Debug)]
pub struct Ran {
    line: String,
    code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// It ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It said `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.said(text), "it does not say {text:?}: {self}");
        self
    }

    /// It did not say `text`.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        assert!(!self.said(text), "it says {text:?}: {self}");
        self
    }

    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    fn said(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }

    /// The events of a run with `--output json`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self}"))).collect()
    }

    /// How many bytes the release took to send to `host`, in a run with `--output json`.
    #[track_caller]
    pub fn uploaded(&self, host: &str) -> u64 {
        let events = self.events();
        let mut sent = events.iter().filter(|event| event["event"] == "task_progress" && event["host"] == host);
        sent.next_back().and_then(|event| event["sent"].as_u64()).unwrap_or_else(|| panic!("nothing was sent: {self}"))
    }

    /// The channels and round trips that `host` took, in a run with `--timing --output json`.
    #[track_caller]
    pub fn cost(&self, host: &str) -> (u64, u64) {
        let events = self.events();
        let mut notices = events.iter().filter(|event| event["event"] == "notice" && event["host"] == host);
        let text = notices.find_map(|event| event["text"].as_str().filter(|text| text.contains(" channels, ")));
        let text = text.unwrap_or_else(|| panic!("no costs of {host}: {self}"));
        let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nexit code {:?}\n{}\n{}", self.line, self.code, self.stdout, self.stderr)
    }
}
