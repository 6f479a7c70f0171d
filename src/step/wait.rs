//! `wait`: asks the host again and again until something answers, or the time is up.

use std::time::Duration;

use super::link::wrong;
use super::{Action, Context, Judge, Poll, Sample, Task, Verdict, compose};
use crate::command::{Command, quote};
use crate::document::{Node, Problems, Reader, Value};

/// One line for the documentation.
pub const SUMMARY: &str =
    "waits until an http, tcp or unix address, a command or a log line answers, asked from the host itself";
/// An example in TOML.
pub const EXAMPLE: &str = r#"wait = { http = "http://127.0.0.1:8000/health", status = 200, timeout = "30s" }"#;

/// How long to wait when the recipe does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between questions when the recipe does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);

/// How long one question may take, in seconds.
const ONE_QUESTION: u64 = 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// An HTTP or HTTPS URL answers with one of these codes.
    Http {
        /// The URL.
        url: String,
        /// The accepted status codes.
        status: Vec<u16>,
        /// The unix socket to ask through, instead of TCP.
        socket: Option<String>,
        /// The `Host` header, where it differs from the URL's.
        host: Option<String>,
    },
    /// `host:port` accepts a connection.
    Tcp(String),
    /// A unix socket accepts a connection.
    Unix(String),
    /// A shell command ends with status 0.
    Command(String),
    /// A line that matches a POSIX extended regular expression stands in a file or in a unit's journal.
    Log {
        /// The pattern.
        pattern: String,
        /// Where it is looked for.
        source: LogSource,
    },
}

/// Where a log line is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// A file; a relative path is relative to the release.
    File(String),
    /// The journal of a unit, since it was started last.
    Unit(String),
    /// The log of a service of Compose, since its containers were started.
    Service {
        /// The service.
        service: String,
        /// The project; empty for the name of the folder that is deployed to.
        project: String,
        /// Whether Docker is called through sudo.
        sudo: bool,
    },
}

/// A rendered `wait` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is asked.
    pub question: Question,
    /// How long until a missing answer is a failure.
    pub timeout: Duration,
    /// The pause between questions.
    pub interval: Duration,
}

