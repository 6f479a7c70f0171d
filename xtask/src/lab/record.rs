//! `lab.json`: what the tests need to know about the lab's hosts.

use std::fmt::Write as _;
use std::path::Path;

use crate::failure::Result;
use crate::lab::access::{self, Files};
use crate::lab::machine::Login;

/// A host that is up.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in `ssh_config` and on the lab's network.
    pub name: String,
    /// The port of 127.0.0.1 that leads to its sshd.
    pub port: u16,
    /// The port of 127.0.0.1 that leads to its port 80.
    pub http_port: u16,
    /// The port of 127.0.0.1 that leads to its port 443, where that is published.
    pub https_port: Option<u16>,
    /// Its address on the lab's network, for connections from another host.
    pub inner_address: String,
    /// The user who deploys.
    pub user: String,
    /// The container it runs in.
    pub container: String,
    /// How the user logs in.
    pub login: Login,
}

/// Writes `lab.json` into the lab's folder.
pub fn write(lab: &Path, files: &Files, docker: &[String], hosts: &[Host]) -> Result<()> {
    access::write(&lab.join("lab.json"), 0o644, &text(files, docker, hosts))
}

fn text(files: &Files, docker: &[String], hosts: &[Host]) -> String {
    let path = |path: &Path| quoted(&path.display().to_string());
    let docker: Vec<String> = docker.iter().map(|word| quoted(word)).collect();
    let hosts: Vec<String> = hosts
        .iter()
        .map(|host| {
            let mut fields = vec![
                format!("\"name\": {}", quoted(&host.name)),
                "\"address\": \"127.0.0.1\"".to_owned(),
                format!("\"port\": {}", host.port),
                format!("\"http_port\": {}", host.http_port),
                format!("\"inner_address\": {}", quoted(&host.inner_address)),
                format!("\"user\": {}", quoted(&host.user)),
                format!("\"container\": {}", quoted(&host.container)),
                format!("\"known_hosts\": {}", path(&files.known_hosts)),
            ];
            fields.extend(host.https_port.map(|port| format!("\"https_port\": {port}")));
            fields.push(match host.login {
                Login::Key => format!("\"identity_file\": {}", path(&files.key)),
                Login::Password => format!("\"password_file\": {}", path(&files.password)),
            });
            format!("    {{\n      {}\n    }}", fields.join(",\n      "))
        })
        .collect();
    format!(
        "{{\n  \"docker\": [{}],\n  \"ssh_config\": {},\n  \"hosts\": [\n{}\n  ]\n}}\n",
        docker.join(", "),
        path(&files.ssh_config),
        hosts.join(",\n")
    )
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Host, quoted, text};
    use crate::lab::access::Files;
    use crate::lab::machine::Login;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }

    #[test]
    fn a_host_is_written_with_its_way_in() {
        let host = Host {
            name: "web1".into(),
            port: 2201,
            http_port: 8081,
            https_port: Some(8441),
            inner_address: "172.18.0.2".into(),
            user: "deployer".into(),
            container: "ship-lab-web1".into(),
            login: Login::Key,
        };
        let text = text(&Files::of(Path::new("/lab")), &["docker".into()], &[host]);
        assert!(text.contains("\"identity_file\": \"/lab/id_ed25519\"\n    }"), "{text}");
        assert!(text.contains("\"https_port\": 8441,") && !text.contains("password_file"), "{text}");
    }
}
