//! Runs a planned command on this machine's own shell, for tests.

use std::io::Write as _;
use std::process::{Command as Process, Output, Stdio};

use crate::command::Command;

/// What `command` comes to with `input` as its standard input.
pub fn run(command: &Command, input: &[u8]) -> Output {
    let mut process = Process::new("/bin/sh")
        .args(["-c", &command.to_shell()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    process.stdin.take().expect("a pipe").write_all(input).expect("input");
    process.wait_with_output().expect("output")
}
