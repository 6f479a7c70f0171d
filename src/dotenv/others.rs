//! How other programs than Docker Compose read what ship writes: systemd's `EnvironmentFile=` and python-dotenv.

/// The programs that would read something else than `value` from `written`, which ship made for Compose.
pub(super) fn misreaders(written: &str, value: &str) -> Vec<&'static str> {
    let readers: [(&'static str, Option<String>); 2] =
        [("systemd (EnvironmentFile)", systemd(written)), ("python-dotenv", python(written))];
    readers.into_iter().filter(|(_, read)| read.as_deref() != Some(value)).map(|(name, _)| name).collect()
}

/// systemd: quotes as in a shell, `\` in double quotes only before `"`, `\`, `` ` `` and `$`; control characters
/// but tab and line end are refused.
fn systemd(written: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = written.chars();
    match characters.next() {
        Some('\'') => {
            let (inside, _) = characters.as_str().split_once('\'').filter(|(_, behind)| behind.is_empty())?;
            value.push_str(inside);
        }
        Some('"') => loop {
            match characters.next()? {
                '"' if characters.as_str().is_empty() => break,
                '"' => return None,
                '\\' => match characters.next()? {
                    c @ ('"' | '\\' | '`' | '$') => value.push(c),
                    '\n' => {}
                    c => value.extend(['\\', c]),
                },
                c => value.push(c),
            }
        },
        // Without quotes ship writes harmless characters alone.
        _ => value.push_str(written),
    }
    let refused = |c: char| c.is_control() && c != '\t' && c != '\n';
    (!value.contains(refused)).then_some(value)
}

/// python-dotenv: `${NAME}` is filled in whatever the quotes, `\'` and `\\` are escapes in single quotes, the
/// common ones but `\$` in double quotes, and a backslash before the closing quote may hide it.
fn python(written: &str) -> Option<String> {
    let quote = written.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else { return Some(written.to_owned()) };
    let inside = written.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut value = String::new();
    let mut characters = inside.chars();
    while let Some(c) = characters.next() {
        if c == quote {
            return None;
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match (characters.next(), quote) {
            (Some('\\'), _) if characters.as_str().is_empty() || characters.as_str().starts_with(quote) => return None,
            (Some(c @ ('\\' | '\'')), _) | (Some(c @ '"'), '"') => value.push(c),
            (Some('a'), '"') => value.push('\u{7}'),
            (Some('b'), '"') => value.push('\u{8}'),
            (Some('f'), '"') => value.push('\u{c}'),
            (Some('n'), '"') => value.push('\n'),
            (Some('r'), '"') => value.push('\r'),
            (Some('t'), '"') => value.push('\t'),
            (Some('v'), '"') => value.push('\u{b}'),
            (Some(c), _) => value.extend(['\\', c]),
            (None, _) => return None,
        }
    }
    let refers = value.split("${").skip(1).any(|rest| rest.contains('}'));
    (!refers).then_some(value)
}
