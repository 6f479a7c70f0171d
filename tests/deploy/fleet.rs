//! A fleet of hosts, a project that is deployed to them, and a user with a home of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tempfile::TempDir;

use crate::deploy::gate::Gate;
use crate::deploy::host::{Entry, Host, tree};
use crate::deploy::ran::{Ran, Running};
use crate::session::sshd::{Options, Sshd, user};

/// The files of the project that are the user's and not the application's.
const OWN: &[&str] = &["inventory.toml", "recipes", ".ship", ".git"];

/// What is deployed where no test says anything else: the commit, switched to.
const RECIPE: &str = "[[prepare]]\nupload = \".\"\n[[publish]]\nswap = {}\n";

/// Hosts, a project and a user.
pub struct Fleet {
    hosts: Vec<Host>,
    folder: TempDir,
    /// What ship finds in its environment, beside what every test has.
    environment: Vec<(String, String)>,
    /// The files of each commit, by its name.
    commits: Mutex<BTreeMap<String, BTreeMap<Vec<u8>, Entry>>>,
    gates: AtomicUsize,
}

impl Fleet {
    /// A fleet on servers that other tests use too.
    pub fn of(names: &[&str]) -> Self {
        Self::new(names, shared)
    }

    /// A fleet on servers of its own, which the test may change.
    pub fn own(names: &[&str]) -> Self {
        Self::with(names, |_| Options::default())
    }

    /// A fleet on servers of its own, each with its options.
    pub fn with(names: &[&str], options: impl Fn(&str) -> Options) -> Self {
        Self::new(names, |index| Arc::new(Sshd::start(options(names[index]))))
    }

    /// A fleet of so many hosts, all of them on one server of its own.
    pub fn on_one(names: &[&str], options: Options) -> Self {
        let server = Arc::new(Sshd::start(options));
        Self::new(names, |_| Arc::clone(&server))
    }

    /// A fleet of so many hosts on `servers` servers of its own.
    pub fn on_few(names: &[&str], servers: usize, options: impl Fn() -> Options) -> Self {
        let servers: Vec<_> = (0..servers).map(|_| Arc::new(Sshd::start(options()))).collect();
        Self::new(names, |index| Arc::clone(&servers[index % servers.len()]))
    }

    fn new(names: &[&str], server: impl Fn(usize) -> Arc<Sshd>) -> Self {
        let folder = tempfile::Builder::new().prefix("ship-fleet-").tempdir().unwrap();
        let unique = folder.path().file_name().unwrap().to_owned();
        let hosts = names.iter().enumerate().map(|(index, name)| {
            let server = server(index);
            let home = fs::canonicalize(&server.home).unwrap();
            let root = home.join(&unique).join(name).join("www/app");
            Host { name: (*name).to_owned(), server, root }
        });
        let fleet = Self {
            hosts: hosts.collect(),
            folder,
            environment: Vec::new(),
            commits: Mutex::default(),
            gates: AtomicUsize::new(0),
        };
        for folder in ["home", "project/recipes"] {
            fs::create_dir_all(fleet.at(folder)).unwrap();
        }
        fleet.write_ssh_config("");
        fleet.git(&["init", "-q", "-b", "main"]);
        let own: String = OWN.iter().map(|name| format!("/{name}\n")).collect();
        fs::write(fleet.project().join(".git/info/exclude"), own).unwrap();
        fleet.inventory("").recipe(RECIPE)
    }

