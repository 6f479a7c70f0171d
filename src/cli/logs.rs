//! `ship logs`: what the recipe's services log on all chosen hosts, merged as it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::args::{Global, LogsArgs};
use super::look::Look;
use super::machine::Machine;
use super::project::{Project, definitions};
use super::services::{self, Place};
use crate::config::selection::Host;
use crate::error::{Error, Kind};
use crate::event::Stream;
use crate::fleet::{Answer, Member, ask, each};
use crate::output::visible;
use crate::plan::services::{Entry, Excerpt, Since, leashed};
use crate::plan::stack::OVERLAP;
use crate::report;
use crate::secret::Masker;
use crate::session::{Reply, Status};

/// How many lines are shown where nothing else is said.
const LINES: u32 = 100;

/// How long a host may take to end what it was told to end.
const ENDING: Duration = Duration::from_secs(3);

/// The pause before logs are looked at again, where they cannot be followed.
const AGAIN: Duration = Duration::from_secs(1);

/// The most bytes of one line that are kept.
const LONGEST: usize = 1024 * 1024;

/// `ship logs`. A host that is lost is named, and the others go on.
pub async fn run(global: &Global, machine: &Machine, args: &LogsArgs) -> Result<(), Error> {
    let (inventory, _) = definitions(global, machine)?;
    let (select, names) = services::words(&inventory, &args.select, &args.names);
    let since = args.since.as_deref().map(since).transpose()?;
    let lines = args.lines.or_else(|| since.is_none().then_some(LINES));
    let excerpt = Excerpt { lines, since, follow: args.follow };
    let sudo = |project: &Project, host: &Host| args.sudo || services::need_sudo(project, host);
    let mut look = Look::connect_for(global, machine, &select, sudo).await?;
    for refused in &look.refused {
        report::print_stderr(&format!("{}: {}\n", refused.host, refused.why));
    }
    let places = services::places(&mut look, &names).await?;
    let width = look.members.iter().map(|member| member.name.len()).max().unwrap_or(0);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(interrupted(stop.clone()));
    let (lines, printing) = mpsc::channel(64);
    let printer = tokio::spawn(print(printing, look.masker.clone(), stop.clone(), width));
    let results = each(&look.members, |index, member| {
        let place = places.get(index).cloned().unwrap_or_default();
        let (lines, stop, sudo) = (lines.clone(), stop.clone(), args.sudo);
        async move { show(&member, &place, excerpt, sudo, &lines, &stop).await }
    })
    .await;
    drop(lines);
    let _ = printer.await;
    watching.abort();
    let failed: Vec<String> = look
        .members
        .iter()
        .zip(results)
        .filter_map(|(member, result)| result.err().map(|why| format!("{}: {why}", member.name)))
        .collect();
    look.end("").await?;
    if failed.is_empty() { Ok(()) } else { Err(Error::new(Kind::Failed, failed.join("\n"))) }
}

/// `2h`, `30m`, or a moment such as `2026-11-21T10:00:00Z`.
fn since(text: &str) -> Result<Since, Error> {
    if let Some(ago) = crate::document::duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse::<jiff::Timestamp>().map(|at| Since::At(at.as_second())).map_err(|_| {
        Error::usage(format!("--since {text:?} is no time"))
            .hint("a length of time such as 2h or 30m, or a moment such as 2026-11-21T10:00:00Z")
    })
}

/// Ends the following when a person or the system wants it.
async fn interrupted(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stop.cancel();
}

/// What a host has to say.
enum Said {
    Log(Entry),
    /// Beside the log: on standard error.
    Beside(String),
}

/// Prints what comes, in the order in which it comes. A reader that went away ends everything.
async fn print(mut said: mpsc::Receiver<(String, Said)>, masker: Masker, stop: CancellationToken, width: usize) {
    while let Some((host, said)) = said.recv().await {
        let entry = match said {
            Said::Log(entry) => entry,
            Said::Beside(text) => {
                report::print_stderr(&masker.mask(&format!("{host}: {text}\n")));
                continue;
            }
        };
        let text = lines_of(&host, width, &entry);
        if report::print_stdout(&masker.mask(&text)).is_err() {
            stop.cancel();
        }
    }
}

/// An entry as lines, each with its host and service in front.
fn lines_of(host: &str, width: usize, entry: &Entry) -> String {
    let time = entry.seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = time.map(|time| format!("{time} ")).unwrap_or_default();
    let service = visible(entry.service.as_bytes());
    let mut text = String::new();
    for line in entry.message.split(|byte| *byte == b'\n') {
        let line = visible(line.strip_suffix(b"\r").unwrap_or(line));
        text.push_str(&format!("{host:width$} {service} | {time}{line}\n"));
    }
    text
}

