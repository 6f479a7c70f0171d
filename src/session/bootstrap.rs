//! Starts a script in a channel of its own when its standard input must stay free for data.
//!
//! The script travels as the first bytes of that input, never as an argument, so that secrets in it do
//! not show in `ps`. `dd` takes exactly its length, byte by byte, because a shell would read ahead.

/// `body` as one compound command behind the bytes that start it: the command line for the login shell,
/// and what to send first. It is a compound command so that a part of it, where the connection breaks,
/// is a syntax error and runs nothing.
///
/// The command line keeps to what bash, dash, fish, tcsh and zsh read alike: words, and single quotes
/// around text without `'`, `!`, `\` and line ends.
pub(super) fn bootstrap(body: &str) -> (String, String) {
    let script = format!("{{ {}\n{body}\n}}", super::shell::ENVIRONMENT);
    (format!("exec /bin/sh -c 'eval \"$(dd bs=1 count=$1 2>/dev/null)\"' ship {}", script.len()), script)
}
