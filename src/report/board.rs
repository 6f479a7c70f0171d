//! The live lines of the terminal: what each host does at this moment, as far as the screen has room.

use std::collections::VecDeque;

use super::paint::{Paint, Sign, Tone};
use super::text;
use crate::event::TaskRef;

/// What each host does.
#[derive(Debug, Default)]
pub struct Board {
    seats: Vec<Seat>,
}

/// A host.
#[derive(Debug)]
struct Seat {
    host: String,
    /// Whether the phase that goes on is about this host.
    in_phase: bool,
    failed: bool,
    /// What it does, the newest last. A number is missing for what is no task: connecting.
    work: Vec<Work>,
}

#[derive(Debug)]
struct Work {
    task: Option<u32>,
    name: String,
    since: u64,
    sent: u64,
    total: u64,
    /// When how much was sent, over the last seconds: what the rate is made of.
    samples: VecDeque<(u64, u64)>,
}

/// What a host does that is not connected yet, and no task.
pub const LOG_IN: &str = "Log in";
/// The time that a rate is the mean of.
const RATE_OVER: u64 = 5_000;
/// Columns for a time.
pub const TIME: usize = 8;
/// The widest a line is: beyond, eyes lose the way from a name to its time.
pub const WIDEST: usize = 100;

/// How lines are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Columns of a line.
    pub width: usize,
    /// Rows that the live lines may take.
    pub rows: usize,
    /// Columns of the name before each line.
    pub lead: usize,
}

impl Board {
    /// The hosts of a run.
    pub fn start(&mut self, hosts: &[String]) {
        self.seats = hosts.iter().map(|host| Seat::new(host)).collect();
    }

    /// Nothing goes on any more.
    pub fn clear(&mut self) {
        self.seats.clear();
    }

    /// A phase begins on `hosts`; whoever is still not connected is not waited for any more.
    pub fn phase(&mut self, hosts: &[String]) {
        for host in hosts {
            self.seat(host);
        }
        for seat in &mut self.seats {
            seat.work.retain(|work| work.task.is_some());
            seat.in_phase = hosts.contains(&seat.host);
            // It takes part again: as when it is put back.
            seat.failed &= !seat.in_phase;
        }
    }

    /// Each host of the phase is being connected to, from `now`.
    pub fn connecting(&mut self, now: u64) {
        for seat in self.seats.iter_mut().filter(|seat| seat.in_phase) {
            seat.work.push(Work::new(None, LOG_IN, now));
        }
    }

    /// `host` is connected.
    pub fn connected(&mut self, host: &str) {
        if let Some(seat) = self.seat(host) {
            seat.work.retain(|work| work.task.is_some());
        }
    }

    /// A task begins.
    pub fn started(&mut self, task: &TaskRef, name: &str, now: u64) {
        if let Some(seat) = self.seat(&task.host) {
            seat.work.push(Work::new(Some(task.task), name, now));
        }
    }

    /// A task sent bytes.
    pub fn progress(&mut self, task: &TaskRef, sent: u64, total: u64, now: u64) {
        let work =
            self.seat(&task.host).and_then(|seat| seat.work.iter_mut().find(|work| work.task == Some(task.task)));
        if let Some(work) = work {
            work.progress(sent, total, now);
        }
    }

    /// A task ended. Returns the bytes that it sent.
    pub fn finished(&mut self, task: &TaskRef, failed: bool) -> u64 {
        let Some(seat) = self.seat(&task.host) else { return 0 };
        let sent = seat.work.iter().find(|work| work.task == Some(task.task)).map_or(0, |work| work.sent);
        // A host that failed does nothing else either: it is not being connected to any more.
        seat.work.retain(|work| !failed && work.task != Some(task.task));
        seat.failed |= failed;
        sent
    }

    /// The seat of `host`, which is made where it is missing; so there always is one.
    fn seat(&mut self, host: &str) -> Option<&mut Seat> {
        let place = self.seats.iter().position(|seat| seat.host == host).unwrap_or(self.seats.len());
        if place == self.seats.len() {
            self.seats.push(Seat::new(host));
        }
        self.seats.get_mut(place)
    }

    /// The live lines at `now`.
    pub fn lines(&self, measure: Measure, now: u64, paint: Paint) -> Vec<String> {
        let here: Vec<&Seat> = self.seats.iter().filter(|seat| seat.in_phase || !seat.work.is_empty()).collect();
        if here.iter().all(|seat| seat.work.is_empty()) {
            return Vec::new();
        }
        let line = |seat: &&Seat| seat.line(measure, now, paint);
        if here.len() <= measure.rows {
            return here.iter().map(line).collect();
        }
        let room = measure.rows.saturating_sub(1);
        let busy = here.iter().filter(|seat| !seat.work.is_empty());
        let mut lines: Vec<String> = busy.clone().take(room).map(line).collect();
        let (at_work, failed) = (busy.count(), here.iter().filter(|seat| seat.failed).count());
        let mut counts = format!("{}: {at_work} at work", text::plural(here.len(), "host"));
        let waiting = here.iter().filter(|seat| !seat.failed && seat.work.is_empty()).count();
        for (count, word) in [(waiting, "waiting"), (failed, "failed")] {
            if count > 0 {
                counts.push_str(&format!(", {count} {word}"));
            }
        }
        lines.push(format!(
            "{} {}",
            paint.sign(Sign::Note),
            paint.tone(Tone::Dim, &paint.cut(&counts, measure.width - 2))
        ));
        lines
    }
}