/// Shows the logs of one host, until they end or it is told to stop.
async fn show(
    member: &Member,
    place: &Place,
    excerpt: Excerpt,
    sudo: bool,
    said: &mpsc::Sender<(String, Said)>,
    stop: &CancellationToken,
) -> Result<(), String> {
    if place.is_empty() {
        return Ok(());
    }
    if excerpt.follow && place.stack.is_some() && place.is_roots(sudo) {
        return look_again(member, place, excerpt, said, stop).await;
    }
    let wanted = place.logs(excerpt, sudo);
    let wanted = if place.is_roots(sudo) { wanted } else { leashed(&wanted) };
    if let Some((question, hint)) = place.may_read(sudo) {
        let answers = ask(member.session.as_ref(), vec![question]).await.map_err(|lost| lost.to_string())?;
        if !answers.iter().all(Answer::success) {
            let _ = said.send((member.name.clone(), Said::Beside(hint.to_owned()))).await;
        }
    }
    let (leash, body) = mpsc::channel(1);
    let mut leash = Some(leash);
    let mut replies = member.session.feed(vec![wanted], body);
    let mut partial: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut last = String::new();
    let mut deadline = None;
    loop {
        let reply = tokio::select! {
            reply = replies.recv() => reply,
            () = stop.cancelled(), if leash.is_some() => {
                // The end of its input is the end of the command.
                leash = None;
                deadline = Some(tokio::time::Instant::now() + ENDING);
                continue;
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => None,
        };
        match reply {
            Some(Reply::Output { stream, bytes, .. }) => {
                let [stdout, stderr] = &mut partial;
                let buffer = if stream == Stream::Stdout { stdout } else { stderr };
                for line in whole_lines(buffer, &bytes) {
                    let news = match stream {
                        Stream::Stdout => Said::Log(place.entry(&line).0),
                        // The shell may say that it ended what it was told to end.
                        Stream::Stderr if deadline.is_some() => continue,
                        Stream::Stderr => {
                            last = visible(&line);
                            Said::Beside(last.clone())
                        }
                    };
                    let _ = said.send((member.name.clone(), news)).await;
                }
            }
            Some(Reply::Ended { status, .. }) => {
                return match status {
                    Status::Exited(0) => Ok(()),
                    _ if deadline.is_some() => Ok(()),
                    Status::Exited(status) => Err(format!("its logs ended with status {status}: {last}")),
                    other => Err(format!("its logs ended: {other:?}")),
                };
            }
            Some(Reply::Lost(_)) | None if deadline.is_some() => return Ok(()),
            Some(Reply::Lost(lost)) => {
                let text = lost.to_string();
                let _ = said.send((member.name.clone(), Said::Beside(text.clone()))).await;
                return Err(text);
            }
            Some(Reply::Started { .. } | Reply::Sent { .. }) => {}
            None => return Ok(()),
        }
    }
}

/// Follows logs that only root may read by looking again and again: what follows them would go on when nobody
/// listens any more, and root's processes cannot be ended.
async fn look_again(
    member: &Member,
    place: &Place,
    excerpt: Excerpt,
    said: &mpsc::Sender<(String, Said)>,
    stop: &CancellationToken,
) -> Result<(), String> {
    let began = tokio::time::Instant::now();
    let mut excerpt = Excerpt { follow: false, ..excerpt };
    // The time of the last line of each container, in the form of its lines, which sorts as it is.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut latest = None;
    loop {
        let asked = tokio::select! {
            asked = ask(member.session.as_ref(), vec![place.logs(excerpt, false)]) => asked,
            () = stop.cancelled() => return Ok(()),
        };
        let answer = match asked {
            Ok(answers) => answers.into_iter().next().unwrap_or_default(),
            Err(lost) => {
                let _ = said.send((member.name.clone(), Said::Beside(lost.to_string()))).await;
                return Err(lost.to_string());
            }
        };
        if !answer.success() {
            return Err(format!("its logs cannot be read: {}", answer.last_line()));
        }
        for line in answer.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (entry, mark) = place.entry(line);
            if let Some((container, time)) = mark {
                if seen.get(&container).is_some_and(|last| *last >= time) {
                    continue;
                }
                seen.insert(container, time);
            }
            latest = latest.max(entry.seconds);
            let _ = said.send((member.name.clone(), Said::Log(entry))).await;
        }
        let overlap = i64::try_from(OVERLAP.as_secs()).unwrap_or(0);
        excerpt.since = Some(match latest {
            Some(seconds) => Since::At(seconds - overlap),
            None => Since::Ago(began.elapsed() + OVERLAP),
        });
        excerpt.lines = None;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// The lines that `bytes` complete. What is longer than [`LONGEST`] is cut.
fn whole_lines(buffer: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        let room = LONGEST.saturating_sub(buffer.len());
        buffer.extend(text.iter().take(room));
        if ends {
            lines.push(std::mem::take(buffer));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut buffer = Vec::new();
        assert_eq!(whole_lines(&mut buffer, b"a\nb"), [b"a"]);
        assert_eq!(whole_lines(&mut buffer, b"c\n\nd"), [b"bc".to_vec(), Vec::new()]);
        assert_eq!(buffer, b"d");
        assert_eq!(whole_lines(&mut buffer, &vec![b'x'; LONGEST + 9]).len(), 0);
        assert_eq!(whole_lines(&mut buffer, b"\n")[0].len(), LONGEST);
    }

    #[test]
    fn every_line_of_an_entry_has_its_host_and_shows_what_would_act() {
        let entry = Entry { service: "app".to_owned(), seconds: Some(0), message: b"one\n\x1b[2Jtwo\r".to_vec() };
        insta::assert_snapshot!(lines_of("web1", 5, &entry), @r"
        web1  app | 1970-01-01T00:00:00Z one
        web1  app | 1970-01-01T00:00:00Z \x1b[2Jtwo
        ");
    }

    #[test]
    fn a_time_is_a_length_or_a_moment() {
        assert_eq!(since("2h").ok(), Some(Since::Ago(Duration::from_secs(7200))));
        assert_eq!(since("1970-01-01T00:01:00Z").ok(), Some(Since::At(60)));
        assert!(since("yesterday").is_err());
    }
}
