//! The hosts of the lab, and a project that is deployed to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The lab, as `cargo xtask lab up` described it.
pub struct Lab {
    description: Value,
}

/// A host of the lab.
pub struct Host {
    pub name: String,
    pub http_port: u16,
    /// A second port of a host for containers, its 443.
    pub https_port: Option<u16>,
    pub container: String,
    pub password_file: Option<PathBuf>,
}

impl Lab {
    /// Reads the description.
    pub fn new() -> Self {
        let path = std::env::var_os("SHIP_LAB").expect("SHIP_LAB names the lab's description: cargo xtask test");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { description: serde_json::from_str(&text).expect("the lab's description is JSON") }
    }

    pub fn ssh_config(&self) -> &str {
        self.description["ssh_config"].as_str().expect("ssh_config")
    }

    pub fn host(&self, name: &str) -> Host {
        let hosts = self.description["hosts"].as_array().expect("hosts");
        let host = hosts.iter().find(|host| host["name"] == name).unwrap_or_else(|| panic!("no host {name}"));
        Host {
            name: name.to_owned(),
            http_port: u16::try_from(host["http_port"].as_u64().expect("http_port")).expect("a port"),
            https_port: host["https_port"].as_u64().and_then(|port| u16::try_from(port).ok()),
            container: host["container"].as_str().expect("container").to_owned(),
            password_file: host["password_file"].as_str().map(PathBuf::from),
        }
    }

    /// What the description says of a host.
    fn of(&self, name: &str, field: &str) -> &Value {
        let hosts = self.description["hosts"].as_array().expect("hosts");
        let host = hosts.iter().find(|host| host["name"] == name).unwrap_or_else(|| panic!("no host {name}"));
        &host[field]
    }

    /// The port of 127.0.0.1 that leads to a host's sshd.
    pub fn port(&self, name: &str) -> u64 {
        self.of(name, "port").as_u64().expect("port")
    }

    /// The private key that a host lets in.
    pub fn identity_file(&self, name: &str) -> &str {
        self.of(name, "identity_file").as_str().expect("identity_file")
    }

    /// The words that start the client of the engine that the lab is in.
    pub fn docker_words(&self) -> Vec<&str> {
        self.description["docker"].as_array().expect("docker").iter().filter_map(Value::as_str).collect()
    }

    /// The client of the engine that the lab is in.
    pub fn docker(&self) -> Command {
        let argv = self.docker_words();
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]);
        command
    }

    /// Copies a file or folder into a host, as root.
    pub fn copy(&self, host: &Host, from: &Path, to: &str) {
        // A folder's contents replace what a former run left there.
        self.root(host, &format!("rm -rf {to}"));
        let target = format!("{}:{to}", host.container);
        let status = self.docker().arg("cp").arg("-q").arg(from).arg(target).status().expect("docker");
        assert!(status.success());
    }

    /// Runs shell text as root inside a host and gives back what it printed.
    pub fn root(&self, host: &Host, text: &str) -> String {
        self.root_fed(host, text, "")
    }

    /// The same, with standard input.
    pub fn root_fed(&self, host: &Host, text: &str, input: &str) -> String {
        self.as_fed(host, "root", text, input)
    }

    /// Runs shell text as `user` inside a host, with standard input.
    pub fn as_fed(&self, host: &Host, user: &str, text: &str, input: &str) -> String {
        use std::io::Write;
        let mut child = self
            .docker()
            .args(["exec", "-i", "-u", user, &host.container, "sh", "-c", text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("input");
        let output = child.wait_with_output().expect("docker");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}\n{stdout}{}", host.name, String::from_utf8_lossy(&output.stderr));
        stdout
    }

    /// Removes what a former run of a Compose project left on a host, volumes too. Images go by name: by their ids
    /// those that others call otherwise would go along.
    pub fn remove_project(&self, host: &Host, project: &str) {
        let label = format!("--filter label=com.docker.compose.project={project}");
        self.root(
            host,
            &format!(
                "docker ps -aq {label} | xargs -r docker rm -f >/dev/null
                 docker volume ls -q {label} | xargs -r docker volume rm >/dev/null
                 docker network ls -q {label} | xargs -r docker network rm >/dev/null
                 docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 'ship/{project}/*' | xargs -r docker rmi >/dev/null
                 rm -rf /srv/{project}"
            ),
        );
    }

    /// Makes the login `admin`, who may do everything as root: whoever sets hosts up.
    pub fn admin(&self, host: &Host) {
        self.root(
            host,
            "id admin >/dev/null 2>&1 || useradd --create-home --shell /bin/bash admin; usermod --password '*' admin
             install -d -m 0700 -o admin -g admin /home/admin/.ssh
             install -m 0600 -o admin -g admin /home/deployer/.ssh/authorized_keys /home/admin/.ssh/
             umask 227; echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin",
        );
    }

    /// Runs shell text as `user` inside a host and gives back its status.
    pub fn status_as(&self, host: &Host, user: &str, text: &str) -> i32 {
        let mut command = self.docker();
        command.args(["exec", "-u", user, &host.container, "sh", "-c", text]);
        let output = command.stdin(Stdio::null()).output().expect("docker");
        output.status.code().expect("a status")
    }
}

