//! The services of a recipe on a host: systemd units, or those of a Compose project. Which commands show their
//! logs, act on them and tell their state.
//!
//! Deliberately absent: running anything, and the clock.

use std::time::Duration;

use crate::command::Command;
use crate::step::systemd::Systemd;

/// How long a command may follow logs or wait for a person.
pub const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// From when on logs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This long ago, by the host's clock.
    Ago(Duration),
    /// Seconds of the Unix epoch.
    At(i64),
}

/// Which part of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// How many lines of each service, where that is limited.
    pub lines: Option<u32>,
    /// From when on.
    pub since: Option<Since>,
    /// Whether it goes on as lines are written.
    pub follow: bool,
}

/// What a unit is said to be that is not there.
pub const NO_UNIT: &str = "there is no such unit";

/// Chooses on each host those of the services that it has which `wanted` names, all where it names none. A unit
/// may be named without its `.service`. A name that no host has is an error, which says what there is.
pub fn choose(known: &[Vec<String>], wanted: &[String]) -> Result<Vec<Vec<String>>, String> {
    if known.iter().all(Vec::is_empty) {
        return Err("the recipe names no services for these hosts".to_owned());
    }
    let short = |name: &str| name.strip_suffix(".service").unwrap_or(name).to_owned();
    if let Some(name) = wanted.iter().find(|name| !known.iter().flatten().any(|known| short(known) == short(name))) {
        let mut all: Vec<&str> = known.iter().flatten().map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        return Err(format!("there is no service `{name}`; there is {}", all.join(", ")));
    }
    let is_wanted = |name: &&String| wanted.is_empty() || wanted.iter().any(|wanted| short(wanted) == short(name));
    Ok(known.iter().map(|of_host| of_host.iter().filter(is_wanted).cloned().collect()).collect())
}

/// The journal of `units`, one entry a line as JSON.
pub fn journal(units: &[String], excerpt: Excerpt) -> Command {
    let mut argv: Vec<String> =
        ["journalctl", "--no-pager", "--quiet", "--all", "--output=json"].map(str::to_owned).into();
    argv.push("--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT".to_owned());
    argv.extend(excerpt.lines.map(|lines| format!("--lines={lines}")));
    argv.extend(excerpt.since.map(|since| match since {
        Since::Ago(ago) => format!("--since=-{}s", ago.as_secs()),
        Since::At(seconds) => format!("--since=@{seconds}"),
    }));
    argv.extend(excerpt.follow.then(|| "--follow".to_owned()));
    argv.extend(units.iter().map(|unit| format!("--unit={unit}")));
    Command::argv(argv).timeout(LONG)
}

/// Whether the login may read the whole journal: status 0.
pub fn journal_is_readable() -> Command {
    Command::shell(
        "for f in /var/log/journal/*/system.journal /run/log/journal/*/system.journal; do [ -r \"$f\" ] && exit 0; done; exit 1",
    )
    .timeout(Duration::from_secs(20))
}

/// `command` with its end tied to its standard input: when that ends, because this machine wants so or is gone,
/// the command is told to end, with the whole group of its `timeout`, which cannot pass a signal on before it knows
/// of its child. Nobody may do that to root's processes, which see their output closed.
pub fn leashed(command: &Command) -> Command {
    let text = format!(
        "exec 3<&0\n{} </dev/null 3<&- & p=$!\n{{ cat <&3 >/dev/null; kill -- -$p || kill $p; }} >/dev/null 2>&1 & w=$!\nexec 3<&-\n\
         wait $p; r=$?; kill $w 2>/dev/null; exit $r",
        command.to_shell()
    );
    Command::shell(text).timeout(command.time_limit())
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The service.
    pub service: String,
    /// Seconds of the Unix epoch, where they are known.
    pub seconds: Option<i64>,
    /// What was logged, as it came: it may have line ends, and anything else.
    pub message: Vec<u8>,
}

