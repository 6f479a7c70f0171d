//! Starts other programs: shown, read, or only asked whether they succeed.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{During as _, Failure, Result};

/// How many of a failed program's last lines are repeated in the message.
const LAST_LINES: usize = 15;

/// A program with its arguments, not yet started.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
}

impl Program {
    /// This program, without arguments.
    pub fn new(name: impl Into<String>) -> Self {
        Self { words: vec![name.into()], environment: Vec::new(), input: Vec::new() }
    }

    /// Adds one argument.
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds several arguments.
    pub fn args<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Adds a path as an argument.
    pub fn path(self, path: &Path) -> Self {
        self.arg(path.display().to_string())
    }

    /// Sets one environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// What the program finds on its standard input; nothing by default.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// The same program started through another one, such as `sudo -n`. Its environment is handed over in words,
    /// because sudo drops what it is not told to keep.
    pub fn behind(self, prefix: &[String]) -> Self {
        if prefix.is_empty() {
            return self;
        }
        let mut words = prefix.to_vec();
        if !self.environment.is_empty() {
            words.push("env".to_owned());
            words.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(self.words);
        Self { words, environment: Vec::new(), input: self.input }
    }

    /// Runs it with its output going where ours goes, and returns its exit status; 128 + 1 stands for a signal.
    pub fn status(&self) -> Result<u8> {
        let status = self.command()?.status().during(format_args!("start `{self}`"))?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(129))
    }

    /// Runs it with its output going where ours goes. Any other exit status than 0 is a failure.
    pub fn show(&self) -> Result<()> {
        match self.status()? {
            0 => Ok(()),
            code => Err(Failure::new(format!("`{self}` ended with exit status {code}."))),
        }
    }

    /// Runs it silently and returns what it wrote to its standard output.
    pub fn read(&self) -> Result<String> {
        let mut command = self.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().during(format_args!("start `{self}`"))?;
        let feeder = child.stdin.take().map(|mut pipe| {
            let input = self.input.clone();
            // In a thread of its own, so that a program that writes before it has read everything does not block us.
            // A program that ends without reading its input says so with its exit status, not with our broken pipe.
            std::thread::spawn(move || pipe.write_all(&input).unwrap_or_default())
        });
        let output = child.wait_with_output().during(format_args!("wait for `{self}`"))?;
        if let Some(feeder) = feeder {
            feeder.join().map_err(|_| Failure::new(format!("The input of `{self}` could not be written.")))?;
        }
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n    ");
        Err(Failure::new(format!("`{self}` failed ({}):\n    {last}", output.status)))
    }

    /// Whether it can be started and ends with exit status 0. Its output is dropped.
    pub fn succeeds(&self) -> bool {
        self.read().is_ok()
    }

    /// Starts it in a session of its own, writing to `log`, and does not wait for it.
    pub fn detach(self, log: File) -> Result<()> {
        let program = Self { words: [vec!["setsid".to_owned(), "--fork".to_owned()], self.words].concat(), ..self };
        let errors = log.try_clone().during("open the log twice")?;
        let mut command = program.command()?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let status = command.status().during(format_args!("start `{program}`"))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("`{program}` could not be started ({status}).")))
        }
    }

    /// Runs both with the output of the first as the input of the second.
    pub fn pipe_into(&self, second: &Self) -> Result<()> {
        let mut writer = self.command()?.stdout(Stdio::piped()).spawn().during(format_args!("start `{self}`"))?;
        let output = writer.stdout.take().ok_or_else(|| Failure::new(format!("`{self}` has no output.")))?;
        let read = second.command()?.stdin(output).stdout(Stdio::null()).status();
        let read = read.during(format_args!("start `{second}`"))?;
        let written = writer.wait().during(format_args!("wait for `{self}`"))?;
        if written.success() && read.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{self} | {second}` failed ({written} | {read}).")))
    }

    fn command(&self) -> Result<Command> {
        let (name, arguments) =
            self.words.split_first().ok_or_else(|| Failure::new("There is no program to start."))?;
        let mut command = Command::new(name);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

impl fmt::Display for Program {
    /// The words as a person would type them; long ones, such as scripts, are cut.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words.iter().map(|word| shown(word)).collect();
        formatter.write_str(&words.join(" "))
    }
}

fn shown(word: &str) -> String {
    let line = word.lines().next().unwrap_or_default();
    if line.len() < word.len() || line.chars().count() > 100 {
        return format!("'{} …'", line.chars().take(40).collect::<String>());
    }
    if line.is_empty() || line.contains(' ') { format!("'{line}'") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn reads_what_a_program_says() {
        let said = Program::new("sh").args(["-c", "cat; printf ' and %s' \"$WHAT\""]).env("WHAT", "more").input("some");
        assert_eq!(said.read().ok().as_deref(), Some("some and more"));
    }

    #[test]
    fn a_failure_repeats_the_last_lines() {
        let failure = Program::new("sh").args(["-c", "echo no such thing >&2; exit 3"]).read();
        let message = failure.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(message.contains("exit status: 3") && message.contains("no such thing"), "{message}");
    }

    #[test]
    fn a_prefix_keeps_the_environment() {
        let program = Program::new("apt-get").arg("update").env("DEBIAN_FRONTEND", "noninteractive");
        let shown = program.behind(&["sudo".to_owned(), "-n".to_owned()]).to_string();
        assert_eq!(shown, "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get update");
    }

    #[test]
    fn a_pipe_fails_when_either_side_fails() {
        let fails = Program::new("false");
        let reads = Program::new("cat");
        assert!(fails.pipe_into(&reads).is_err());
        assert!(reads.clone().arg("/dev/null").pipe_into(&reads).is_ok());
    }
}