/// A project in a git repository of its own.
pub struct Project {
    folder: TempDir,
    ssh_config: Option<String>,
    environment: Vec<(String, String)>,
}

/// What a run of ship came to.
pub struct Run {
    pub code: i32,
    pub text: String,
}

impl Run {
    /// Checks the exit code, showing everything where it is another one.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    /// Checks that the output has `words`.
    pub fn says(self, words: &str) -> Self {
        assert!(self.text.contains(words), "{words:?} is not in:\n{}", self.text);
        self
    }
}

impl Project {
    /// An empty project for `lab`.
    pub fn new(lab: &Lab) -> Self {
        let project = Self {
            folder: tempfile::tempdir().expect("a folder"),
            ssh_config: Some(lab.ssh_config().to_owned()),
            environment: Vec::new(),
        };
        project.git(&["init", "--quiet", "--initial-branch", "main", "."]);
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets ship know the hosts from the inventory alone.
    pub fn without_ssh_config(mut self) -> Self {
        self.ssh_config = None;
        self
    }

    /// Sets an environment variable for ship.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Copies a folder of `tests/fixtures` into the project.
    pub fn copy_fixture(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join(".");
        let status = Command::new("cp").arg("-R").arg(from).arg(self.path()).status().expect("cp");
        assert!(status.success());
    }

    /// Commits everything.
    pub fn commit(&self, title: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", title]);
    }

    /// Begins the branch `name`.
    pub fn branch(&self, name: &str) {
        self.git(&["branch", name]);
    }

    /// Checks the branch `name` out.
    pub fn checkout(&self, name: &str) {
        self.git(&["checkout", "--quiet", name]);
    }

    /// Changes the one line `NAME = "…"` of a Python file, and commits that.
    pub fn set(&self, file: &str, name: &str, value: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).expect("the file");
        let line = |line: &str| {
            if line.starts_with(&format!("{name} =")) { format!("{name} = \"{value}\"") } else { line.to_owned() }
        };
        let changed = text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
        assert_ne!(changed, text, "{name} was {value:?} already");
        fs::write(path, changed).expect("the file");
        self.commit(&format!("{name} {value}"));
    }

    fn git(&self, words: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"])
            .args(words)
            .current_dir(self.path())
            .status()
            .expect("git");
        assert!(status.success(), "git {words:?}");
    }

    /// A program as it is started for this project: nothing of the real account.
    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path().join(".home"))
            .env("USER", "ann")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// ship with `words`, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_ship"));
        if let Some(file) = &self.ssh_config {
            command.arg("--ssh-config").arg(file);
        }
        command.args(words);
        command
    }

    /// Runs ship with `words` on a terminal, types `answer` when it asks for a password, and gives back its exit
    /// code and what was on the screen.
    pub fn ship_typing(&self, words: &[&str], answer: &str) -> (i32, String) {
        self.ship_asked(words, "Password", answer)
    }

    /// The same, where `question` is what it asks.
    pub fn ship_asked(&self, words: &[&str], question: &str, answer: &str) -> (i32, String) {
        use std::io::{Read, Write};
        let config = self.ssh_config.as_ref().map(|file| format!(" --ssh-config {file}")).unwrap_or_default();
        let line = format!("{}{config} {}", env!("CARGO_BIN_EXE_ship"), words.join(" "));
        let mut script = self.program("script");
        script.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1)");
        let (mut input, mut output) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let (mut screen, mut chunk, mut answered) = (Vec::new(), [0; 4096], 0);
        while let Ok(count @ 1..) = output.read(&mut chunk) {
            screen.extend_from_slice(&chunk[..count]);
            let asked = String::from_utf8_lossy(&screen).matches(question).count();
            while answered < asked {
                input.write_all(format!("{answer}\n").as_bytes()).expect("input");
                answered += 1;
            }
        }
        drop(input);
        let code = child.wait().expect("script(1)").code().expect("a status");
        (code, String::from_utf8_lossy(&screen).into_owned())
    }

    /// Runs ship with `words`.
    pub fn ship(&self, words: &[&str]) -> Run {
        let began = std::time::Instant::now();
        let output = self.command(words).stdin(Stdio::null()).output().expect("ship");
        let text = [output.stdout, output.stderr].concat();
        println!("ship {}: {:?} after {:.1} s", words.join(" "), output.status.code(), began.elapsed().as_secs_f32());
        Run { code: output.status.code().expect("a status"), text: String::from_utf8_lossy(&text).into_owned() }
    }
}