impl Wait {
    /// Reads the body: exactly one of `http`, `tcp`, `unix`, `command`, `log`.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`wait`", body, problems)?;
        let http = reader.string("http");
        let tcp = reader.string("tcp");
        let unix = reader.string("unix");
        let command = reader.string("command");
        let log = reader.string("log");
        let status =
            reader.typed("status", "expected an HTTP status code, or an array of one or more", |value| match value {
                Value::Integer(code) => code_of(*code).map(|code| vec![code]),
                Value::Array(items) if !items.is_empty() => items
                    .iter()
                    .map(|item| match item.value {
                        Value::Integer(code) => code_of(code),
                        _ => None,
                    })
                    .collect(),
                _ => None,
            });
        let (socket, host) = (reader.string("socket"), reader.string("host"));
        let (file, unit) = (reader.string("file"), reader.string("unit"));
        let (service, project) = (reader.string("service"), reader.string("project"));
        let sudo = reader.typed("sudo", "expected true or false", compose::boolean);
        let timeout = reader.duration("timeout").unwrap_or(DEFAULT_TIMEOUT);
        let interval = reader.duration("interval").unwrap_or(DEFAULT_INTERVAL);
        reader.finish();
        let mut questions = Vec::new();
        if let Some(url) = http {
            if !url.contains("{{") && !url.starts_with("http://") && !url.starts_with("https://") {
                problems.push(wrong(&body.place, format!("{url:?} is no http:// or https:// URL")));
            }
            questions.push(Question::Http { url, status: status.unwrap_or_else(|| vec![200]), socket, host });
        }
        questions.extend(tcp.map(Question::Tcp));
        questions.extend(unix.map(Question::Unix));
        questions.extend(command.map(Question::Command));
        if let Some(pattern) = log {
            let service = service.map(|service| LogSource::Service {
                service,
                project: project.unwrap_or_default(),
                sudo: sudo.unwrap_or_default(),
            });
            let sources = [file.map(LogSource::File), unit.map(LogSource::Unit), service];
            let mut sources = sources.into_iter().flatten();
            match (sources.next(), sources.next()) {
                (Some(source), None) => questions.push(Question::Log { pattern, source }),
                _ => problems.push(wrong(
                    &body.place,
                    "`wait` for a log line needs exactly one of `file`, `unit`, `service`".to_owned(),
                )),
            }
        }
        if problems.len() > before {
            return None;
        }
        let mut questions = questions.into_iter();
        match (questions.next(), questions.next()) {
            (Some(question), None) => Some(Self { question, timeout, interval }),
            _ => {
                problems.push(wrong(
                    &body.place,
                    "`wait` needs exactly one of `http`, `tcp`, `unix`, `command`, `log`".to_owned(),
                ));
                None
            }
        }
    }

    /// The name of a step whose author gave it none.
    pub fn title(&self) -> String {
        match &self.question {
            Question::Http { url, .. } => format!("Wait for {url}"),
            Question::Tcp(address) => format!("Wait for {address}"),
            Question::Unix(path) => format!("Wait for {path}"),
            Question::Command(command) => format!("Wait for {command}"),
            Question::Log { pattern, .. } => format!("Wait for the log line {pattern}"),
        }
    }

    /// The programs that the host may need. curl or bash asks; facts decide which.
    pub fn programs(&self) -> Vec<String> {
        let programs: &[&str] = match &self.question {
            Question::Http { .. } | Question::Tcp(_) | Question::Unix(_) => &["curl", "bash"],
            Question::Log { source: LogSource::Unit(_), .. } => &["journalctl", "systemctl"],
            Question::Log { source: LogSource::Service { sudo: false, .. }, .. } => &["docker"],
            Question::Log { source: LogSource::Service { .. }, .. } => &["docker", "sudo"],
            _ => &[],
        };
        programs.iter().map(|program| (*program).to_owned()).collect()
    }

    /// One question, asked until it is answered.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        if let Question::Log { pattern, source: LogSource::Service { service, project, sudo } } = &self.question {
            let ready = compose::Ready {
                docker: compose::docker_of(project, *sudo, context)?,
                name: context.name.to_owned(),
                service: service.clone(),
                pattern: pattern.clone(),
                within: self.timeout,
                interval: self.interval,
            };
            return Ok(vec![ready.task()?]);
        }
        let (probe, judge) = self.probe(context)?;
        let poll = Poll {
            probe: probe.timeout(Duration::from_secs(ONE_QUESTION + 5)),
            judge,
            interval: self.interval,
            within: self.timeout,
        };
        let mut task = context.task(Action::Poll(poll));
        task.attempts = 1;
        Ok(vec![task])
    }

    fn probe(&self, context: &Context<'_>) -> Result<(Command, Judge), String> {
        let curl = context.facts.program("curl");
        let limit = ONE_QUESTION.to_string();
        let missing = |what: &str| format!("the step \"{}\" needs {what} on the host", context.name);
        Ok(match &self.question {
            Question::Http { url, status, socket, host } => {
                let command = if let Some(curl) = curl {
                    let mut argv = vec![curl, "--silent", "--show-error", "--max-time", &limit];
                    if let Some(socket) = socket {
                        argv.extend(["--unix-socket", socket]);
                    }
                    let header = host.as_ref().map(|host| format!("Host: {host}"));
                    if let Some(header) = &header {
                        argv.extend(["--header", header]);
                    }
                    argv.extend(["--output", "/dev/null", "--write-out", "%{http_code}", "--", url]);
                    Command::argv(argv)
                } else {
                    let address = plain_http(url).filter(|_| socket.is_none());
                    match (context.facts.program("bash"), address) {
                        (Some(bash), Some((name, port, path))) => {
                            let host = host.as_deref().unwrap_or(&name);
                            Command::argv([bash, "-c", HTTP_BY_BASH, "wait", &name, &port, &path, host])
                        }
                        (None, Some(_)) => return Err(missing("`curl` or `bash`")),
                        (_, None) => return Err(missing("`curl`")),
                    }
                };
                (command, Judge::HttpStatus(status.clone()))
            }
            Question::Tcp(address) => {
                let (host, port) = address
                    .rsplit_once(':')
                    .ok_or_else(|| format!("{address:?} is no address: expected `host:port`"))?;
                let command = match (context.facts.program("bash"), curl) {
                    (Some(bash), _) => Command::argv([bash, "-c", "exec 3<>\"/dev/tcp/$1/$2\"", "wait", host, port]),
                    // curl ends with 28 (time-out) on a connection that is open and silent.
                    (None, Some(curl)) => Command::shell(format!(
                        "{} --silent --max-time 1 {} </dev/null >/dev/null; [ $? = 0 ] || [ $? = 28 ]",
                        quote(curl),
                        quote(&format!("telnet://{address}"))
                    )),
                    (None, None) => return Err(missing("`bash` or `curl`")),
                };
                (command, Judge::Success)
            }
            Question::Unix(path) => {
                let curl = curl.ok_or_else(|| missing("`curl`"))?;
                // 7 is "could not connect" (curl(1), EXIT CODES); any other end means that somebody accepted.
                let ask = format!(
                    "{} --silent --max-time 1 --unix-socket {} --output /dev/null http://localhost/; [ $? != 7 ]",
                    quote(curl),
                    quote(path)
                );
                (Command::shell(ask), Judge::Success)
            }
            Question::Command(command) => (context.bound(Command::shell(command.clone())), Judge::Success),
            Question::Log { pattern, source } => {
                let text = match source {
                    LogSource::File(file) => format!("grep -qE -e {} -- {}", quote(pattern), quote(file)),
                    LogSource::Unit(unit) => format!(
                        "journalctl --no-pager --quiet --output cat --unit {u} \"_SYSTEMD_INVOCATION_ID=$(systemctl show --property=InvocationID --value -- {u})\" | grep -qE -e {}",
                        quote(pattern),
                        u = quote(unit)
                    ),
                    LogSource::Service { .. } => return Err(missing("a question to Docker")),
                };
                (Command::shell(text).directory(context.directory), Judge::Success)
            }
        })
    }
}

