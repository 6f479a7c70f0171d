//! The command language of CI logs: taken out of what others print, quoted in what ship says to GitHub.
//!
//! The GitHub runner finds `##[command]` anywhere in a line and `::command::` at its start after white
//! space; Azure and TeamCity look for `##vso[` and `##teamcity[`. A line break ends a line for them, so
//! texts come here line by line, with other control characters made visible already.

use std::borrow::Cow;

/// `line` such that no CI obeys it; people read the same text with a backslash in it.
pub fn neutralise(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    for opening in ["[", "vso[", "teamcity["] {
        let command = format!("##{opening}");
        if shown.contains(&command) {
            shown = Cow::Owned(shown.replace(&command, &format!("##\\{opening}")));
        }
    }
    let text = shown.trim_start();
    if text.starts_with("::") {
        let indent = shown.get(..shown.len() - text.len()).unwrap_or_default();
        shown = Cow::Owned(format!("{indent}\\{text}"));
    }
    shown
}

/// `text`, which may have several lines, with each of them neutralised.
pub fn neutralise_text(text: &str) -> String {
    text.split_inclusive('\n').map(neutralise).collect()
}

/// The text of a workflow command, quoted as the runner unquotes it.
pub fn data(text: &str) -> String {
    neutralise(&text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")).into_owned()
}

/// The value of a workflow command's property, such as a title.
pub fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn commands_in_the_output_of_others_are_shown_not_obeyed() {
        assert_eq!(neutralise("  ::set-env name=A::b"), r"  \::set-env name=A::b");
        assert_eq!(neutralise("\u{a0}::error::x"), "\u{a0}\\::error::x");
        assert_eq!(neutralise("web1 | ##[set-output name=x]evil"), r"web1 | ##\[set-output name=x]evil");
        assert_eq!(neutralise("###[x] ##vso[y] ##teamcity[z]"), r"###\[x] ##\vso[y] ##\teamcity[z]");
        assert_eq!(neutralise("std::io::Error a # b ## c"), "std::io::Error a # b ## c");
        assert_eq!(neutralise_text("a\n::b\n"), "a\n\\::b\n");
    }

    #[test]
    fn a_message_cannot_end_its_own_command() {
        assert_eq!(data("100%\r\n::stop"), "100%25%0D%0A::stop");
        assert_eq!(property("a:b,c\n"), "a%3Ab%2Cc%0A");
    }

    proptest! {
        #[test]
        fn nothing_is_left_that_a_runner_would_obey(line in "[ \\t]{0,2}[#\\[:a-z]{0,12}") {
            let shown = neutralise(&line);
            assert!(!shown.contains("##[") && !shown.trim_start().starts_with("::"), "{shown}");
        }
    }
}
