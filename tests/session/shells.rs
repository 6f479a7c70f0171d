//! Every login shell and every POSIX shell: noise, quoting, and answers that never come.

use std::io::Write;
use std::process::{Command as Process, Stdio};

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use ship::command::Command;
use ship::event::Stream;
use ship::session::Reply;

use crate::session::commands::{body, output, printed, replies};
use crate::session::sshd::{Options, Sshd};

/// The path of a program, where it is installed.
fn installed(name: &str) -> Option<&'static str> {
    ["/bin", "/usr/bin"]
        .into_iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| std::path::Path::new(path).exists())
        .map(|path| &*path.leak())
}

#[tokio::test]
async fn every_login_shell_will_do_and_its_noise_is_not_output() {
    for shell in ["dash", "bash", "fish", "tcsh", "zsh", "mksh"] {
        let Some(shell) = installed(shell) else { continue };
        let noise = Some("echo Welcome to the jungle; printf 'no line end'; echo oops >&2");
        let sshd = Sshd::start(Options { shell: Some(shell), noise, ..Options::default() });
        let session = sshd.session().await;
        let seen =
            replies(session.run(vec![Command::argv(["printf", "%s|", "it's", "a!b", "$(id)", "\\", "x\ny"])])).await;
        assert_eq!(seen.get(1), Some(&printed(0, Stream::Stdout, "it's|a!b|$(id)|\\|x\ny|")), "{shell}");
        assert_eq!(seen.len(), 3, "{shell}: {seen:?}");
        let count = output(session.feed(vec![Command::shell("wc -c | tr -d ' '")], body(3, 100_000))).await;
        assert_eq!(count, "300000\n", "{shell}");
    }
}

#[tokio::test]
async fn a_login_that_is_no_shell_says_so() {
    for (noise, expected) in [
        (
            "echo This account is currently not available.; exit 1",
            "It ended with status 1. It said: This account is currently not available.",
        ),
        ("cat >/dev/null; exit 0", "no answer from the login shell"),
    ] {
        let sshd = Sshd::start(Options { noise: Some(noise), ..Options::default() });
        let session = sshd.session().await;
        let replies = replies(session.run(vec![Command::shell("true")])).await;
        let Some(Reply::Lost(lost)) = replies.last() else { panic!("{replies:?}") };
        assert!(lost.reason.contains(expected), "{lost}");
    }
}

/// What `shell` prints when it reads `script` from its standard input, as the session's shell does.
fn evaluate(shell: &[&str], script: &str) -> Vec<u8> {
    let mut process =
        Process::new(shell[0]).args(&shell[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    process.wait_with_output().unwrap().stdout
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_words_reach_the_program_as_they_are(
        words in vec("[^\0]{0,12}|[ '\"\\\\$`!*?;&|<>()~#\n\t-]{0,8}", 1..6),
        folder_name in "[a-z '$]{1,6}",
        value in any::<String>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(&folder_name);
        std::fs::create_dir(&folder).unwrap();
        let value = value.replace('\0', "");
        let mut argv = vec!["sh".to_owned(), "-c".to_owned(), "printf '%s\\0' \"$@\" \"$VALUE\" \"${PWD##*/}\"".to_owned(), "sh".to_owned()];
        argv.extend(words.iter().cloned());
        let command = Command::argv(argv)
            .directory(folder.to_str().unwrap())
            .env("VALUE", ship::command::EnvValue::Plain(value.clone()));
        let mut expected = Vec::new();
        for word in words.iter().chain([&value, &folder_name]) {
            expected.extend(word.bytes());
            expected.push(0);
        }
        let script = format!("{}\n", command.to_shell());
        for shell in [&["dash"][..], &["bash"], &["bash", "--posix"], &["mksh"], &["busybox", "ash"], &["zsh", "--emulate", "sh"]] {
            if installed(shell[0]).is_some() {
                assert_eq!(evaluate(shell, &script), expected, "{shell:?} {script}");
            }
        }
    }
}
