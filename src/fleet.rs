//! All hosts at once: connecting, taking the lock everywhere or nowhere, looking.
//!
//! Results stay per host: a host that fails is a value, never a reason to forget the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::command::Command;
use crate::event::{Event, Sink, Stream, millis};
use crate::facts::images::{Engine, Images};
use crate::facts::{Facts, Survey};
use crate::layout::Layout;
use crate::lock::{self, Holder, Refusal};
use crate::output::visible;
use crate::secret::Secret;
use crate::session::{Connector, Lost, Reply, Session, Status};
use crate::target::Target;

pub mod found;

/// A host that answered.
#[derive(Clone)]
pub struct Member {
    /// Its name in the inventory.
    pub name: String,
    /// Where to reach it again.
    pub target: Target,
    /// Its paths.
    pub layout: Layout,
    /// The connection.
    pub session: Arc<dyn Session>,
}

/// Why a host cannot take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The host.
    pub host: String,
    /// Why, as a sentence without its full stop.
    pub why: String,
    /// What to do.
    pub advice: Option<String>,
}

/// What one command of a batch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Standard output, as it came.
    pub stdout: Vec<u8>,
    /// Standard error, as it came.
    pub stderr: Vec<u8>,
    /// How it ended; `None` where it was never started.
    pub status: Option<Status>,
}

impl Answer {
    /// Whether it ran and did what it should.
    pub fn success(&self) -> bool {
        self.status.as_ref().is_some_and(Status::success)
    }

    /// Keeps what it printed.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if kept.len() + bytes.len() <= LONGEST_ANSWER {
            kept.extend_from_slice(bytes);
        }
    }

    /// The last line that it printed, for messages.
    pub fn last_line(&self) -> String {
        let text = [&self.stdout[..], &self.stderr[..]].concat();
        text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).map(visible).unwrap_or_default()
    }
}

/// The most bytes that one answer keeps, so that a host cannot fill our memory. The largest honest answer is
/// the manifest of a very large release.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// Runs `batch` and collects what each command printed.
pub async fn ask(session: &dyn Session, batch: Vec<Command>) -> Result<Vec<Answer>, Lost> {
    let count = batch.len();
    collect(session.run(batch), count).await
}

/// What each of `count` commands printed.
async fn collect(mut replies: mpsc::Receiver<Reply>, count: usize) -> Result<Vec<Answer>, Lost> {
    let mut answers = vec![Answer::default(); count];
    while let Some(reply) = replies.recv().await {
        match reply {
            Reply::Output { index, stream, bytes } => {
                if let Some(answer) = answers.get_mut(index) {
                    answer.take(stream, &bytes);
                }
            }
            Reply::Ended { index, status } => {
                if let Some(answer) = answers.get_mut(index) {
                    answer.status = Some(status);
                }
            }
            Reply::Lost(lost) => return Err(lost),
            Reply::Started { .. } | Reply::Sent { .. } => {}
        }
    }
    Ok(answers)
}

/// Runs `command` with `input` as its standard input, and nothing else of it anywhere.
pub async fn give(session: &dyn Session, command: Command, input: &Secret) -> Result<Answer, Lost> {
    let chunks: Vec<_> = input.expose().as_bytes().chunks(INPUT_CHUNK).map(bytes::Bytes::copy_from_slice).collect();
    let (sender, body) = mpsc::channel(chunks.len().max(1));
    for chunk in chunks {
        // There is room for all of them, and the other end is still here.
        let _ = sender.try_send(Ok(chunk));
    }
    drop(sender);
    collect(session.feed(vec![command], body), 1).await.map(|answers| answers.into_iter().next().unwrap_or_default())
}

/// How much of the input of [`give`] is sent at once.
const INPUT_CHUNK: usize = 32 * 1024;