    /// A path in the test's own folder.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The project's folder.
    pub fn project(&self) -> PathBuf {
        self.at("project")
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).unwrap()
    }

    /// Every host.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The recipe.
    pub fn recipe(self, text: &str) -> Self {
        self.write("recipes/site.toml", text);
        self
    }

    /// What stands in the inventory beside the hosts: top-level keys first, then tables. Each host has the role
    /// `web` and one of its own name.
    pub fn inventory(self, text: &str) -> Self {
        let (keys, tables) = match text.find("[") {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let mut all = format!("recipe = \"site\"\napp = \"app\"\ndeploy_to = \"/nowhere\"\n{keys}\n{tables}\n");
        for Host { name, root, .. } in &self.hosts {
            let root = root.display();
            let _ = write!(all, "[hosts.{name}]\ndeploy_to = \"{root}\"\nroles = [\"web\", \"{name}\"]\n");
        }
        if !text.contains("[environments") {
            all.push_str("[environments.prod]\nhosts = [\"*\"]\n");
        }
        self.write("inventory.toml", all);
        self
    }

    /// A variable in ship's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// OpenSSH's client configuration: the hosts by name, after `first`.
    pub fn write_ssh_config(&self, first: &str) {
        let mut config = format!("{first}\n");
        let mut known = String::new();
        for Host { name, server, .. } in &self.hosts {
            let key = server.client_key.display();
            let _ = write!(config, "Host {name}\n HostName 127.0.0.1\n Port {}\n IdentityFile {key}\n", server.port);
            let _ = writeln!(known, "[127.0.0.1]:{} {}", server.port, server.host_key);
        }
        let _ = write!(
            config,
            "Host *\n User {}\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n IdentitiesOnly yes\n IdentityAgent none\n",
            user(),
            self.at("known_hosts").display()
        );
        fs::write(self.at("ssh_config"), config).unwrap();
        fs::write(self.at("known_hosts"), known).unwrap();
    }

    /// Makes another server known: `host` of OpenSSH's client configuration is on 127.0.0.1 at `port`.
    pub fn knows(&self, host: &str, port: u16, server: &Sshd) {
        let key = server.client_key.display();
        let mut config = fs::read_to_string(self.at("ssh_config")).unwrap();
        config.insert_str(0, &format!("Host {host}\n HostName 127.0.0.1\n Port {port}\n IdentityFile {key}\n"));
        fs::write(self.at("ssh_config"), config).unwrap();
        let mut known = fs::read_to_string(self.at("known_hosts")).unwrap();
        let _ = writeln!(known, "[127.0.0.1]:{port} {}", server.host_key);
        fs::write(self.at("known_hosts"), known).unwrap();
    }

    /// Puts a file into the working tree, with the folders above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes `files` and a file `version` that says `name`, and commits everything under that name.
    pub fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        self.write("version", name);
        for (path, content) in files {
            self.write(path, content);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", name]);
        let mut files = tree(&self.project());
        files.retain(|path, _| OWN.iter().all(|own| path.split(|byte| *byte == b'/').next() != Some(own.as_bytes())));
        // What git carries: no folders, and of the permission bits only whether a file can be executed.
        files.retain(|_, entry| !matches!(entry, Entry::Folder(_)));
        for entry in files.values_mut() {
            if let Entry::File(mode, _) = entry {
                *mode = if *mode & 0o100 == 0 { 0o644 } else { 0o755 };
            }
        }
        self.commits.lock().unwrap().insert(name.to_owned(), files);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the project.
    #[track_caller]
    pub fn git(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command("git").args(words).output().unwrap();
        assert!(status.success(), "git {words:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    /// Runs `ship` to its end.
    #[track_caller]
    pub fn ship(&self, words: &[&str]) -> Ran {
        self.start(words).ends()
    }

    /// Starts `ship`.
    pub fn start(&self, words: &[&str]) -> Running {
        Running::start(self.ship_command(words))
    }

    /// `ship` with its arguments, ready to start.
    pub fn ship_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_ship"));
        let (first, rest) = words.split_first().unwrap();
        command.arg(first).arg("--ssh-config").arg(self.at("ssh_config")).args(rest);
        command
    }

    /// A program in the project's folder that sees nothing of the real account.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.at("home"))
            .env("USER", "tester")
            .env("LANG", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.org");
        }
        command
    }

    /// A gate that steps of the recipe can wait at.
    pub fn gate(&self) -> Gate {
        Gate::new(self.at(&format!("gate{}", self.gates.fetch_add(1, Ordering::Relaxed))))
    }

    /// Every host serves every file of the commit `version`, and holds no lock.
    #[track_caller]
    pub fn serves(&self, version: &str) {
        for host in &self.hosts {
            self.host_serves(&host.name, version);
            assert!(host.unlocked(), "{} is locked", host.name);
        }
    }

    /// Every host serves the files of the commit `version` and no other.
    #[track_caller]
    pub fn serves_exactly(&self, version: &str) {
        self.serves(version);
        for host in &self.hosts {
            let mut live = host.live_tree();
            live.retain(|_, entry| !matches!(entry, Entry::Folder(_)));
            let commits = self.commits.lock().unwrap();
            let lost: Vec<_> = live.keys().filter(|path| !commits[version].contains_key(*path)).collect();
            assert!(lost.is_empty(), "{}: {lost:?}", host.name);
        }
    }

    /// One host serves every file of the commit `version`.
    #[track_caller]
    pub fn host_serves(&self, name: &str, version: &str) {
        let host = self.host(name);
        assert_eq!(host.version().as_deref(), Some(version), "{name}");
        let live = host.live_tree();
        for (path, entry) in &self.commits.lock().unwrap()[version] {
            assert_eq!(live.get(path), Some(entry), "{name}: {}", String::from_utf8_lossy(path));
        }
    }

    /// The one release that every host has live.
    #[track_caller]
    pub fn release(&self) -> String {
        let all: Vec<_> = self.hosts.iter().map(Host::current).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.into_iter().flatten().next().expect("nothing is live")
    }

    /// Whether any file below `folder` holds `text`: the paths of those that do.
    pub fn holding(folder: &Path, text: &str) -> Vec<String> {
        let found = tree(folder).into_iter().filter(|(_, entry)| match entry {
            Entry::File(_, content) => content.windows(text.len()).any(|window| window == text.as_bytes()),
            Entry::Folder(_) | Entry::Link(_) => false,
        });
        found.map(|(path, _)| String::from_utf8_lossy(&path).into_owned()).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for host in &self.hosts {
            let folder = host.root.parent().and_then(Path::parent).map(Path::to_owned);
            let _ = folder.map(fs::remove_dir_all);
        }
    }
}

/// The server at `index` that tests share: it runs for as long as any of them uses it.
fn shared(index: usize) -> Arc<Sshd> {
    static SERVERS: Mutex<Vec<Weak<Sshd>>> = Mutex::new(Vec::new());
    let mut servers = SERVERS.lock().unwrap();
    if servers.len() <= index {
        servers.resize(index + 1, Weak::new());
    }
    servers[index].upgrade().unwrap_or_else(|| {
        let server = Arc::new(Sshd::start(Options::default()));
        servers[index] = Arc::downgrade(&server);
        server
    })
}
