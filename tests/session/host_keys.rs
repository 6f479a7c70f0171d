//! Whose host key is trusted: the table of cases, each also put to the real `ssh`, which ship must never outdo.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ship::secret::Secret;
use ship::session::{ConnectError, Connector, NoPrompt, Prompt, Settings};
use ship::target::Target;

use crate::session::sshd::{Options, Sshd, keygen, read_key};

/// A name that stands in `HostKeyAlias`.
const NAME: &str = "web.example.org";

/// Keys that are the server's, not the server's, and authorities.
struct Keys {
    host: String,
    other: String,
    other_type: String,
    authority: String,
}

impl Keys {
    fn of(sshd: &Sshd) -> Self {
        let make = |name: &str, kind: &str| {
            let file = sshd.folder().join(name);
            keygen(&["-t", kind, "-N", ""], &file);
            read_key(&file.with_extension("pub"))
        };
        Self {
            host: sshd.host_key.clone(),
            other: make("other", "ed25519"),
            other_type: make("other_type", "ecdsa"),
            authority: make("authority", "ed25519"),
        }
    }
}

/// Settings whose `ssh_config` says `lines` and reads `known_hosts`.
fn settings(sshd: &Sshd, known_hosts: &Path, lines: &str) -> Settings {
    let file = sshd.folder().join(format!("config-{}", known_hosts.file_name().unwrap().to_string_lossy()));
    fs::write(
        &file,
        format!(
            "Host *\n{lines}\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n IdentityFile none\n IdentityAgent none\n",
            known_hosts.display()
        ),
    )
    .unwrap();
    Settings { ssh_config: Some(file), ..sshd.settings() }
}

async fn ship_connects(target: &Target, settings: &Settings) -> Result<(), ConnectError> {
    let connected = Connector::new(settings.clone(), Arc::new(NoPrompt)).connect(target).await?;
    connected.session.close().await;
    Ok(())
}

/// Whether the real client is content with the host key. It never gets as far as a login.
fn ssh_is_content(target: &Target, settings: &Settings) -> bool {
    let output = Command::new("ssh")
        .arg("-F")
        .arg(settings.ssh_config.as_ref().unwrap())
        .args(["-o", "BatchMode=yes", "-o", "PreferredAuthentications=none", "-p", &target.port.unwrap().to_string()])
        .args([target.address.as_str(), "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Permission denied") != said.contains("Host key verification failed"), "{said}");
    said.contains("Permission denied")
}

