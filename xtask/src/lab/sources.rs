//! Reads where this machine gets its own system packages from, so that the lab gets the same ones from there.
//!
//! Nothing of it is written into the repository: it goes into the images and containers of this machine alone.

use std::path::Path;

use crate::failure::{During as _, Failure, Result};

/// One place of packages, as the machine's package manager knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    keyring: Option<String>,
}

/// What the lab needs to know about the machine's distribution.
#[derive(Debug)]
pub struct Distribution {
    /// The release's name, such as `bookworm`.
    pub codename: String,
    /// The archive that holds the release itself.
    pub archive: String,
    /// The parts of the archive, such as `main`.
    pub components: Vec<String>,
    /// The keys that sign the archive, where the machine names a file.
    pub keyring: Option<String>,
    /// The text of a `sources.list` for the hosts.
    pub sources_list: String,
}

/// Reads the machine's own settings.
pub fn read_machine() -> Result<Distribution> {
    let release = std::fs::read_to_string("/etc/os-release").during("read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| Failure::new("The lab is made of Debian packages, and this machine is not a Debian release."))?;
    let mut sources = Vec::new();
    if let Ok(text) = std::fs::read_to_string("/etc/apt/sources.list") {
        sources.extend(parse_lines(&text));
    }
    let mut files: Vec<_> = std::fs::read_dir("/etc/apt/sources.list.d")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_lines(&text)),
            Some("sources") => sources.extend(parse_stanzas(&text)),
            _ => {}
        }
    }
    for source in &mut sources {
        source.uri = through_mirror_file(&source.uri);
    }
    choose(codename, &sources)
}

/// Picks the sources of this release, and among them the archive of the release itself.
fn choose(codename: String, sources: &[Source]) -> Result<Distribution> {
    let updates = format!("{codename}-");
    let is_ours = |suite: &String| *suite == codename || suite.starts_with(&updates);
    let main = sources
        .iter()
        .find(|source| source.suites.contains(&codename) && source.components.iter().any(|part| part == "main"))
        .ok_or_else(|| {
            Failure::new(format!("The machine's package sources name no archive of {codename} with the part main."))
        })?;
    let mut sources_list = String::new();
    for source in sources {
        for suite in source.suites.iter().filter(|suite| is_ours(suite)) {
            let line = format!("deb {} {suite} {}\n", source.uri, source.components.join(" "));
            if !sources_list.contains(&line) {
                sources_list.push_str(&line);
            }
        }
    }
    Ok(Distribution {
        archive: main.uri.clone(),
        components: main.components.clone(),
        keyring: main.keyring.clone().filter(|keyring| Path::new(keyring).is_file()),
        codename,
        sources_list,
    })
}

/// The form of one line for each source: `deb [options] URI SUITE PART…`.
fn parse_lines(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let (options, rest) = match rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        let keyring =
            options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
        sources.push(Source { uri, suites: vec![suite], components: words.collect(), keyring });
    }
    sources
}

/// The newer form: paragraphs of `Field: value`.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut sources = Vec::new();
    for stanza in uncommented.join("\n").split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled = field("Enabled").is_some_and(|value| value == "no");
        if disabled || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in words("URIs") {
            sources.push(Source {
                uri,
                suites: words("Suites"),
                components: words("Components"),
                keyring: field("Signed-By").filter(|keyring| keyring.starts_with('/')),
            });
        }
    }
    sources
}

/// A `mirror+file:` source names a local list of mirrors: the first of them will do.
fn through_mirror_file(uri: &str) -> String {
    let Some(file) = uri.strip_prefix("mirror+file:") else { return uri.to_owned() };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let first = text.split_whitespace().find(|word| word.starts_with("http"));
    first.unwrap_or(uri).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{choose, parse_lines, parse_stanzas};

    const STANZAS: &str = "\
Types: deb
# A comment between fields.
URIs: http://archive.example.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /nowhere/archive.gpg

Types: deb-src
URIs: http://sources.example.org/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://other.example.org
Suites: nodistro
Components: main
";

    #[test]
    fn stanzas_give_the_archive_and_the_list() {
        let chosen = choose("bookworm".to_owned(), &parse_stanzas(STANZAS)).map_err(|failure| failure.to_string());
        let chosen = chosen.unwrap();
        assert_eq!(chosen.archive, "http://archive.example.org/debian");
        assert_eq!(chosen.components, ["main", "contrib"]);
        assert_eq!(chosen.keyring, None, "a keyring that is not there is not used");
        assert_eq!(
            chosen.sources_list,
            "deb http://archive.example.org/debian bookworm main contrib\n\
             deb http://archive.example.org/debian bookworm-updates main contrib\n"
        );
    }

    #[test]
    fn lines_with_options_and_comments_are_read() {
        let text = "# deb http://old.example.org x main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example.org/d trixie main universe # here\n\
                    deb-src http://a.example.org/d trixie main\n";
        let sources = parse_lines(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].keyring.as_deref(), Some("/k.gpg"));
        assert_eq!(sources[0].components, ["main", "universe"]);
    }

    #[test]
    fn a_release_without_an_archive_is_a_failure() {
        let failure = choose("sid".to_owned(), &parse_stanzas(STANZAS)).err().map(|failure| failure.to_string());
        assert!(failure.is_some_and(|message| message.contains("no archive of sid")));
    }
}