/// Reads a line of [`journal`]. Lines that make no sense are shown as they are: they come from a host.
pub fn journal_entry(line: &[u8]) -> Entry {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else {
        return Entry { service: String::new(), seconds: None, message: line.to_vec() };
    };
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    // What systemd says of a unit is its own message, with the unit beside it.
    let unit = text("UNIT").or_else(|| text("_SYSTEMD_UNIT")).unwrap_or_default();
    let message = match value.get("MESSAGE") {
        Some(serde_json::Value::String(text)) => text.as_bytes().to_vec(),
        Some(serde_json::Value::Array(bytes)) => {
            bytes.iter().filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
        }
        _ => Vec::new(),
    };
    let micros = text("__REALTIME_TIMESTAMP").and_then(|micros| micros.parse::<i64>().ok());
    Entry {
        service: unit.strip_suffix(".service").unwrap_or(unit).to_owned(),
        seconds: micros.map(|micros| micros.div_euclid(1_000_000)),
        message,
    }
}

/// What is done to services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// They end and begin again.
    Restart,
    /// They end.
    Stop,
    /// They begin.
    Start,
}

impl Act {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }
}

/// The step that does it to units, and watches them.
pub fn step(act: Act, units: Vec<String>) -> Systemd {
    let mut step = Systemd { watch: crate::step::systemd::DEFAULT_WINDOW, ..Systemd::default() };
    match act {
        Act::Restart => step.restart = units,
        Act::Stop => step.stop = units,
        Act::Start => step.start = units,
    }
    step
}

/// Asks for the state of units, one block each.
pub fn states(units: &[String]) -> Command {
    let properties =
        "--property=Id,LoadState,ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic,MemoryCurrent";
    // The host's own clock since its start, for how long a unit has been up.
    let uptime = "cut -d. -f1 /proc/uptime";
    let argv =
        ["systemctl", "show", "--no-pager", properties, "--"].into_iter().chain(units.iter().map(String::as_str));
    Command::shell(format!("{uptime} && {}", crate::command::join(argv))).timeout(Duration::from_secs(30))
}

/// The state of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its name, as the recipe has it.
    pub service: String,
    /// `active (running)`, or what is wrong.
    pub state: String,
    /// Whether it does its work.
    pub up: bool,
    /// Whether it failed so that systemd may refuse to start it.
    pub failed: bool,
    /// For how long it has been so.
    pub since: Option<Duration>,
    /// How often systemd has restarted it.
    pub restarts: String,
    /// The memory that it has, in bytes.
    pub memory: Option<u64>,
}

/// Reads the answer to [`states`].
pub fn read_states(units: &[String], output: &str) -> Vec<State> {
    let (uptime, blocks) = output.split_once('\n').unwrap_or((output, ""));
    let uptime: Option<u64> = uptime.trim().parse().ok();
    let mut blocks = blocks.split("\n\n");
    units
        .iter()
        .map(|unit| {
            let block = blocks.next().unwrap_or_default();
            let value = |key: &str| {
                let find =
                    |line: &str| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, v)| v.to_owned());
                block.lines().find_map(find).unwrap_or_default()
            };
            let (load, active) = (value("LoadState"), value("ActiveState"));
            let state = match (load.as_str(), active.as_str()) {
                ("not-found", _) => NO_UNIT.to_owned(),
                ("", "") => "unknown".to_owned(),
                _ => format!("{active} ({})", value("SubState")),
            };
            let up = active == "active";
            let entered = value("ActiveEnterTimestampMonotonic").parse::<u64>().ok().filter(|micros| *micros > 0 && up);
            let since =
                entered.zip(uptime).map(|(micros, now)| Duration::from_secs(now.saturating_sub(micros / 1_000_000)));
            State {
                service: unit.clone(),
                state,
                up,
                failed: active == "failed",
                since,
                restarts: value("NRestarts"),
                memory: value("MemoryCurrent").parse().ok(),
            }
        })
        .collect()
}

/// Asks for what [`in_unit`] needs to know.
pub fn unit_settings(unit: &str) -> Command {
    let properties = "--property=LoadState,WorkingDirectory,Environment,EnvironmentFiles";
    Command::argv(["systemctl", "show", "--no-pager", properties, "--", unit]).timeout(Duration::from_secs(20))
}

