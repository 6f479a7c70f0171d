//! Commands as values, and the only place that quotes for the shell.
//!
//! A [`Command`] is built by pure functions, shown by `ship plan` with [`Command::display`] and sent
//! to a host with [`Command::to_shell`]. Deliberately absent: running anything (`session`).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use crate::secret::Secret;

/// How long a command may take when the recipe does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Stands in a rule for all arguments that there may be. No argument can be this: none carries a NUL.
pub const ANY_ARGUMENTS: &str = "\0";

/// How long a command that was told to end (SIGTERM) has before it is killed, in seconds.
const KILL_AFTER: u64 = 5;

/// `word` so that a POSIX shell reads it back as exactly that one word.
///
/// Words of harmless characters stay as they are; all others stand in single quotes, in which POSIX
/// (XCU 2.2.2) gives no character a meaning. The text must have no NUL, which no argument can carry;
/// `document` and the operating system refuse it before it gets here, and one is dropped here.
pub fn quote(word: &str) -> Cow<'_, str> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\0', "").replace('\'', r"'\''")))
}

/// `words` quoted and joined by spaces.
pub fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Splits `text` into words as a POSIX shell would, refusing everything that only a shell can do.
///
/// This reads the `sudo` step: sudo wraps one argv, so pipes, redirections, expansions and several
/// commands have no meaning there. The error says which character it was.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => match characters.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => {
                                word.push('\\');
                                word.push(c);
                            }
                            None => return Err("a double quote is not closed".to_owned()),
                        },
                        Some(c @ ('$' | '`')) => return Err(shell_only(c)),
                        Some(c) => word.push(c),
                        None => return Err("a double quote is not closed".to_owned()),
                    }
                }
            }
            '\\' => match characters.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("a backslash ends the command".to_owned()),
            },
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | '#' | '~' => {
                return Err(shell_only(c));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err("the command is empty".to_owned()) } else { Ok(words) }
}

fn shell_only(character: char) -> String {
    format!("`{character}` needs a shell, and sudo is given one command with its arguments, never a shell")
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, each exactly as given.
    Argv(Vec<String>),
    /// Text for `/bin/sh -c`, written by the author of a recipe or by ship.
    Shell(String),
    /// Text for a subshell of the host's shell. It starts no program to run or to bound it, which on a fleet is much of
    /// what a deploy costs; so it has to end by itself before long, as the deploy lock is held until then, and to do no
    /// harm where it ends after its session was given up. Only ship writes these.
    Subshell(String),
    /// Text evaluated by the host's own long-lived shell, so that what it opens stays open: the
    /// deploy lock. Only ship writes these.
    Session(String),
}

/// A value put into the environment of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// Shown as it is.
    Plain(String),
    /// Travels on the shell's standard input, never in an argument, and is shown masked.
    Secret(Secret),
}

/// The function of a host's long-lived shell that runs its arguments as root with the password that the shell was
/// given, also from a process of its own. It is there where sudo wants a password.
pub const AS_ROOT: &str = "ship_root";

/// How sudo is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SudoCall {
    /// It must not need a password: a rule says `NOPASSWD`, or a ticket is there.
    WithoutPassword,
    /// It reads the password from its standard input, before the command gets the rest of it. The password
    /// stands in the shell's variable of this name. Only for rules that do want it: else the command gets it.
    PasswordIn(&'static str),
}

/// What a command reads, which may hold secrets: only its length is shown.
#[derive(Clone, PartialEq, Eq)]
struct Input(Bytes);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One command on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    program: Program,
    directory: Option<String>,
    environment: Vec<(String, EnvValue)>,
    sudo: bool,
    any_arguments: bool,
    may_fail: bool,
    secret_text: bool,
    input: Option<Input>,
    timeout: Duration,
}

