//! What a host gets after its start: the user, the login, and the machine's own way to the package registries.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::lab::engine::Engine;
use crate::lab::machine::{Design, Kind, Login};
use crate::lab::sources::Distribution;

/// The machine's certificates, and where they go on a host.
pub const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// pip's settings for the whole machine, and where they go on a host.
pub const PIP_SETTINGS: &str = "/etc/pip.conf";

/// The variables through which programs find the certificates of a machine.
pub const CERTIFICATE_VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"];

/// The environment that decides how pip and its kin reach their registry. Names of local folders stay behind.
const ENVIRONMENT: [&str; 12] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// How long a host may take until systemd says that it is up.
const BOOT: Duration = Duration::from_secs(90);

/// The secrets of the lab that a host must know.
#[derive(Debug)]
pub struct Credentials {
    /// The line of the lab's public key.
    pub public_key: String,
    /// The password of the users who log in with one.
    pub password: String,
}

/// Waits until systemd has started everything.
pub fn wait_for_boot(engine: &Engine, container: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        // `is-system-running` says "degraded" with exit status 1, so its words decide.
        let question = "systemctl is-system-running || true";
        let state = engine.docker(["exec", container, "sh", "-c", question]).read().unwrap_or_default();
        match state.trim() {
            "running" => return Ok(()),
            "degraded" => {
                let failed =
                    engine.docker(["exec", container, "systemctl", "--failed", "--plain", "--no-legend"]).read()?;
                println!("{container}: some units failed: {}", failed.trim());
                return Ok(());
            }
            state if started.elapsed() > BOOT => {
                return Err(Failure::new(format!(
                    "{container} is not up after {} s: systemd says '{state}'. Look with: docker exec -it {container} bash",
                    BOOT.as_secs()
                )));
            }
            _ => std::thread::sleep(Duration::from_millis(250)),
        }
    }
}

/// Gives a host what it must have. Doing it again changes nothing.
pub fn provision(
    engine: &Engine,
    container: &str,
    design: Design,
    credentials: &Credentials,
    machine: &Distribution,
) -> Result<()> {
    let script = script(design, credentials, machine);
    engine.docker(["exec", "--interactive", container, "sh", "-eu"]).input(script).read().map(drop)
}

fn script(design: Design, credentials: &Credentials, machine: &Distribution) -> String {
    let user = design.user;
    let mut script = format!("id -u {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {user}\n");
    match design.login {
        Login::Key => {
            // A star is a password that nothing matches, while the account is not locked.
            script.push_str(&format!(
                "usermod --password '*' {user}\n\
                 install -d -m 0700 -o {user} -g {user} /home/{user}/.ssh\n\
                 cd /home/{user}/.ssh\n\
                 grep -qxF '{key}' authorized_keys 2>/dev/null || printf '%s\\n' '{key}' >> authorized_keys\n\
                 chown {user}:{user} authorized_keys\nchmod 0600 authorized_keys\n",
                key = credentials.public_key.trim(),
            ));
            if design.kind == Kind::Dock {
                script.push_str(&format!("usermod --append --groups docker {user}\n"));
            }
        }
        Login::Password => {
            script.push_str(&format!(
                "usermod --append --groups sudo {user}\nprintf '%s\\n' '{user}:{}' | chpasswd\n",
                credentials.password
            ));
        }
    }
    let passwords = if design.login == Login::Password { "yes" } else { "no" };
    script.push_str(&format!(
        "if ! grep -qsx 'PasswordAuthentication {passwords}' /etc/ssh/sshd_config.d/lab.conf; then\n\
         printf '%s\\n' 'PasswordAuthentication {passwords}' > /etc/ssh/sshd_config.d/lab.conf\n\
         systemctl reload ssh\nfi\n"
    ));
    script.push_str(&file("/etc/apt/sources.list", &machine.sources_list));
    for path in [CERTIFICATES, PIP_SETTINGS] {
        if let Ok(text) = std::fs::read_to_string(Path::new(path)) {
            script.push_str(&file(path, &text));
        }
    }
    let certificates = CERTIFICATE_VARIABLES.iter().map(|name| (*name, CERTIFICATES.to_owned()));
    let environment: String =
        environment().chain(certificates).map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
    script.push_str(&file("/etc/environment", &environment));
    script
}

/// The variables of `ENVIRONMENT` that this machine has set.
pub fn environment() -> impl Iterator<Item = (&'static str, String)> {
    ENVIRONMENT.into_iter().filter_map(|name| std::env::var(name).ok().map(|value| (name, value)))
}

/// Shell text that writes a file.
pub fn file(path: &str, text: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("cat > {path} <<'END-OF-{path}'\n{text}{end}END-OF-{path}\n")
}

#[cfg(test)]
mod tests {
    use super::{Credentials, file, script};
    use crate::lab::machine::HOSTS;
    use crate::lab::sources::Distribution;

    fn scripts() -> Vec<String> {
        let credentials = Credentials { public_key: "ssh-ed25519 AAAA lab\n".into(), password: "pw".into() };
        let machine = Distribution {
            codename: "bookworm".into(),
            archive: "http://a.example.org".into(),
            components: vec!["main".into()],
            keyring: None,
            sources_list: "deb http://a.example.org bookworm main\n".into(),
        };
        HOSTS.iter().map(|design| script(*design, &credentials, &machine)).collect()
    }

    #[test]
    fn a_host_with_keys_has_no_password_and_the_other_way_round() {
        let scripts = scripts();
        assert!(scripts[0].contains("'ssh-ed25519 AAAA lab'") && !scripts[0].contains("chpasswd"));
        assert!(scripts[0].contains("PasswordAuthentication no"));
        assert!(scripts[3].contains("doodle:pw") && !scripts[3].contains("authorized_keys"));
        assert!(!scripts[0].contains("sudo"), "nobody but the password user is given rights");
        assert!(scripts[4].contains("--groups docker deployer") && !scripts[4].contains("sudo"));
        assert!(scripts[5].contains("--groups sudo doodle") && !scripts[5].contains("docker"));
    }

    #[test]
    fn a_file_ends_with_one_line_end() {
        assert_eq!(file("/x", "a"), "cat > /x <<'END-OF-/x'\na\nEND-OF-/x\n");
        assert_eq!(file("/x", ""), "cat > /x <<'END-OF-/x'\nEND-OF-/x\n");
    }
}