/// `words` where the unit runs: in its working directory, with its environment, as the login user.
///
/// `settings` is the answer to [`unit_settings`]. Files of environment variables are read on the host, so that
/// what is secret in them stays there. The error is a sentence.
pub fn in_unit(unit: &str, settings: &str, words: &[String], fallback: &str) -> Result<String, String> {
    let all = |key: &str| {
        settings.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('=')).collect::<Vec<_>>()
    };
    if all("LoadState").first().is_none_or(|state| *state == "not-found") {
        return Err(format!("there is no unit {unit}"));
    }
    let directory = all("WorkingDirectory").first().copied().unwrap_or_default();
    // `~` and a leading `-` or `!` are systemd's own; without one, systemd runs in `/`.
    let directory = directory.trim_start_matches(['-', '!']);
    let directory = if directory.starts_with('/') { directory } else { fallback };
    let mut text = format!("cd -- {} || exit 125\n", crate::command::quote(directory));
    for (name, value) in all("Environment").iter().flat_map(|line| assignments(line)) {
        text.push_str(&format!("export {name}={}\n", crate::command::quote(&value)));
    }
    for line in all("EnvironmentFiles") {
        let path = line.split(" (ignore_errors=").next().unwrap_or(line);
        text.push_str(&format!("{}\n", read_environment_file(path)));
    }
    text.push_str(&match words {
        [one] => format!("exec /bin/sh -c {}", crate::command::quote(one)),
        many => format!("exec {}", crate::command::join(many.iter().map(String::as_str))),
    });
    Ok(text)
}

/// Exports the variables of a file in the manner of systemd.exec(5): comments, and values in quotes, which may have
/// several lines and, in double quotes, escapes. Nothing of it is evaluated.
fn read_environment_file(path: &str) -> String {
    let path = crate::command::quote(path);
    format!("if [ -r {path} ]; then {READER} <{path}; fi")
}

/// `$o` is the value so far, `$v` what is left of the line.
const READER: &str = r#"while IFS= read -r v || [ -n "$v" ]; do k=${v%%=*}
case $v in *=*) ;; *) continue ;; esac
case $k in ''|[0-9]*|*[!A-Za-z0-9_]*) continue ;; esac
v=${v#*=}; o=
case $v in
'"'*) v=${v#?}
while :; do case $v in
*[\\\"]*) o=$o${v%%[\\\"]*}; v=${v#"${v%%[\\\"]*}"}
case $v in
'"'*) break ;;
'\') IFS= read -r v || [ -n "$v" ] || break ;;
*) c=${v#?}; c=${c%"${c#?}"}; v=${v#??}; case $c in '"'|'\'|'$'|'`') o=$o$c ;; *) o=$o\\$c ;; esac ;;
esac ;;
*) o=$o$v; IFS= read -r v || [ -n "$v" ] || break; o=$o'
' ;;
esac; done ;;
"'"*) v=${v#?}
while :; do case $v in
*"'"*) o=$o${v%%"'"*}; break ;;
*) o=$o$v; IFS= read -r v || [ -n "$v" ] || break; o=$o'
' ;;
esac; done ;;
*) o=$v ;;
esac
export "$k=$o"; done"#;

