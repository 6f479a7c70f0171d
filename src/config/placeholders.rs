//! Where the tags of a template are, and which names stand in them.
//!
//! minijinja says which names a template refers to, but not where; this says where, for messages.
//! Deliberately absent: what tags mean.

use std::ops::Range;

/// `{{ … }}` or `{% … %}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Whether it is `{{ … }}`, which inserts something.
    pub inserts: bool,
    /// From the first brace to the last.
    pub range: Range<usize>,
    /// The names in it.
    pub names: Vec<Name>,
    /// Whether it ends in `|safe` or `|words`: what it inserts is shell text already.
    pub safe: bool,
}

/// A name with the attributes after it: `options.skip_front_build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As dotted path.
    pub path: String,
    /// Where it stands.
    pub range: Range<usize>,
    /// Whether the template itself provides for it being undefined: `x is defined`, `x|default(…)`.
    pub guarded: bool,
}

/// The tags of `text`, in order. What stands in comments and in `{% raw %}` is left out.
pub fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some((start, opening)) = next_opening(text, at) {
        let inner = start + 2;
        if opening == "{#" {
            at = find(text, inner, "#}").map_or(text.len(), |end| end + 2);
            continue;
        }
        let (tokens, end) = tokens(text, inner, Some(if opening == "{{" { "}}" } else { "%}" }));
        at = end;
        let words: Vec<&str> =
            tokens.iter().map(|token| token.text).filter(|text| !matches!(*text, "-" | "+")).collect();
        if opening == "{%" && words == ["raw"] {
            at = end_of_raw(text, end);
            continue;
        }
        tags.push(Tag {
            inserts: opening == "{{",
            range: start..end,
            names: names(&tokens),
            safe: matches!(words.as_slice(), [.., "|", "safe" | "words"]),
        });
    }
    tags
}

/// The names in an expression that stands alone, such as `when`.
pub fn expression_names(text: &str) -> Vec<Name> {
    names(&tokens(text, 0, None).0)
}

fn next_opening(text: &str, from: usize) -> Option<(usize, &'static str)> {
    ["{{", "{%", "{#"].into_iter().filter_map(|opening| Some((find(text, from, opening)?, opening))).min()
}

fn find(text: &str, from: usize, wanted: &str) -> Option<usize> {
    text.get(from..)?.find(wanted).map(|offset| from + offset)
}

fn end_of_raw(text: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(start) = find(text, at, "{%") {
        let (tokens, end) = tokens(text, start + 2, Some("%}"));
        if tokens.iter().any(|token| token.text == "endraw") {
            return end;
        }
        at = end;
    }
    text.len()
}

#[derive(Clone, Debug)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens from `from` to the closing braces, and the offset behind those.
fn tokens<'a>(text: &'a str, from: usize, closing: Option<&str>) -> (Vec<Token<'a>>, usize) {
    let mut tokens = Vec::new();
    let mut at = from;
    let mut depth = 0usize;
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        if depth == 0
            && let Some(closing) = closing
            && rest.starts_with(closing)
        {
            return (tokens, at + closing.len());
        }
        let length = match first {
            '"' | '\'' => quoted(rest, first),
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => {
                match c {
                    '{' | '(' | '[' => depth += 1,
                    '}' | ')' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                c.len_utf8()
            }
        };
        tokens.push(Token { text: rest.get(..length).unwrap_or(rest), start: at });
        at += length.max(1);
    }
    (tokens, text.len())
}

/// The length of a string with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return offset + 1,
            _ => {}
        }
    }
    text.len()
}

/// Words that are no names.
const WORDS: &[&str] = &[
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "in",
    "endfor",
    "set",
    "endset",
    "and",
    "or",
    "not",
    "is",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "filter",
    "endfilter",
    "with",
    "endwith",
    "macro",
    "endmacro",
    "call",
    "endcall",
    "include",
    "import",
    "from",
    "block",
    "endblock",
    "extends",
    "do",
    "recursive",
    "as",
];

fn names(tokens: &[Token<'_>]) -> Vec<Name> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    let mut names = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let before = index.checked_sub(1).map_or("", text);
        let before_that = index.checked_sub(2).map_or("", text);
        let after_is = before == "is" || (before == "not" && before_that == "is");
        // Attributes of what a bracket closed, filters, tests and keywords of arguments are no variables.
        let is_keyword = text(index + 1) == "=" && text(index + 2) != "=" && before != "set";
        if !token.is_word() || WORDS.contains(&token.text) || matches!(before, "." | "|") || after_is || is_keyword {
            index += 1;
            continue;
        }
        let mut path = token.text.to_owned();
        let mut end = token.start + token.text.len();
        while text(index + 1) == "."
            && let Some(attribute) = tokens.get(index + 2)
            && attribute.is_word()
        {
            path.push('.');
            path.push_str(attribute.text);
            end = attribute.start + attribute.text.len();
            index += 2;
        }
        let next = [text(index + 1), text(index + 2), text(index + 3)];
        let guarded = matches!(
            next,
            ["is", "defined" | "undefined", _] | ["is", "not", "defined" | "undefined"] | ["|", "default" | "d", _]
        );
        names.push(Name { path, range: token.start..end, guarded });
        index += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let tags = tags(text).into_iter().map(|tag| {
            let names: Vec<String> = tag
                .names
                .iter()
                .map(|name| {
                    assert_eq!(text[name.range.clone()].replace(' ', ""), name.path);
                    format!("{}{}", name.path, if name.guarded { "?" } else { "" })
                })
                .collect();
            let (kind, safe) = (if tag.inserts { "insert" } else { "do" }, if tag.safe { " safe" } else { "" });
            format!("{kind} {:?} [{}]{safe}", &text[tag.range], names.join(" "))
        });
        tags.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn names_are_found_where_they_stand() {
        insta::assert_snapshot!(shown(concat!(
            "{{ a }} {{- options.b|default('}}') -}} {% if c is defined and not d.e %}",
            "{{ f|join(g, attribute=\"h\")|safe }} {{ {'k': i} | tojson }}{# {{ no }} #}",
            "{% raw %}{{ no }}{% endraw %}{% for x in y %}{{ z[0].w }}{% endfor %}{{ units|words }}",
        )), @r#"
        insert "{{ a }}" [a]
        insert "{{- options.b|default('}}') -}}" [options.b?]
        do "{% if c is defined and not d.e %}" [c? d.e]
        insert "{{ f|join(g, attribute=\"h\")|safe }}" [f g] safe
        insert "{{ {'k': i} | tojson }}" [i]
        do "{% for x in y %}" [x y]
        insert "{{ z[0].w }}" [z]
        do "{% endfor %}" []
        insert "{{ units|words }}" [units] safe
        "#);
    }

    #[test]
    fn what_is_not_closed_ends_with_the_text() {
        for text in ["{{ a", "{% raw %} {{ b", "{# c", "{{ 'd }}", "{{ \"é\\", "{{ { }}"] {
            let _ = tags(text);
        }
    }
}