#[tokio::test]
async fn the_table_of_known_hosts_and_the_real_ssh_agree() {
    let sshd = Sshd::start(Options::default());
    let Keys { host, other, other_type, authority } = Keys::of(&sshd);
    let port = sshd.port;
    let hashed = {
        let file = sshd.folder().join("to-hash");
        fs::write(&file, format!("{NAME} {host}\n")).unwrap();
        assert!(Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(&file).output().unwrap().status.success());
        fs::read_to_string(&file).unwrap()
    };
    let long = "x".repeat(1_000_000);
    let rows: Vec<(&str, String, bool)> = vec![
        ("known", format!("{NAME} {host}"), true),
        ("known, in other case", format!("WEB.Example.ORG {host}"), true),
        ("another key of the type", format!("{NAME} {other}"), false),
        ("only another type", format!("{NAME} {other_type}"), false),
        ("two keys of one type", format!("{NAME} {other}\n{NAME} {host}"), true),
        ("nothing", String::new(), false),
        ("another host", format!("mail.example.org {host}"), false),
        ("revoked", format!("{NAME} {host}\n@revoked {NAME} {host}"), false),
        ("revoked for all", format!("{NAME} {host}\n@revoked * {host}"), false),
        ("revoked for another", format!("{NAME} {host}\n@revoked mail {host}"), true),
        ("another key revoked", format!("{NAME} {host}\n@revoked * {other}"), true),
        ("wildcard", format!("*.example.org {host}"), true),
        ("question marks", format!("w?b.example.org {host}"), true),
        ("negated", format!("*.example.org,!{NAME} {host}"), false),
        ("negated first", format!("!{NAME},*.example.org {host}"), false),
        ("list", format!("a,{NAME},b {host}"), true),
        ("hashed", hashed.clone(), true),
        (
            "hashed, of another key",
            hashed.replace(host.split(' ').nth(1).unwrap(), other.split(' ').nth(1).unwrap()),
            false,
        ),
        ("authority without certificate", format!("@cert-authority {NAME} {authority}"), false),
        ("the key as authority only", format!("@cert-authority {NAME} {host}"), false),
        ("tabs", format!("{NAME}\t{host}"), true),
        ("indented", format!("   {NAME} {host}"), true),
        ("carriage returns", format!("# dos\r\n{NAME} {host}\r\n"), true),
        ("no final line end", format!("# x\n{NAME} {host}"), true),
        ("bad line first", format!("{NAME} ssh-ed25519 AAAA####\n{NAME} {host}"), true),
        ("long line first", format!("{long} {host}\n{NAME} {host}"), true),
        ("NUL in a line", format!("{NAME}\0 {host}"), false),
        ("byte order mark", format!("\u{feff}{NAME} {host}"), false),
        ("unknown marker", format!("@what {NAME} {host}"), false),
        ("two markers", format!("@revoked @revoked {NAME} {host}\n{NAME} {host}"), true),
        ("marker without host", format!("@revoked {host}\n{NAME} {host}"), true),
        ("with another port", format!("[{NAME}]:{port} {host}"), false),
        ("commented out", format!("# {NAME} {host}"), false),
        ("wrong type name", format!("{NAME} {}", host.replace("ssh-ed25519", "ssh-rsa")), false),
    ];
    let target = sshd.target();
    for (at, (row, text, expected)) in rows.iter().enumerate() {
        let file = sshd.folder().join(format!("row-{at}"));
        fs::write(&file, text).unwrap();
        let settings = settings(&sshd, &file, &format!(" HostKeyAlias {NAME}\n StrictHostKeyChecking yes"));
        assert_eq!(ship_connects(&target, &settings).await.is_ok(), *expected, "ship: {row}");
        // Here OpenSSH reads on behind the end of its string.
        let theirs = *expected || *row == "NUL in a line";
        assert_eq!(ssh_is_content(&target, &settings), theirs, "ssh: {row}");
    }
    // The same by address and port.
    for (row, text, expected) in [
        ("with the port", format!("[127.0.0.1]:{port} {host}"), true),
        ("another port", format!("[127.0.0.1]:{} {host}", port ^ 1), false),
        ("without the port, as OpenSSH allows", format!("127.0.0.1 {host}"), true),
        ("another key with the port", format!("[127.0.0.1]:{port} {other}\n127.0.0.1 {host}"), false),
    ] {
        let file = sshd.folder().join("port-row");
        fs::write(&file, text).unwrap();
        let settings = settings(&sshd, &file, " StrictHostKeyChecking yes");
        assert_eq!(ship_connects(&target, &settings).await.is_ok(), expected, "ship: {row}");
        assert_eq!(ssh_is_content(&target, &settings), expected, "ssh: {row}");
    }
}

#[tokio::test]
async fn ship_is_never_content_where_ssh_is_not() {
    let sshd = Sshd::start(Options::default());
    let Keys { host, other, other_type, authority } = Keys::of(&sshd);
    let lines = [
        format!("{NAME} {host}"),
        format!("{NAME} {other}"),
        format!("{NAME} {other_type}"),
        format!("@revoked {NAME} {host}"),
        format!("@revoked *.example.org {other}"),
        format!("@cert-authority * {authority}"),
        format!("!{NAME},* {host}"),
        format!("* {host}"),
        format!("@revoked !{NAME},* {host}"),
        "garbage".to_owned(),
        format!("{NAME} ssh-ed25519 {host}"),
    ];
    let mut agreed = 0;
    for round in 0_usize..40 {
        // Every round another mixture, the same in every run.
        let mixture: Vec<&str> = (0..lines.len())
            .filter(|at| (round.wrapping_mul(2_654_435_761) >> at) & 1 == 1)
            .map(|at| lines[(at + round) % lines.len()].as_str())
            .collect();
        let file = sshd.folder().join(format!("mixture-{round}"));
        fs::write(&file, mixture.join("\n")).unwrap();
        let settings = settings(&sshd, &file, &format!(" HostKeyAlias {NAME}\n StrictHostKeyChecking yes"));
        let (ours, theirs) =
            (ship_connects(&sshd.target(), &settings).await.is_ok(), ssh_is_content(&sshd.target(), &settings));
        assert!(!ours || theirs, "ship alone is content with:\n{}", mixture.join("\n"));
        agreed += usize::from(ours == theirs);
    }
    assert_eq!(agreed, 40);
}