/// Runs `work` for every member at once and gives back the results in the order of the members.
pub async fn each<T, F, W>(members: &[Member], work: W) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
    W: Fn(usize, Member) -> F,
{
    let mut set = JoinSet::new();
    for (index, member) in members.iter().enumerate() {
        let future = work(index, member.clone());
        set.spawn(async move { (index, future.await) });
    }
    let mut results: Vec<(usize, T)> = Vec::with_capacity(members.len());
    while let Some(joined) = set.join_next().await {
        match joined {
            Ok(result) => results.push(result),
            // A panic in one host's task is a defect of ship; it must not be hidden as a host that said nothing.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Connects to every target at once. Those that cannot be reached are named, all together.
pub async fn connect(
    connector: &Arc<Connector>,
    targets: Vec<(Target, Layout)>,
    sink: &Sink,
) -> (Vec<Member>, Vec<Refused>) {
    let mut set = JoinSet::new();
    for (index, (target, layout)) in targets.into_iter().enumerate() {
        let (connector, sink) = (Arc::clone(connector), sink.clone());
        set.spawn(async move {
            let began = Instant::now();
            let connected = connector.connect(&target).await;
            let millis = millis(began.elapsed());
            match connected {
                Ok(connected) => {
                    let host = target.name.clone();
                    sink.emit(Event::HostConnected { host, address: connected.address, millis }).await;
                    (index, Ok(Member { name: target.name.clone(), target, layout, session: connected.session }))
                }
                Err(error) => (index, Err(Refused { host: target.name, why: error.message, advice: error.advice })),
            }
        });
    }
    let mut results = Vec::new();
    while let Some(joined) = set.join_next().await {
        match joined {
            Ok(result) => results.push(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    results.sort_by_key(|(index, _)| *index);
    let (mut members, mut refused) = (Vec::new(), Vec::new());
    for (_, result) in results {
        match result {
            Ok(member) => members.push(member),
            Err(refusal) => refused.push(refusal),
        }
    }
    (members, refused)
}

/// What a survey of one host asks for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Programs to look for.
    pub programs: Vec<String>,
    /// Shared files to look for.
    pub shared: Vec<String>,
    /// Files of the host to look for.
    pub files: Vec<String>,
    /// Shared settings files to look into for placeholders.
    pub settings: Vec<String>,
    /// Whether the live release's manifest is wanted, and the SHA-256 of those that this machine has.
    pub manifest: Option<Arc<[String]>>,
    /// Whether the files of releases are shared among them.
    pub read_only: bool,
}

impl Question {
    /// The commands, for a run that has `held` the deploy lock or has not.
    fn commands(&self, layout: &Layout, held: bool) -> Vec<Command> {
        let survey = Survey {
            layout,
            programs: &self.programs,
            shared: &self.shared,
            files: &self.files,
            settings: &self.settings,
            manifest: self.manifest.as_deref(),
            held,
            read_only: self.read_only,
        };
        survey.commands()
    }
}

/// Looks at every host without changing anything.
pub async fn look(members: &[Member], questions: &[Question]) -> (Vec<Facts>, Vec<Refused>) {
    let (found, refused) = look_beside(members, questions, &[]).await;
    (found.into_iter().map(|(facts, _)| facts).collect(), refused)
}

/// Looks at every host and runs what `beside` has for it in the same round trip. Those commands may fail.
pub async fn look_beside(
    members: &[Member],
    questions: &[Question],
    beside: &[Vec<Command>],
) -> (Vec<(Facts, Vec<Answer>)>, Vec<Refused>) {
    let results = each(members, |index, member| {
        let survey = questions.get(index).cloned().unwrap_or_default().commands(&member.layout, false);
        let beside = beside.get(index).cloned().unwrap_or_default();
        async move {
            let asked = survey.len();
            let batch = survey.into_iter().chain(beside.into_iter().map(Command::tolerated)).collect();
            let mut answers = ask(member.session.as_ref(), batch).await.map_err(|error| lost(&member, &error))?;
            let others = answers.split_off(asked.min(answers.len()));
            facts_of(&member, Ok(answers)).map(|facts| (facts, others))
        }
    })
    .await;
    split(results)
}

/// Asks the Docker of every host that has an entry in `engines` which images it has. `None` where it does not answer.
pub async fn images(members: &[Member], engines: &[Option<Engine>]) -> Vec<Result<Option<Images>, Refused>> {
    each(members, |index, member| {
        let engine = engines.get(index).cloned().flatten();
        async move {
            let Some(engine) = engine else { return Ok(None) };
            let asked =
                |batch| async { ask(member.session.as_ref(), batch).await.map_err(|error| lost(&member, &error)) };
            let answers = asked(engine.questions()).await?;
            if !answers.iter().all(Answer::success) {
                return Ok(None);
            }
            let outputs: Vec<Vec<u8>> = answers.into_iter().map(|answer| answer.stdout).collect();
            let (mut images, ids) = Images::parse(&outputs);
            if !ids.is_empty() {
                let answers = asked(vec![engine.layers(ids.iter().map(String::as_str))]).await?;
                answers.iter().for_each(|answer| images.take_layers(&answer.stdout));
            }
            Ok(Some(images))
        }
    })
    .await
}

/// Takes the lock on every host, or on none, and looks in the same round trip.
///
/// The first host by name decides between two runs that start together, so one of them always wins; the
/// others follow all at once. A held lock is asked for again until `patience` is over: a run that died leaves
/// it for as long as its last step takes.
pub async fn lock_and_look(
    members: &[Member],
    questions: &[Question],
    holder: &Holder,
    patience: Duration,
    sink: &Sink,
) -> (Vec<Facts>, Vec<Refused>) {
    let until = Instant::now() + patience;
    for (member, question) in members.iter().zip(questions) {
        // The guard, and the upload of whoever asks what is there already.
        member.session.warm(1 + usize::from(question.manifest.is_some()));
    }
    let first = members.iter().enumerate().min_by_key(|(_, member)| member.name.clone()).map(|(index, _)| index);
    let take = |index: usize, member: Member| {
        let question = questions.get(index).cloned().unwrap_or_default();
        let (holder, sink) = (holder.clone(), sink.clone());
        async move { lock_and_look_at(&member, &question, &holder, until, &sink).await }
    };
    let mut results: Vec<(usize, Result<Facts, Refused>)> = Vec::new();
    if let Some((index, member)) = first.and_then(|index| members.get(index).map(|member| (index, member))) {
        let result = take(index, member.clone()).await;
        let refused = result.is_err();
        results.push((index, result));
        if refused {
            return split(results.into_iter().map(|(_, result)| result).collect());
        }
    }
    let rest: Vec<(usize, Member)> =
        members.iter().cloned().enumerate().filter(|(index, _)| Some(*index) != first).collect();
    let others: Vec<Member> = rest.iter().map(|(_, member)| member.clone()).collect();
    let indices: Vec<usize> = rest.iter().map(|(index, _)| *index).collect();
    let found = each(&others, |position, member| take(indices.get(position).copied().unwrap_or(0), member)).await;
    results.extend(indices.iter().copied().zip(found));
    results.sort_by_key(|(index, _)| *index);
    split(results.into_iter().map(|(_, result)| result).collect())
}

fn split<T>(results: Vec<Result<T, Refused>>) -> (Vec<T>, Vec<Refused>) {
    let (mut facts, mut refused) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(found) => facts.push(found),
            Err(refusal) => refused.push(refusal),
        }
    }
    (facts, refused)
}

fn lost(member: &Member, lost: &Lost) -> Refused {
    Refused { host: member.name.clone(), why: lost.to_string(), advice: None }
}

fn facts_of(member: &Member, answers: Result<Vec<Answer>, Lost>) -> Result<Facts, Refused> {
    let answers = answers.map_err(|error| lost(member, &error))?;
    match answers.iter().find(|answer| !answer.success()) {
        None => {
            let facts = Facts::parse(&answers.into_iter().map(|answer| answer.stdout).collect::<Vec<_>>());
            Ok(Facts { round_trip: member.session.usage().round_trip, ..facts })
        }
        Some(answer) => Err(Refused {
            host: member.name.clone(),
            why: format!("the survey failed: {}", answer.last_line()),
            advice: None,
        }),
    }
}

/// The pause before a held lock is asked for again.
const LOCK_INTERVAL: Duration = Duration::from_secs(1);

async fn lock_and_look_at(
    member: &Member,
    question: &Question,
    holder: &Holder,
    until: Instant,
    sink: &Sink,
) -> Result<Facts, Refused> {
    let acquire = lock::acquire(&member.layout, holder);
    let locking = acquire.len();
    let mut told = false;
    loop {
        let batch = acquire.iter().cloned().chain(question.commands(&member.layout, true)).collect();
        let mut answers = ask(member.session.as_ref(), batch).await.map_err(|error| lost(member, &error))?;
        let refused = answers.iter().take(locking).position(|answer| !answer.success());
        let Some(index) = refused else {
            // What must not be outlived by a vanished client is held from here on.
            member.session.guard().await.map_err(|error| lost(member, &error))?;
            return facts_of(member, Ok(answers.split_off(locking)));
        };
        let output = answers.get(index).map(Answer::last_line).unwrap_or_default();
        let root = member.layout.root();
        if Refusal::of(index) != Refusal::Held {
            return Err(Refused {
                host: member.name.clone(),
                why: format!("ship's folders under {root} cannot be made or written: {output}"),
                advice: Some(format!("as root, once, for the login user: install -d -o USER {root}")),
            });
        }
        // flock(1) ends with 1 where somebody else holds the lock; any other status is a trouble of its own.
        if answers.get(index).and_then(|answer| answer.status.clone()) != Some(Status::Exited(1)) {
            return Err(Refused {
                host: member.name.clone(),
                why: format!("the deploy lock cannot be taken with flock(1): {output}"),
                advice: Some("install util-linux (or BusyBox with this applet)".to_owned()),
            });
        }
        let who = ask(member.session.as_ref(), vec![lock::holder(&member.layout)]).await;
        let who = who.map_err(|error| lost(member, &error))?;
        let who = who.first().map(|answer| lock::parse(&visible(answer.stdout.trim_ascii_end()))).unwrap_or_default();
        if Instant::now() >= until {
            return Err(Refused {
                host: member.name.clone(),
                why: format!("the deploy lock is held by {who}"),
                advice: Some("it frees itself when that run ends; `--lock-wait 5m` waits for it".to_owned()),
            });
        }
        if !told {
            told = true;
            let text = format!("waiting for the deploy lock, held by {who}");
            sink.emit(Event::Notice { host: Some(member.name.clone()), text }).await;
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

/// Connects to a host again and takes the lock again, after its connection was lost.
pub async fn again(
    connector: &Connector,
    member: &Member,
    holder: &Holder,
    patience: Duration,
    sink: &Sink,
) -> Result<Arc<dyn Session>, Refused> {
    let connected = connector.connect(&member.target).await.map_err(|error| Refused {
        host: member.name.clone(),
        why: error.message,
        advice: error.advice,
    })?;
    let member = Member { session: connected.session, ..member.clone() };
    lock_and_look_at(&member, &Question::default(), holder, Instant::now() + patience, sink).await?;
    Ok(member.session)
}
