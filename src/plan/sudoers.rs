//! The least sudoers fragment that a plan needs: a function of its commands, and nothing more.

use std::collections::BTreeSet;

use crate::command::ANY_ARGUMENTS;

/// Characters that sudoers(5) wants escaped in command arguments.
const SPECIAL: &[char] = &[',', ':', '=', '\\', '*', '?', '[', ']', '!', '#', '"', ' '];

/// The fragment for `user` on one host: each exact command once, with its absolute path, no wildcard and no
/// shell. `reset-failed` is allowed for each unit that may be restarted, so that a way back works also after
/// a crash loop has hit systemd's start limit.
pub fn fragment(app: &str, user: &str, commands: &[Vec<String>]) -> String {
    let lines = lines(user, commands);
    let mut out = format!(
        "# The least that `ship` needs for {app}. Install it with: visudo -f /etc/sudoers.d/{}\n",
        file_name(app)
    );
    if lines.is_empty() {
        out.push_str("# The recipe runs nothing through sudo.\n");
    }
    for program in commands.iter().filter(|argv| argv.get(1).is_some_and(|word| word == ANY_ARGUMENTS)) {
        let program = program.first().map_or("", String::as_str);
        let note = format!("# {program}: its arguments name releases and containers, so that no rule can list them.\n");
        if !out.contains(&note) {
            out.push_str(&note);
        }
        if program.ends_with("/docker") {
            out.push_str("# Whoever may use Docker is root, also as a member of the group docker.\n");
        }
    }
    for line in lines {
        out.push_str(&format!("{line}\n"));
    }
    out
}

/// The line of each of `commands`, each once.
pub fn lines(user: &str, commands: &[Vec<String>]) -> Vec<String> {
    let rules: BTreeSet<String> = commands.iter().map(|argv| rule(argv)).collect();
    rules.into_iter().map(|rule| format!("{user} ALL=(root) NOPASSWD: {rule}")).collect()
}

/// The file's name: sudo ignores names with a dot (sudoers(5), "Including other files").
pub fn file_name(app: &str) -> String {
    let safe: String =
        app.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect();
    format!("ship-{safe}")
}

/// One command as sudoers spells it. A program alone may be run with any arguments. A command without arguments is followed by `""`, or any would be allowed.
fn rule(argv: &[String]) -> String {
    let any = argv.get(1).is_some_and(|word| word == ANY_ARGUMENTS);
    let mut words = argv.iter().take(if any { 1 } else { usize::MAX });
    let mut out = words.next().map(|program| escape(program)).unwrap_or_default();
    if argv.len() == 1 {
        out.push_str(" \"\"");
    }
    for word in words {
        out.push(' ');
        out.push_str(&escape(word));
    }
    out
}

fn escape(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for character in word.chars() {
        if SPECIAL.contains(&character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exact_command_once_and_nothing_more() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let commands = [
            argv(&["/usr/bin/systemctl", "restart", "app@blue"]),
            argv(&["/usr/bin/systemctl", "restart", "app@blue"]),
            argv(&["/usr/sbin/nginx", "-t"]),
            argv(&["/usr/local/bin/reload"]),
            argv(&["/usr/bin/docker", ANY_ARGUMENTS]),
            argv(&["/usr/bin/chown", "-R", "a:b", "/srv/x"]),
        ];
        insta::assert_snapshot!(fragment("my.app", "deployer", &commands), @r#"
        # The least that `ship` needs for my.app. Install it with: visudo -f /etc/sudoers.d/ship-my_app
        # /usr/bin/docker: its arguments name releases and containers, so that no rule can list them.
        # Whoever may use Docker is root, also as a member of the group docker.
        deployer ALL=(root) NOPASSWD: /usr/bin/chown -R a\:b /srv/x
        deployer ALL=(root) NOPASSWD: /usr/bin/docker
        deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart app@blue
        deployer ALL=(root) NOPASSWD: /usr/local/bin/reload ""
        deployer ALL=(root) NOPASSWD: /usr/sbin/nginx -t
        "#);
    }
}