#[tokio::test]
async fn what_is_refused_says_what_to_do() {
    let sshd = Sshd::start(Options::default());
    let keys = Keys::of(&sshd);
    let file = sshd.folder().join("kh");
    let (target, port) = (sshd.target(), sshd.port);

    fs::write(&file, "").unwrap();
    let error = ship_connects(&target, &settings(&sshd, &file, "")).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with(&format!("the host key of web1 ([127.0.0.1]:{port}) is not known: ssh-ed25519 SHA256:")),
        "{error}"
    );
    let advice = error.advice.unwrap();
    assert!(advice.ends_with(&format!("\n[127.0.0.1]:{port} {}", keys.host)), "{advice}");
    // The line that it printed is the one that helps.
    fs::write(&file, advice.lines().last().unwrap()).unwrap();
    ship_connects(&target, &settings(&sshd, &file, "")).await.unwrap();

    fs::write(&file, format!("# one\n[127.0.0.1]:{port} {}\n", keys.other)).unwrap();
    for checking in ["yes", "ask", "no", "accept-new"] {
        let settings = settings(&sshd, &file, &format!(" StrictHostKeyChecking {checking}"));
        let error = ship_connects(&target, &settings).await.unwrap_err();
        assert!(
            error.message.contains(&format!("has changed: {}:2 says ssh-ed25519 SHA256:", file.display())),
            "{error}"
        );
        assert!(error.advice.unwrap().contains("ssh-keygen -f"), "{checking}");
    }

    // Two files that disagree: the revocation wins. One that cannot be read is not an empty one.
    fs::write(&file, format!("[127.0.0.1]:{port} {}\n", keys.host)).unwrap();
    let second = sshd.folder().join("kh2");
    fs::write(&second, format!("@revoked * {}\n", keys.host)).unwrap();
    let both = format!(" UserKnownHostsFile {} {}", file.display(), second.display());
    let error = ship_connects(&target, &settings(&sshd, &file, &both)).await.unwrap_err();
    assert!(error.message.contains(&format!("is revoked by {}:1", second.display())), "{error}");
    let folder = format!(" UserKnownHostsFile {} {}", file.display(), sshd.home.display());
    let error = ship_connects(&target, &settings(&sshd, &file, &folder)).await.unwrap_err();
    assert!(error.message.contains("cannot be read"), "{error}");
    fs::write(&second, format!("{}\n", keys.host)).unwrap();
    let revoked = format!(" RevokedHostKeys {}", second.display());
    let error = ship_connects(&target, &settings(&sshd, &file, &revoked)).await.unwrap_err();
    assert!(error.message.contains("is revoked by"), "{error}");
}

/// Says yes to host keys, and counts.
struct Yes(AtomicUsize);

impl Prompt for Yes {
    fn trust_host_key(&self, host: &str, key_type: &str, fingerprint: &str) -> bool {
        assert!(host.starts_with("[127.0.0.1]:") && key_type == "ssh-ed25519" && fingerprint.starts_with("SHA256:"));
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn secret(&self, _: &str) -> Option<Secret> {
        None
    }
}

#[tokio::test]
async fn an_unknown_host_is_asked_about_once_and_remembered() {
    let sshd = Sshd::start(Options::default());
    let file = sshd.folder().join("new/known_hosts");
    let settings = settings(&sshd, &file, " HashKnownHosts yes");
    let yes = Arc::new(Yes(AtomicUsize::new(0)));
    let connector = Connector::new(settings, yes.clone());
    let target = sshd.target();
    let (one, two) = tokio::join!(connector.connect(&target), connector.connect(&target));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(yes.0.load(Ordering::Relaxed), 1);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && text.lines().count() == 1, "{text}");
}

#[tokio::test]
async fn accept_new_and_no_take_unknown_hosts_only() {
    let sshd = Sshd::start(Options::default());
    for checking in ["no", "accept-new"] {
        let file = sshd.folder().join(format!("kh-{checking}"));
        let settings = settings(&sshd, &file, &format!(" StrictHostKeyChecking {checking}"));
        ship_connects(&sshd.target(), &settings).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("[127.0.0.1]:{} {}\n", sshd.port, sshd.host_key));
    }
}