fn code_of(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|code| (100..600).contains(code))
}

/// Asks for `$1:$2$3` with the Host header `$4` and prints the status code, in bash alone.
const HTTP_BY_BASH: &str = "exec 3<>\"/dev/tcp/$1/$2\" || exit 7; printf 'GET %s HTTP/1.0\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' \"$3\" \"$4\" >&3; read -r -t 10 version code rest <&3 && printf %s \"$code\"";

/// Host, port and path of a plain `http://` URL.
fn plain_http(url: &str) -> Option<(String, String, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, "80"),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port.to_owned(), path.to_owned()))
}

/// Whether the last answer is one of the wanted codes. Another code may still change while an application
/// starts, so only time decides that it is wrong.
pub fn judge_http(wanted: &[u16], last: &Sample) -> Verdict {
    let answered = last.output.trim();
    match answered.parse::<u16>() {
        Ok(code) if wanted.contains(&code) => Verdict::Done,
        Ok(0) | Err(_) => Verdict::Again("nobody answered".to_owned()),
        Ok(code) => {
            let wanted: Vec<String> = wanted.iter().map(u16::to_string).collect();
            Verdict::Again(format!("it answered {code} in place of {}", wanted.join(" or ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_code_or_some() {
        let read = |status: &str| {
            let text = format!("http = \"http://localhost\"\nstatus = {status}\n");
            let body = crate::document::parse(std::path::Path::new("a.toml"), text).expect("TOML");
            let mut problems = Vec::new();
            match Wait::read(&body, &mut problems)?.question {
                Question::Http { status, .. } if problems.is_empty() => Some(status),
                _ => None,
            }
        };
        assert_eq!((read("204"), read("[200, 204]")), (Some(vec![204]), Some(vec![200, 204])));
        assert_eq!([read("[]"), read("[20]"), read("\"200\"")], [None, None, None]);
    }

    #[test]
    fn only_a_wanted_code_is_an_answer() {
        let answer = |output: &str| {
            judge_http(&[200, 204], &Sample { elapsed: Duration::ZERO, success: true, output: output.to_owned() })
        };
        assert_eq!(answer("200"), Verdict::Done);
        assert_eq!(answer("000"), Verdict::Again("nobody answered".to_owned()));
        assert_eq!(answer("502"), Verdict::Again("it answered 502 in place of 200 or 204".to_owned()));
    }

    #[test]
    fn the_host_itself_can_tell_a_wanted_code() {
        for (printed, status) in [("200", 0), ("204", 0), ("404", 1), ("000", 1), ("", 1), ("200 204", 1), ("*", 1)] {
            let poll = Poll {
                probe: Command::shell(format!("printf '%s' '{printed}'")),
                judge: Judge::HttpStatus(vec![200, 204]),
                interval: Duration::ZERO,
                within: Duration::ZERO,
            };
            let shell = poll.decisive().unwrap().to_shell();
            let output = std::process::Command::new("/bin/sh").args(["-c", &shell]).output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{shell}");
            let output = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output, printed);
            let sample = Sample { elapsed: Duration::ZERO, success: status == 0, output };
            assert_eq!(poll.judge.verdict(&[sample]) == Verdict::Done, status == 0, "{printed}");
        }
    }

    #[test]
    fn plain_urls_are_taken_apart() {
        let parts = |url| plain_http(url).map(|(a, b, c)| format!("{a} {b} {c}"));
        assert_eq!(parts("http://127.0.0.1:8000/api/?x=1").as_deref(), Some("127.0.0.1 8000 /api/?x=1"));
        assert_eq!(parts("http://[::1]:80").as_deref(), Some("::1 80 /"));
        assert_eq!(parts("http://localhost").as_deref(), Some("localhost 80 /"));
        assert_eq!(parts("https://localhost"), None);
    }
}
