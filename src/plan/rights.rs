//! What `sudo -l` says a user may do, compared with what a plan needs: what is missing, what is more than that.
//!
//! The listing has aliases expanded, and shows blanks in arguments without their escapes, so that commands are
//! compared as text without backslashes. Whether sudo allows a command is asked of sudo itself; what is read
//! here is whether it wants a password for it, and what else it would allow.

use crate::command::ANY_ARGUMENTS;

/// One command that a listing allows or forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who it may be run as: `root`, `ALL : ALL`, `www-data`.
    pub run_as: String,
    /// Whether a password is wanted.
    pub password: bool,
    /// Whether the caller may set its environment.
    pub set_environment: bool,
    /// Whether it is forbidden.
    pub negated: bool,
    /// The command as the listing has it, without tags and digests.
    pub command: String,
}

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// In the order of the listing, in which the last that fits decides.
    pub rules: Vec<Rule>,
}

/// Whether a needed command may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Without a password.
    Free,
    /// With a password.
    Password,
    /// Not at all.
    Missing,
}

/// A rule that allows more than is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wider {
    /// The rule, as one would find it.
    pub rule: String,
    /// In what it is wider.
    pub why: &'static str,
}

/// Tags of sudoers(5) that may stand before a command.
const TAGS: &[&str] = &[
    "EXEC",
    "NOEXEC",
    "FOLLOW",
    "NOFOLLOW",
    "INTERCEPT",
    "NOINTERCEPT",
    "LOG_INPUT",
    "NOLOG_INPUT",
    "LOG_OUTPUT",
    "NOLOG_OUTPUT",
    "MAIL",
    "NOMAIL",
    "PASSWD",
    "NOPASSWD",
    "SETENV",
    "NOSETENV",
];

impl Rights {
    /// Reads what `sudo -l` printed.
    pub fn parse(listing: &str) -> Self {
        // A long rule goes on in the next line, indented further than the rule itself.
        let mut lines: Vec<String> = Vec::new();
        let mut defaults = String::new();
        for line in listing.lines() {
            match (line.trim_start().starts_with('(') && line.starts_with([' ', '\t']), lines.last_mut()) {
                (true, _) => lines.push(line.trim().to_owned()),
                (false, Some(rule)) if line.starts_with("     ") || line.starts_with("\t\t") => {
                    rule.push(' ');
                    rule.push_str(line.trim());
                }
                (false, None) => defaults.push_str(line),
                _ => {}
            }
        }
        let free = defaults.split([',', ' ']).any(|word| word == "!authenticate");
        Self { rules: lines.iter().flat_map(|line| read(line, free)).collect() }
    }

    /// Whether `argv` may be run, where sudo itself has said that it is `allowed`.
    pub fn of(&self, argv: &[String], allowed: bool) -> Right {
        if !allowed {
            return Right::Missing;
        }
        match self.rules.iter().rfind(|rule| fits(&rule.command, argv)) {
            Some(Rule { password: false, negated: false, .. }) => Right::Free,
            // A form that is not understood here is taken for the worse case.
            _ => Right::Password,
        }
    }

    /// The rules that allow more than to run `needed` as root.
    pub fn wider(&self, needed: &[Vec<String>]) -> Vec<Wider> {
        let mut found: Vec<Wider> = Vec::new();
        for rule in self.rules.iter().filter(|rule| !rule.negated) {
            let Some(why) = why_wider(rule, needed) else { continue };
            let tag = if rule.password { "" } else { "NOPASSWD: " };
            let wider = Wider { rule: format!("({}) {tag}{}", rule.run_as, rule.command), why };
            if !found.contains(&wider) {
                found.push(wider);
            }
        }
        found
    }
}

fn read(line: &str, free: bool) -> Vec<Rule> {
    let Some((run_as, rest)) = line.strip_prefix('(').and_then(|line| line.split_once(')')) else { return Vec::new() };
    let (mut password, mut set_environment) = (!free, false);
    let mut rules = Vec::new();
    for spec in split(rest) {
        let mut spec = spec.trim();
        loop {
            if let Some((tag, after)) = spec.split_once(": ").filter(|(tag, _)| TAGS.contains(tag)) {
                match tag {
                    "PASSWD" => password = true,
                    "NOPASSWD" => password = false,
                    "SETENV" => set_environment = true,
                    "NOSETENV" => set_environment = false,
                    _ => {}
                }
                spec = after.trim_start();
            } else if let Some((_, after)) = spec.split_once(' ').filter(|(word, _)| is_option(word)) {
                spec = after.trim_start();
            } else {
                break;
            }
        }
        // A digest without its command is one of several in front of the next part.
        if spec.is_empty() || is_option(spec) {
            continue;
        }
        let negated = spec.starts_with('!');
        let command = spec.trim_start_matches('!').trim_start().to_owned();
        rules.push(Rule { run_as: run_as.trim().to_owned(), password, set_environment, negated, command });
    }
    rules
}