#[tokio::test]
async fn pinned_keys_are_the_only_ones() {
    let sshd = Sshd::start(Options { config: vec!["HostKey FOLDER/host_ecdsa".to_owned()], ..Options::default() });
    let keys = Keys::of(&sshd);
    let fingerprint = |file: &str| {
        let output = Command::new("ssh-keygen").arg("-lf").arg(sshd.folder().join(file)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    let empty = sshd.folder().join("empty");
    fs::write(&empty, "").unwrap();
    let settings = settings(&sshd, &empty, "");
    let pinned = |pin: &str| Target { host_keys: vec![pin.to_owned()], ..sshd.target() };
    // Both of the server's keys, in both forms, though only one is shown at a time.
    for pin in [
        keys.host.clone(),
        fingerprint("host_ed25519.pub"),
        read_key(&sshd.folder().join("host_ecdsa.pub")),
        fingerprint("host_ecdsa.pub"),
    ] {
        ship_connects(&pinned(&pin), &settings).await.unwrap_or_else(|error| panic!("{pin}: {error}"));
    }
    for pin in [keys.other.clone(), fingerprint("other.pub"), keys.other_type.clone()] {
        let error = ship_connects(&pinned(&pin), &settings).await.unwrap_err();
        assert!(error.message.contains("not the one that the inventory pins"), "{error}");
    }
    let error = ship_connects(&pinned("AAAA"), &settings).await.unwrap_err();
    assert!(error.message.contains("cannot be read: AAAA"), "{error}");
}

#[tokio::test]
async fn host_certificates_are_for_this_host_now_and_from_a_trusted_authority() {
    let sshd = Sshd::start(Options {
        config: vec!["HostCertificate FOLDER/host_ed25519-cert.pub".to_owned()],
        ..Options::default()
    });
    let file = sshd.folder().join("kh");
    let authority = read_key(&sshd.folder().join("ca.pub"));
    let Keys { other, host, .. } = Keys::of(&sshd);
    let alias = |name: &str| settings(&sshd, &file, &format!(" HostKeyAlias {name}\n StrictHostKeyChecking yes"));
    let cases = [
        ("the right one", format!("@cert-authority *.example.org {authority}"), NAME, true),
        ("another principal", format!("@cert-authority *.example.org {authority}"), "mail.example.org", false),
        ("another authority", format!("@cert-authority *.example.org {other}"), NAME, false),
        ("authority of other hosts", format!("@cert-authority *.example.net {authority}"), NAME, false),
        ("authority revoked", format!("@cert-authority * {authority}\n@revoked * {authority}"), NAME, false),
        ("key revoked", format!("@cert-authority * {authority}\n@revoked * {host}"), NAME, false),
        (
            "another principal, but the key is known",
            format!("@cert-authority * {authority}\nmail.example.org {host}"),
            "mail.example.org",
            true,
        ),
        ("only the key is known", format!("{NAME} {host}"), NAME, true),
    ];
    for (case, text, name, expected) in cases {
        fs::write(&file, text).unwrap();
        assert_eq!(ship_connects(&sshd.target(), &alias(name)).await.is_ok(), expected, "ship: {case}");
        assert_eq!(ssh_is_content(&sshd.target(), &alias(name)), expected, "ssh: {case}");
    }
    // By address and port: the authority is recorded without the port, as usual.
    fs::write(&file, format!("@cert-authority 127.0.0.1 {authority}")).unwrap();
    ship_connects(&sshd.target(), &settings(&sshd, &file, "")).await.unwrap();

    for (options, reason) in [
        (vec!["-V", "-2d:-1d"], "expired"),
        (vec!["-V", "+1d:+2d"], "expired"),
        (vec!["-O", "critical:x@example.org=y"], "demands `x@example.org`"),
    ] {
        let mut arguments = vec!["-h", "-n", NAME];
        arguments.extend(options);
        sshd.sign_host(&arguments);
        fs::write(&file, format!("@cert-authority *.example.org {authority}")).unwrap();
        let error = ship_connects(&sshd.target(), &alias(NAME)).await.unwrap_err();
        assert!(error.message.contains("certificate") && error.message.contains(reason), "{error}");
        assert!(!ssh_is_content(&sshd.target(), &alias(NAME)), "{reason}");
    }
}
