//! Questions to the person at the terminal.

use std::io::{BufRead, Write};

use crate::output::visible;
use crate::report::Curtain;
use crate::secret::{Masker, Secret};
use crate::session::Prompt;

/// Asks on the terminal, with live lines out of the way.
#[derive(Clone, Debug, Default)]
pub struct Terminal {
    curtain: Curtain,
    masker: Masker,
}

impl Terminal {
    /// Asks where a reporter may have live lines behind `curtain`. What is typed without echo is masked from
    /// then on.
    pub fn new(curtain: Curtain, masker: Masker) -> Self {
        Self { curtain, masker }
    }
}

/// Asks for a yes or a no on standard error and standard input. No answer is a no.
pub fn confirm(question: &str) -> bool {
    answer(&format!("{question} [y/N]"))
        .is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks on standard error and reads a line of standard input, without the blanks around it.
pub fn answer(question: &str) -> Option<String> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} ").and_then(|()| stderr.flush()).ok()?;
    drop(stderr);
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

impl Prompt for Terminal {
    fn trust_host_key(&self, host: &str, key_type: &str, fingerprint: &str) -> bool {
        let _held = self.curtain.hold();
        confirm(&format!(
            "The host key of {} is not known.\n{} {}\nTrust it and remember it in known_hosts?",
            visible(host.as_bytes()),
            visible(key_type.as_bytes()),
            visible(fingerprint.as_bytes())
        ))
    }

    fn secret(&self, question: &str) -> Option<Secret> {
        let _held = self.curtain.hold();
        let question = format!("{}: ", visible(question.as_bytes()).trim_end_matches([':', ' ']));
        let typed = Secret::new(rpassword::prompt_password(question).ok()?);
        self.masker.learn([&typed]);
        Some(typed)
    }
}
