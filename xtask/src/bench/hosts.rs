//! The servers of the benchmark: ten containers of the lab's kind, each with five sshd, which makes up to fifty hosts.
//!
//! What they run is real: OpenSSH's sshd as Debian sets it up, sudo with one rule, nginx as the service to restart under
//! a systemd of their own. Ten hosts are ten containers. Fifty are only asked to run one command, so there five share
//! a container, each behind an sshd of its own with its own limits.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::delay;
use crate::failure::{During as _, Failure, Result};
use crate::lab::{self, Design, Engine, Fleet, Kind, Login};
use crate::workspace;

/// The containers.
const NAMES: [&str; 10] =
    ["bench01", "bench02", "bench03", "bench04", "bench05", "bench06", "bench07", "bench08", "bench09", "bench10"];

/// The ports of their sshd.
const PORTS: [u16; 5] = [22, 2222, 2223, 2224, 2225];

/// How long a byte is on the way to a distant host: a round trip of 50 ms.
const ONE_WAY: Duration = Duration::from_millis(25);

/// What each container gets. The user's own systemd stays up between logins, and nginx may start as often as it likes:
/// neither would happen every few seconds outside of a benchmark.
///
/// Releases are in memory. On a disk that other programs use too, that disk would be what is measured: removing a row's
/// hundred thousand files alone took it minutes. rsync gets its updates: the one that Debian 12 came with throws away what
/// it put together out of parts of a file in `--link-dest`.
const PROVISION: &str = r#"
mountpoint -q /srv || mount -t tmpfs -o mode=0755,size=16g bench /srv
if ! [ -e /var/lib/bench-updated ]; then
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --only-upgrade install rsync
    touch /var/lib/bench-updated
fi
systemctl disable --now --quiet postgresql redis-server
loginctl enable-linger deployer
cat > /etc/sudoers.d/bench <<'END'
deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart nginx
END
chmod 0440 /etc/sudoers.d/bench
visudo -cqf /etc/sudoers.d/bench
mkdir -p /etc/systemd/system/nginx.service.d
printf '%s\n' '[Unit]' 'StartLimitIntervalSec=0' > /etc/systemd/system/nginx.service.d/often.conf
cat > /etc/nginx/sites-enabled/default <<'END'
server {
    listen 80 default_server;
    location ~ ^/([a-z]+)/(.*)$ { alias /srv/$1/current/public/$2; }
}
END
cat > /etc/systemd/system/ssh-at@.service <<'END'
[Unit]
Description=An sshd more, on port %i
[Service]
Type=notify
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
ExecStart=/usr/sbin/sshd -D -p %i -o PidFile=none
END
systemctl daemon-reload
systemctl restart nginx
systemctl start ssh-at@2222 ssh-at@2223 ssh-at@2224 ssh-at@2225
"#;

/// Empties the place of one tool: no release, no lock, and the two things that are shared.
const RESET: &str = r#"
rm -rf "/srv/$1"
install -d -o deployer -g deployer "/srv/$1" "/srv/$1/releases" "/srv/$1/shared" "/srv/$1/shared/media"
install -o deployer -g deployer -m 0600 /dev/null "/srv/$1/shared/.env"
"#;

/// The servers, and two ways to them.
#[derive(Debug)]
pub struct Hosts {
    fleet: Fleet,
    folder: PathBuf,
}

impl Hosts {
    /// Brings them up, or finds them up.
    pub fn up() -> Result<Self> {
        let folder = folder()?;
        let design = |name| Design { name, user: "deployer", login: Login::Key, kind: Kind::Web };
        let fleet = lab::fleet(&folder, &NAMES.map(design))?;
        lab::in_parallel(&fleet.hosts, |host| {
            fleet.engine.docker(["exec", "--interactive", &host.container, "sh", "-eu"]).input(PROVISION).read()
        })?;
        let hosts = Self { fleet, folder };
        hosts.write_ways()?;
        Ok(hosts)
    }

    /// Removes them, whoever brought them up.
    pub fn remove() -> Result<()> {
        let folder = folder()?;
        if let Some(engine) = Engine::find() {
            lab::remove_fleet(&engine, &folder)?;
        }
        fs::remove_dir_all(&folder).during(format_args!("remove {}", folder.display()))
    }