/// The commands of a rule: commas that belong to an argument are escaped.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        match (character, parts.last_mut()) {
            (',', _) if !escaped => parts.push(String::new()),
            (_, Some(part)) => part.push(character),
            (_, None) => {}
        }
        escaped = character == '\\' && !escaped;
    }
    parts
}

/// `sha256:…` of a command, or an option such as `CWD=/x` (sudoers(5), `Option_Spec`).
fn is_option(word: &str) -> bool {
    let digest = ["sha224:", "sha256:", "sha384:", "sha512:"].iter().any(|kind| word.starts_with(kind));
    let option = word.split_once('=').is_some_and(|(name, _)| {
        ["CWD", "CHROOT", "TIMEOUT", "NOTBEFORE", "NOTAFTER", "ROLE", "TYPE", "APPARMOR_PROFILE"].contains(&name)
    });
    digest || option
}

fn plain(text: &str) -> String {
    text.replace('\\', "")
}

/// Whether a command of the listing covers `argv`.
fn fits(command: &str, argv: &[String]) -> bool {
    if command == "ALL" {
        return true;
    }
    let wanted = plain(&argv.join(" "));
    let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
    let (own, given) = wanted.split_once(' ').unwrap_or((&wanted, ""));
    if let (true, Some(folder)) = (arguments.is_empty(), program.strip_suffix('/')) {
        return own.rsplit_once('/').is_some_and(|(above, _)| glob(folder, above));
    }
    match arguments {
        "" => glob(program, own),
        "\"\"" => glob(program, own) && given.is_empty(),
        _ => glob(program, own) && glob(arguments, given),
    }
}