impl Command {
    /// A program with its arguments.
    pub fn argv<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self::new(Program::Argv(words.into_iter().map(Into::into).collect()))
    }

    /// Text for `/bin/sh -c`.
    pub fn shell(text: impl Into<String>) -> Self {
        Self::new(Program::Shell(text.into()))
    }

    /// Text of ship's own for a subshell of the host's shell. See [`Program::Subshell`].
    pub fn subshell(text: impl Into<String>) -> Self {
        Self::new(Program::Subshell(text.into()))
    }

    /// Text for the host's long-lived shell itself. See [`Program::Session`].
    pub fn session(text: impl Into<String>) -> Self {
        Self::new(Program::Session(text.into()))
    }

    fn new(program: Program) -> Self {
        Self {
            program,
            directory: None,
            environment: Vec::new(),
            sudo: false,
            any_arguments: false,
            may_fail: false,
            secret_text: false,
            input: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Runs in `directory`.
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds `name` to the environment.
    pub fn env(mut self, name: impl Into<String>, value: EnvValue) -> Self {
        self.environment.push((name.into(), value));
        self
    }

    /// Runs as root through `sudo -n`. Only [`Program::Argv`] may: sudo wraps one argv, never a shell,
    /// so this changes nothing for the other kinds.
    pub fn sudo(mut self) -> Self {
        self.sudo = matches!(self.program, Program::Argv(_));
        self
    }

    /// Runs as the login user after all, who is root.
    pub fn without_sudo(mut self) -> Self {
        self.sudo = false;
        self
    }

    /// Whether `timeout(1)` on the host bounds it, rather than this machine alone.
    pub fn is_bounded_there(&self) -> bool {
        !self.sudo && matches!(self.program, Program::Argv(_) | Program::Shell(_))
    }

    /// Bounds the command's time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Those that follow it in a batch run also where it fails.
    pub fn tolerated(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Whether those that follow it in a batch run also where it fails.
    pub fn may_fail(&self) -> bool {
        self.may_fail
    }

    /// Its text holds a secret: only ship's own proof of a password does.
    pub fn with_secret_text(mut self) -> Self {
        self.secret_text = true;
        self
    }

    /// Reads `input`, which travels with the text of the shell and is decoded by `base64(1)` of the host: for what is so
    /// short that a channel of its own costs more.
    pub fn with_input(mut self, input: Bytes) -> Self {
        self.input = Some(Input(input));
        self
    }

    /// What it reads, where that travels with it.
    pub fn input(&self) -> Option<&Bytes> {
        self.input.as_ref().map(|Input(bytes)| bytes)
    }

    /// Whether something in it is secret, or may be, and may not be seen in the arguments of a process.
    pub fn holds_secrets(&self) -> bool {
        self.secret_text
            || self.input.is_some()
            || self.environment.iter().any(|(_, value)| matches!(value, EnvValue::Secret(_)))
    }

    /// How long the command may take.
    pub fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// The argv that sudo runs, where this command needs sudo.
    pub fn sudo_argv(&self) -> Option<&[String]> {
        match &self.program {
            Program::Argv(words) if self.sudo => Some(words),
            _ => None,
        }
    }

    /// The arguments differ from run to run, with releases and containers: a rule for sudo cannot name them.
    pub fn any_arguments(mut self) -> Self {
        self.any_arguments = true;
        self
    }

    /// What a rule for sudo has to allow for this command: its argv, or its program and [`ANY_ARGUMENTS`].
    pub fn sudo_rule(&self) -> Option<Vec<String>> {
        let argv = self.sudo_argv()?;
        if self.any_arguments {
            return Some(argv.iter().take(1).cloned().chain([ANY_ARGUMENTS.to_owned()]).collect());
        }
        Some(argv.to_vec())
    }

    /// What is run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The command as a person would type it: for plans, events and errors. Secrets are masked.
    pub fn display(&self) -> String {
        let mut shown = String::new();
        // Text of several commands, typed behind `cd … &&`, would go on where the folder is not there, and its
        // `exit` would end the shell of the person who typed it.
        let group = self.directory.is_some()
            && matches!(&self.program, Program::Shell(text) | Program::Subshell(text) if text.contains("exit "));
        if group {
            shown.push_str("( ");
        }
        if let Some(directory) = &self.directory {
            let _ = write!(shown, "cd {} {} ", quote(directory), if group { "|| exit;" } else { "&&" });
        }
        for (name, value) in &self.environment {
            let _ = match value {
                EnvValue::Plain(value) => write!(shown, "{name}={} ", quote(value)),
                EnvValue::Secret(secret) => write!(shown, "{name}={secret} "),
            };
        }
        match &self.program {
            Program::Argv(words) => {
                if self.sudo {
                    shown.push_str("sudo ");
                }
                shown.push_str(&join(words.iter().map(String::as_str)));
            }
            Program::Shell(text) | Program::Subshell(text) | Program::Session(text) => shown.push_str(text),
        }
        if group {
            shown.push_str(" )");
        }
        shown
    }

    /// The command as text for `ssh -t`: on a terminal, where sudo may ask for its password and nothing limits
    /// the time. Commands without directory and environment of their own only: they have none that is secret.
    pub fn for_a_person(&self) -> String {
        let sudo = if self.sudo { "sudo -- " } else { "" };
        format!("exec {sudo}{}", self.program_words())
    }

    /// The command as one line of POSIX shell, to be evaluated by a shell that reads its standard input.
    ///
    /// It runs in a subshell that is replaced by the program, so nothing leaks into the next command and
    /// sudo's parent is the long-lived shell (sudo keys its ticket on the parent where there is no tty,
    /// sudoers(5) `timestamp_type`). All but sudo's commands and ship's own short ones are bounded on the host by
    /// `timeout(1)`, because closing a channel does not stop what it started; a user may not signal root's processes,
    /// so those are bounded by the session alone.
    pub fn to_shell(&self) -> String {
        self.to_shell_with(SudoCall::WithoutPassword)
    }

    /// [`Command::to_shell`], where sudo is called in this way.
    pub fn to_shell_with(&self, call: SudoCall) -> String {
        let mut line = String::from("(");
        if let Program::Session(text) = &self.program {
            return text.clone();
        }
        if let Some(directory) = &self.directory {
            let _ = write!(line, " cd -- {} || exit 125;", quote(directory));
        }
        for (name, value) in &self.environment {
            let value = match value {
                EnvValue::Plain(value) => value.as_str(),
                EnvValue::Secret(secret) => secret.expose(),
            };
            let _ = write!(line, " export {name}={};", quote(value));
        }
        match (&self.program, call) {
            (Program::Subshell(text), _) => {
                let _ = writeln!(line, " {text}");
            }
            // A builtin `printf`, or the password would be an argument of a process.
            (_, SudoCall::PasswordIn(variable)) if self.sudo => {
                let program = self.program_words();
                let _ = write!(line, " {{ printf '%s\\n' \"${variable}\"; exec cat; }} | sudo -S -p '' -- {program}");
            }
            _ => {
                let _ = write!(line, " exec {}", self.words());
            }
        }
        line.push_str(" )");
        line
    }

    /// The program with what bounds it or makes it root's, as words of shell, without its folder and environment.
    pub fn words(&self) -> String {
        let program = self.program_words();
        if self.sudo {
            return format!("sudo -n -- {program}");
        }
        // GNU and BusyBox both take whole seconds and `-k`.
        format!("timeout -k {KILL_AFTER} {} {program}", self.timeout.as_secs().max(1))
    }

    fn program_words(&self) -> String {
        match &self.program {
            Program::Argv(words) => join(words.iter().map(String::as_str)),
            Program::Shell(text) | Program::Subshell(text) | Program::Session(text) => {
                format!("/bin/sh -c {}", quote(text))
            }
        }
    }

    /// The command, bounded as it is, ending with 0 only where it prints one of these words and no more. What it prints
    /// is printed all the same.
    pub fn printing(mut self, wanted: &[String]) -> Self {
        let wanted: Vec<Cow<'_, str>> = wanted.iter().map(|word| quote(word)).collect();
        let text = format!(
            "said=$({}); printf %s \"$said\"; case $said in {}) ;; *) exit 1 ;; esac",
            self.words(),
            wanted.join(" | "),
        );
        self.program = Program::Subshell(text);
        self
    }

    /// Shell text in the folder and environment of this command, bounded anew.
    pub fn with_text(&self, text: impl Into<String>) -> Self {
        let program = Program::Shell(text.into());
        Self { program, sudo: false, timeout: DEFAULT_TIMEOUT, ..self.clone() }
    }

    /// The folder that it runs in, where it is not the login's.
    pub fn folder(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// Its environment.
    pub fn environment(&self) -> &[(String, EnvValue)] {
        &self.environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        assert_eq!(quote("/var/www/a-b_c.d"), "/var/www/a-b_c.d");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("~root"), "'~root'");
        assert_eq!(quote("a b\n$c"), "'a b\n$c'");
    }

    #[test]
    fn sudo_wraps_one_argv_and_is_not_put_under_timeout() {
        let restart = Command::argv(["/usr/bin/systemctl", "restart", "app"]).sudo();
        assert_eq!(restart.to_shell(), "( exec sudo -n -- /usr/bin/systemctl restart app )");
        assert_eq!(restart.display(), "sudo /usr/bin/systemctl restart app");
        assert_eq!(Command::shell("id").sudo().sudo_argv(), None);
    }

    #[test]
    fn a_password_is_named_by_its_variable_and_never_by_its_value() {
        let command = Command::argv(["tee", "/etc/x"]).sudo().directory("/srv");
        insta::assert_snapshot!(command.to_shell_with(SudoCall::PasswordIn("pw")), @r#"( cd -- /srv || exit 125; { printf '%s\n' "$pw"; exec cat; } | sudo -S -p '' -- tee /etc/x )"#);
    }

    #[test]
    fn a_command_in_a_directory_with_environment() {
        let command = Command::shell("a | b")
            .directory("/srv/my app")
            .env("MODE", EnvValue::Plain("x y".to_owned()))
            .env("TOKEN", EnvValue::Secret(Secret::new("s3cret value".to_owned())))
            .timeout(Duration::from_secs(30));
        insta::assert_snapshot!(command.to_shell(), @"( cd -- '/srv/my app' || exit 125; export MODE='x y'; export TOKEN='s3cret value'; exec timeout -k 5 30 /bin/sh -c 'a | b' )");
        insta::assert_snapshot!(command.display(), @"cd '/srv/my app' && MODE='x y' TOKEN=[secret] a | b");
    }

    #[test]
    fn what_a_command_reads_is_not_shown() {
        let command = Command::argv(["cat"]).with_input(Bytes::from_static(b"s3cret"));
        assert!(command.holds_secrets() && !command.display().contains("s3cret"));
        assert!(format!("{command:?}").contains("6 bytes") && !format!("{command:?}").contains("s3cret"));
    }

    #[test]
    fn split_reads_words_and_refuses_what_only_a_shell_can_do() {
        assert_eq!(
            split("systemctl restart 'a b' \"c\\\"d\" e\\ f"),
            Ok(vec!["systemctl".into(), "restart".into(), "a b".into(), "c\"d".into(), "e f".into()])
        );
        for refused in ["a | b", "a > b", "a $b", "a; b", "a \"$b\"", "a *", "", "'a"] {
            assert!(split(refused).is_err(), "{refused}");
        }
    }
}