    /// The names of the first so many hosts.
    pub fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("h{number:02}")).collect()
    }

    /// How many hosts there are.
    pub const COUNT: usize = NAMES.len() * PORTS.len();

    /// The `ssh_config` of the way to them.
    pub fn ssh_config(&self, distant: bool) -> PathBuf {
        self.folder.join(if distant { "distant_config" } else { "near_config" })
    }

    /// Empties the place of a tool on the first so many hosts.
    pub fn reset(&self, place: &str, count: usize) -> Result<()> {
        self.inside(count, &["sh", "-euc", RESET, "sh", place]).map(drop)
    }

    /// What a command says inside each container that stands for one of the first so many hosts.
    pub fn inside(&self, count: usize, words: &[&str]) -> Result<Vec<String>> {
        let hosts: Vec<&lab::Host> = self.fleet.hosts.iter().take(count).collect();
        lab::in_parallel(&hosts, |host| {
            self.fleet.engine.docker(["exec", &host.container]).args(words.iter().copied()).read()
        })
    }

    /// How many bytes have crossed the network cards of these containers, in both directions, headers included.
    pub fn bytes_on_the_wire(&self, count: usize) -> Result<u64> {
        let said = self.inside(count, &["cat", "/proc/net/dev"])?;
        Ok(said.iter().map(|text| bytes_of_card(text)).sum())
    }

    /// Writes the two ways: straight to the containers, and through a long way for each sshd.
    fn write_ways(&self) -> Result<()> {
        let keys = fs::read_to_string(&self.fleet.files.known_hosts).during("read the host keys")?;
        let (mut near, mut distant, mut known) = (String::new(), String::new(), String::new());
        for (index, name) in Self::names(Self::COUNT).iter().enumerate() {
            let missing = || Failure::new(format!("There is no container for {name}."));
            let host = self.fleet.hosts.get(index % NAMES.len()).ok_or_else(missing)?;
            let port = PORTS.get(index / NAMES.len()).copied().ok_or_else(missing)?;
            let inner: IpAddr = host.inner_address.parse().map_err(|_| missing())?;
            let straight = SocketAddr::new(inner, port);
            let long = delay::open(straight, ONE_WAY)?;
            near.push_str(&self.section(name, straight));
            distant.push_str(&self.section(name, long));
            let tag = format!(",{},", host.name);
            for key in keys.lines().filter(|line| line.contains(&tag)).filter_map(|line| line.split_once(' ')) {
                for address in [straight, long] {
                    // Writing to a string cannot fail.
                    let _ = match address.port() {
                        22 => writeln!(known, "{name},{} {}", address.ip(), key.1),
                        port => writeln!(known, "{name},[{}]:{port} {}", address.ip(), key.1),
                    };
                }
            }
        }
        write(&self.known_hosts(), &known)?;
        write(&self.ssh_config(false), &near)?;
        write(&self.ssh_config(true), &distant)
    }

    fn known_hosts(&self) -> PathBuf {
        self.folder.join("bench_known_hosts")
    }

    fn section(&self, name: &str, address: SocketAddr) -> String {
        format!(
            "Host {name}\n    HostName {}\n    Port {}\n    User deployer\n    IdentityFile {}\n    IdentitiesOnly yes\n    \
             UserKnownHostsFile {}\n    StrictHostKeyChecking yes\n\n",
            address.ip(),
            address.port(),
            self.fleet.files.key.display(),
            self.known_hosts().display()
        )
    }
}

/// The folder of their keys and settings, which also tells them from the lab's own servers.
fn folder() -> Result<PathBuf> {
    let folder = workspace::lab()?.join("bench");
    fs::create_dir_all(&folder).during(format_args!("make {}", folder.display()))?;
    Ok(folder)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).during(format_args!("write {}", path.display()))
}

/// Received and sent bytes of `eth0` in the text of `/proc/net/dev`.
fn bytes_of_card(text: &str) -> u64 {
    let Some(numbers) = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")) else { return 0 };
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // The first number is what was received, the ninth what was sent (proc(5)).
    numbers.first().copied().unwrap_or_default() + numbers.get(8).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Hosts, bytes_of_card};

    #[test]
    fn both_directions_of_the_card_count() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
                    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1000 10 0 0 0 0 0 0 234 3 0 0 0 0 0 0\n";
        assert_eq!(bytes_of_card(text), 1234);
        assert_eq!(bytes_of_card("lo: 1 2"), 0);
    }

    #[test]
    fn there_are_fifty_hosts() {
        let names = Hosts::names(Hosts::COUNT);
        assert_eq!((names.len(), names.last().map(String::as_str)), (50, Some("h50")));
    }
}