/// Whether `text` fits `pattern`, in which `*` and `?` are wildcards and a backslash takes that away.
fn glob(pattern: &str, text: &str) -> bool {
    let mut escaped = false;
    let mut parts: Vec<Option<char>> = Vec::new();
    for character in pattern.chars() {
        match (character, escaped) {
            ('\\', false) => escaped = true,
            ('*', false) => parts.push(None),
            ('?', false) => parts.push(Some('\0')),
            (character, _) => {
                escaped = false;
                parts.push(Some(character));
            }
        }
    }
    let text: Vec<char> = text.chars().collect();
    // Which positions of the text the pattern can have reached so far.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for part in parts {
        let mut next = vec![false; text.len() + 1];
        for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            let after: Box<dyn Iterator<Item = usize>> = match part {
                None => Box::new(at..=text.len()),
                Some(wanted) if text.get(at).is_some_and(|c| wanted == '\0' || *c == wanted) => {
                    Box::new(std::iter::once(at + 1))
                }
                Some(_) => Box::new(std::iter::empty()),
            };
            for position in after {
                if let Some(place) = next.get_mut(position) {
                    *place = true;
                }
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

fn why_wider(rule: &Rule, needed: &[Vec<String>]) -> Option<&'static str> {
    let command = rule.command.as_str();
    let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
    if command == "ALL" {
        return Some("every command");
    }
    if program == "sudoedit" {
        return Some("edits files as root");
    }
    if program.starts_with('^') || arguments.starts_with('^') {
        return Some("a regular expression");
    }
    if has_wildcard(command) {
        return Some("a wildcard: it also matches further words and `..`");
    }
    if program.ends_with('/') {
        return Some("every program of a folder");
    }
    if !needed.iter().any(|argv| fits(command, argv)) {
        return Some("the recipe never runs it");
    }
    let any = |argv: &&Vec<String>| argv.get(1).is_some_and(|word| word == ANY_ARGUMENTS);
    if arguments.is_empty() && !needed.iter().filter(any).any(|argv| fits(command, argv)) {
        return Some("with any arguments; `\"\"` behind it allows none");
    }
    if rule.set_environment {
        return Some("SETENV: with any environment");
    }
    match rule.run_as.split(':').next().unwrap_or_default().trim() {
        "root" => None,
        _ => Some("as others than root"),
    }
}

/// Whether a wildcard stands in `command` that no backslash takes away.
fn has_wildcard(command: &str) -> bool {
    let mut escaped = false;
    command.chars().any(|character| {
        let wild = matches!(character, '*' | '?' | '[') && !escaped;
        escaped = character == '\\' && !escaped;
        wild
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// What sudo 1.9.13 printed, with the rules of a real server, an alias, digests, tags and escapes.
    const LISTING: &str = "\
Matching Defaults entries for doodle on pw1:
    env_reset, mail_badpass, secure_path=/usr/local/sbin\\:/usr/local/bin\\:/usr/sbin, use_pty

User doodle may run the following commands on pw1:
    (ALL : ALL) ALL
    (ALL : ALL) NOPASSWD: /usr/bin/systemctl restart nginx, /usr/bin/systemctl start nginx, /usr/bin/systemctl status nginx
    (ALL : ALL) NOPASSWD: /usr/bin/chown -R deployer\\:deployer /var/www/releases/
    (root) SETENV: NOPASSWD: /usr/bin/systemctl restart app@blue, /usr/local/bin/reload \"\", sha224:aaaa /bin/ls, PASSWD: /bin/cat, !/bin/false
    (www-data : adm) NOPASSWD: /usr/bin/systemctl restart app-*, sudoedit /etc/x y,
        /bin/echo a\\,b\\=c\\d
    (root) NOPASSWD: ^/bin/x.*$, /usr/bin/, /usr/bin/systemctl restart app, !/bin/sh
";

    #[test]
    fn the_last_rule_that_fits_decides_about_the_password() {
        let rights = Rights::parse(LISTING);
        let of = |text: &str| rights.of(&argv(text), true);
        assert_eq!(of("/usr/bin/systemctl restart nginx"), Right::Free);
        assert_eq!(of("/usr/bin/chown -R deployer:deployer /var/www/releases/"), Right::Free);
        assert_eq!(of("/usr/bin/systemctl restart app@blue"), Right::Free);
        assert_eq!(of("/usr/local/bin/reload"), Right::Free);
        assert_eq!(of("/usr/local/bin/reload now"), Right::Password);
        assert_eq!(of("/bin/cat /etc/shadow"), Right::Password);
        assert_eq!(of("/bin/echo a,b=c\\d"), Right::Free);
        assert_eq!(of("/usr/sbin/other"), Right::Password);
        assert_eq!(rights.of(&argv("/usr/bin/systemctl restart nginx"), false), Right::Missing);
        let free = Rights::parse("Matching Defaults entries for a on b:\n    !authenticate\n\n    (root) /bin/x\n");
        // The entries of Defaults are indented like rules, and are none.
        assert_eq!(free.of(&argv("/bin/x"), true), Right::Free);
    }

    #[test]
    fn what_is_wider_than_needed_is_named_with_the_reason() {
        let needed =
            [argv("/usr/bin/systemctl restart nginx"), argv("/usr/bin/systemctl restart app"), argv("/bin/ls -l")];
        let wider = Rights::parse(LISTING).wider(&needed);
        let shown: Vec<String> = wider.iter().map(|wider| format!("{}  # {}", wider.rule, wider.why)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        (ALL : ALL) ALL  # every command
        (ALL : ALL) NOPASSWD: /usr/bin/systemctl restart nginx  # as others than root
        (ALL : ALL) NOPASSWD: /usr/bin/systemctl start nginx  # the recipe never runs it
        (ALL : ALL) NOPASSWD: /usr/bin/systemctl status nginx  # the recipe never runs it
        (ALL : ALL) NOPASSWD: /usr/bin/chown -R deployer\:deployer /var/www/releases/  # the recipe never runs it
        (root) NOPASSWD: /usr/bin/systemctl restart app@blue  # the recipe never runs it
        (root) NOPASSWD: /usr/local/bin/reload ""  # the recipe never runs it
        (root) NOPASSWD: /bin/ls  # with any arguments; `""` behind it allows none
        (root) /bin/cat  # the recipe never runs it
        (www-data : adm) NOPASSWD: /usr/bin/systemctl restart app-*  # a wildcard: it also matches further words and `..`
        (www-data : adm) NOPASSWD: sudoedit /etc/x y  # edits files as root
        (www-data : adm) NOPASSWD: /bin/echo a\,b\=c\d  # the recipe never runs it
        (root) NOPASSWD: ^/bin/x.*$  # a regular expression
        (root) NOPASSWD: /usr/bin/  # every program of a folder
        "#);
    }

    #[test]
    fn the_fragment_that_ship_prints_is_not_wider() {
        let needed = [
            argv("/usr/bin/systemctl restart app"),
            argv("/usr/local/bin/reload"),
            argv("/usr/bin/chown -R a:b /srv/x"),
        ];
        let listing = "    (root) NOPASSWD: /usr/bin/chown -R a\\:b /srv/x\n    (root) NOPASSWD: /usr/bin/systemctl restart app\n    (root) NOPASSWD: /usr/local/bin/reload \"\"\n";
        assert_eq!(Rights::parse(listing).wider(&needed), []);
        assert!(needed.iter().all(|argv| Rights::parse(listing).of(argv, true) == Right::Free));
    }
}
