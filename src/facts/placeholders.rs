//! Placeholders that somebody forgot to fill in, such as `SECRET_KEY=<your key>`.

/// The keys of `text`, lines of `KEY=value`, whose value is or has a placeholder. Values are never given back.
///
/// A placeholder is a value that is `<…>` as a whole, or that has `<some words>` of at least three letters in
/// it. An address such as `Shop <shop@example.org>` is none. The survey finds the same on a host: see
/// [`SEARCH`].
pub fn placeholders(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let key = key.strip_prefix("export").map_or(key, str::trim_start);
            let mut characters = key.chars();
            let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            let named = first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
            (named && (whole(value) || part(value))).then(|| key.to_owned())
        })
        .collect()
}

fn whole(value: &str) -> bool {
    let bare = value.trim_end_matches(' ').trim_matches(['"', '\'']);
    let inner = bare.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.is_some_and(|inner| !inner.contains(['<', '>']))
}

fn part(value: &str) -> bool {
    let words = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-');
    value.split('<').skip(1).filter_map(|rest| rest.split_once('>')).any(|(inner, _)| {
        inner.len() >= 3 && inner.starts_with(|c: char| c.is_ascii_alphabetic()) && inner.chars().all(words)
    })
}

/// The same as a script of `sed -n`, which prints the keys.
pub const SEARCH: &str = concat!(
    r#"s/^\(export  *\)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=["']*<[^<>]*>["']* *$/\2/p;t;"#,
    r"s/^\(export  *\)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=.*<[A-Za-z][A-Za-z0-9 _-]\{2,\}>.*/\2/p",
);

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# A=<comment>\nWHOLE=<your key>\nQUOTED=\"<x>\"\nexport EMPTY='<>'\n\
                        URL=postgres://<user>:<password here>@db/app\nFROM=Shop <shop@example.org>\n\
                        PASSWORD=a<b>c<1234>\nDONE=value\nKEY=\"-----BEGIN\n<not a key>\nEND\"\n";

    #[test]
    fn forgotten_placeholders_are_found_here_and_on_a_host() {
        let found = placeholders(FILE);
        assert_eq!(found, ["WHOLE", "QUOTED", "EMPTY", "URL"]);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".env");
        std::fs::write(&path, FILE).expect("a file");
        let output = std::process::Command::new("sed").args(["-n", SEARCH]).arg(&path).output().expect("sed");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), found);
    }
}