/// `A=1 "B=two words" C=\x` as systemctl(1) shows an environment: words, quoted and escaped as in C where needed.
fn assignments(line: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quoted) {
            (' ', None) => words.extend(word.take()),
            ('"' | '\'', None) => {
                quoted = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(quote)) if c == quote => quoted = None,
            // `$'…'` is how newer versions begin a word with escapes.
            ('$', None) if word.is_none() && characters.as_str().starts_with('\'') => {}
            ('\\', _) => {
                let escaped = match characters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(other) => other,
                    None => '\\',
                };
                word.get_or_insert_default().push(escaped);
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    words
        .iter()
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| name(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn each_host_shows_those_that_it_has() {
        let known = [words("app celery.service"), words("app"), Vec::new()];
        assert_eq!(choose(&known, &words("celery")), Ok(vec![words("celery.service"), Vec::new(), Vec::new()]));
        assert_eq!(choose(&known, &[]), Ok(known.to_vec()));
        let wrong = choose(&known, &words("apq")).unwrap_err();
        assert_eq!(wrong, "there is no service `apq`; there is app, celery.service");
        assert!(choose(&[Vec::new()], &[]).is_err());
    }

    #[test]
    fn what_is_asked_of_the_journal() {
        let excerpt = Excerpt { lines: Some(5), since: Some(Since::Ago(Duration::from_secs(60))), follow: true };
        insta::assert_snapshot!(journal(&words("app"), excerpt).display(), @"journalctl --no-pager --quiet --all --output=json --output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT --lines=5 --since=-60s --follow --unit=app");
    }

    #[test]
    fn entries_are_of_the_unit_that_they_are_about() {
        let own =
            journal_entry(br#"{"MESSAGE":"hello","_SYSTEMD_UNIT":"app.service","__REALTIME_TIMESTAMP":"1500000"}"#);
        assert_eq!(own, Entry { service: "app".to_owned(), seconds: Some(1), message: b"hello".to_vec() });
        let about = journal_entry(br#"{"MESSAGE":[27,10],"_SYSTEMD_UNIT":"init.scope","UNIT":"app.service"}"#);
        assert_eq!((about.service.as_str(), about.message.as_slice()), ("app", &b"\x1b\n"[..]));
        assert_eq!(journal_entry(b"oops").message, b"oops");
    }

    #[test]
    fn the_leash_ends_the_command_with_its_input() {
        use std::io::Read as _;
        use std::process::{Command as Process, Stdio};
        let start = |command: &Command| {
            let text = leashed(command).to_shell();
            Process::new("/bin/sh")
                .args(["-c", &text])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("sh")
        };
        let mut endless = start(&Command::shell("echo there; exec sleep 1000"));
        let mut first = [0; 6];
        endless.stdout.as_mut().expect("stdout").read_exact(&mut first).expect("output");
        drop(endless.stdin.take());
        assert!(!endless.wait().expect("a status").success());
        let mut short = start(&Command::shell("exit 3"));
        let input = short.stdin.take();
        assert_eq!(short.wait().expect("a status").code(), Some(3));
        drop(input);
    }

    #[test]
    fn states_are_read_for_people() {
        let output = "1000\nId=app.service\nLoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=2\nActiveEnterTimestampMonotonic=940000000\nMemoryCurrent=1048576\n\nId=b.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n\nLoadState=loaded\nActiveState=failed\nSubState=failed\nMemoryCurrent=[not set]\n";
        let states = read_states(&words("app b c"), output);
        let shown: Vec<_> =
            states.iter().map(|state| (state.state.as_str(), state.up, state.since, state.memory)).collect();
        assert_eq!(
            shown,
            [
                ("active (running)", true, Some(Duration::from_secs(60)), Some(1 << 20)),
                (NO_UNIT, false, None, None),
                ("failed (failed)", false, None, None)
            ]
        );
        assert!(states[2].failed);
    }

    #[test]
    fn values_of_several_lines_come_whole_into_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("env");
        let text = "KEY=\"-----BEGIN\na\\\\n\\$b \\\"c\\\" \\é\n-----END\n\"\nS='it \"is\"\n two\\'\n;B=1\nL=\"1\n2\"";
        std::fs::write(&file, text).expect("a file");
        let text =
            format!("{}\nprintf '%s|' \"$KEY\" \"$S\" \"$B\" \"$L\"", read_environment_file(&file.to_string_lossy()));
        let output = std::process::Command::new("/bin/sh").args(["-c", &text]).env_remove("B").output().expect("sh");
        let expected = "-----BEGIN\na\\n$b \"c\" \\é\n-----END\n|it \"is\"\n two\\||1\n2|";
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    }

    #[test]
    fn a_command_of_a_unit_has_its_folder_and_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("env");
        std::fs::write(&file, "# comment\nFROM_FILE=\"a $HOME `id`\"\nbad-name=1\n;x\nLAST='q'").expect("a file");
        let settings = format!(
            "LoadState=loaded\nWorkingDirectory={}\nEnvironment=A=1 \"B=two words\" C=x\nEnvironmentFiles={} (ignore_errors=no)\n",
            folder.path().display(),
            file.display()
        );
        let command = vec!["sh".to_owned(), "-c".to_owned(), "pwd; echo \"$A|$B|$C|$FROM_FILE|$LAST\"".to_owned()];
        let text = in_unit("app", &settings, &command, "/x").expect("a text");
        let output = std::process::Command::new("/bin/sh").args(["-c", &text]).output().expect("sh");
        let expected = format!("{}\n1|two words|x|a $HOME `id`|q\n", folder.path().display());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{text}");
        assert!(in_unit("app", "LoadState=not-found\n", &command, "/x").is_err());
    }
}
