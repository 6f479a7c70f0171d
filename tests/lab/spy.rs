//! Does any process of a host ever show a password?

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::hosts::{Host, Lab};

/// Looks at every process of the host, as root, until it is told to stop: which of them had the password in
/// their arguments or their environment? The lines that it prints end with the count of its looks.
const SPY: &str = r#"
import os, sys, time
password, stop, looks = sys.stdin.buffer.read(), "/run/ship-spy.stop", 0
if os.path.exists(stop): os.remove(stop)
print("looking", flush=True)
end = time.time() + 300
while not os.path.exists(stop) and time.time() < end:
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in "cmdline", "environ":
            try:
                text = open(f"/proc/{process}/{name}", "rb").read()
            except OSError:
                continue
            if password in text:
                print(process, name, text, flush=True)
    looks += 1
print("looks", looks)
"#;

/// Looks at the processes of a host from its start until it is stopped.
pub struct Spy<'a> {
    lab: &'a Lab,
    host: &'a Host,
    process: Child,
}

impl<'a> Spy<'a> {
    /// Begins to look for `password`.
    pub fn start(lab: &'a Lab, host: &'a Host, password: &str) -> Self {
        let mut docker = lab.docker();
        docker.args(["exec", "-i", &host.container, "python3", "-c", SPY]);
        let mut process = docker.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker");
        process.stdin.take().expect("stdin").write_all(password.as_bytes()).expect("input");
        let mut first = [0; "looking\n".len()];
        process.stdout.as_mut().expect("stdout").read_exact(&mut first).expect("the spy looks");
        Self { lab, host, process }
    }

    /// How often it looked, and where the password was.
    pub fn stop(mut self) -> (usize, Vec<String>) {
        self.lab.root(self.host, "touch /run/ship-spy.stop");
        let mut seen = String::new();
        self.process.stdout.take().expect("stdout").read_to_string(&mut seen).expect("output");
        let (looks, seen): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| line.starts_with("looks "));
        (looks[0]["looks ".len()..].parse().expect("a count"), seen.into_iter().map(str::to_owned).collect())
    }
}

impl Drop for Spy<'_> {
    fn drop(&mut self) {
        self.lab.root(self.host, "touch /run/ship-spy.stop");
        let _ = self.process.wait();
    }
}