impl Seat {
    fn new(host: &str) -> Self {
        Self { host: host.to_owned(), in_phase: false, failed: false, work: Vec::new() }
    }

    fn line(&self, measure: Measure, now: u64, paint: Paint) -> String {
        let host = text::left(&paint.cut(&text::line(&self.host), measure.lead), measure.lead);
        match self.work.last() {
            Some(work) => {
                let room = measure.width.saturating_sub(2 + measure.lead + 2);
                format!("{} {host}  {}", paint.spinner(now), work.line(room, now, paint))
            }
            None if self.failed => format!("{} {host}  {}", paint.sign(Sign::Failed), paint.tone(Tone::Bad, "failed")),
            None => format!(
                "{} {}",
                paint.sign(Sign::Note),
                paint.tone(Tone::Dim, &format!("{host}  waiting for the others"))
            ),
        }
    }
}

impl Work {
    fn new(task: Option<u32>, name: &str, since: u64) -> Self {
        Self { task, name: text::line(name), since, sent: 0, total: 0, samples: VecDeque::new() }
    }

    fn progress(&mut self, sent: u64, total: u64, now: u64) {
        (self.sent, self.total) = (sent, total);
        self.samples.push_back((now, sent));
        // The one sample before the window stays, so that there is always a span to measure.
        while self.samples.get(1).is_some_and(|(at, _)| at.saturating_add(RATE_OVER) <= now) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; `None` until it has been seen for half a second.
    fn rate(&self) -> Option<u64> {
        let ((from, before), (to, after)) = (self.samples.front()?, self.samples.back()?);
        let span = to.checked_sub(*from).filter(|span| *span >= 500)?;
        u64::try_from(u128::from(after.saturating_sub(*before)) * 1000 / u128::from(span)).ok()
    }

    fn line(&self, room: usize, now: u64, paint: Paint) -> String {
        let time = text::right(&text::growing(now.saturating_sub(self.since)), TIME);
        let room = room.saturating_sub(TIME + 1);
        let middle =
            if self.total == 0 { text::left(&paint.cut(&self.name, room), room) } else { self.upload(room, paint) };
        format!("{middle} {}", paint.tone(Tone::Dim, &time))
    }

    /// Name, bar, bytes, rate, time left: as much of it as there is room for.
    fn upload(&self, room: usize, paint: Paint) -> String {
        let sent = text::right(&text::bytes_of(self.sent, self.total), 14);
        let figures = match self.rate() {
            None => vec![sent],
            Some(rate) => {
                let left = text::left(&self.time_left(rate), 9);
                let rate = text::right(&format!("{}/s", text::bytes(rate)), 10);
                vec![format!("{sent}  {rate}  {left}"), format!("{sent}  {left}"), sent]
            }
        };
        let name = paint.cut(&self.name, room.min(24));
        let room = room.saturating_sub(text::width(&name));
        let figures = figures.into_iter().find(|figures| text::width(figures) < room).unwrap_or_default();
        let room = room.saturating_sub(text::width(&figures));
        // Two columns on either side of the bar.
        match room.saturating_sub(4).min(24) {
            width @ 6.. => {
                let bar = paint.bar(self.sent, self.total, width);
                format!("{name}  {bar}{}{figures}", " ".repeat(room.saturating_sub(2 + width)))
            }
            _ => format!("{name}{}{figures}", " ".repeat(room)),
        }
    }

    /// `8s left`, at `rate` bytes a second.
    fn time_left(&self, rate: u64) -> String {
        let millis = (u128::from(self.total.saturating_sub(self.sent)) * 1000).checked_div(u128::from(rate));
        let millis = millis.and_then(|millis| u64::try_from(millis).ok());
        millis.map(|millis| format!("{} left", text::rough_duration(millis))).unwrap_or("stalled".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    fn upload(room: usize, samples: &[(u64, u64)]) -> String {
        let mut work = Work::new(Some(1), "Upload", 0);
        samples.iter().for_each(|(at, sent)| work.progress(*sent, 31_200_000, *at));
        work.upload(room, Paint::new(&Style::default()))
    }

    #[test]
    fn an_upload_shows_what_there_is_room_for() {
        let samples = [(0, 0), (1_000, 7_800_000), (2_000, 15_600_000)];
        let shown: Vec<String> = [70, 48, 36, 22, 8].map(|room| upload(room, &samples)).into();
        assert_eq!(
            shown,
            [
                "Upload  ===========------------    15.6/31.2 MB    7.8 MB/s  2s left  ",
                "Upload       15.6/31.2 MB    7.8 MB/s  2s left  ",
                "Upload       15.6/31.2 MB  2s left  ",
                "Upload    15.6/31.2 MB",
                "Upload  ",
            ]
        );
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        assert!(!upload(70, &[(0, 0), (100, 5_000_000)]).contains("/s"), "too short a span to tell");
        assert!(upload(70, &[(0, 1), (5_000, 1), (10_000, 1)]).contains("stalled"));
        let slowed: Vec<(u64, u64)> =
            (0..=20).map(|second| (second * 1000, (second * 2_000_000).min(20_000_000))).collect();
        assert!(upload(70, &slowed).contains("0 B/s  stalled"), "{}", upload(70, &slowed));
    }
}
