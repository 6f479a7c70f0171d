//! Words and figures as people read them: durations, sizes, counts, and text cut to a width.

use crate::output;

/// A duration in the two figures that matter: `850ms`, `4.2s`, `1m 05s`, `2h 07m`.
pub fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A duration that is still growing: tenths of a second from the start, so that it does not jump.
pub fn growing(millis: u64) -> String {
    if millis < 1000 { format!("0.{}s", millis / 100) } else { duration(millis) }
}

/// A duration that only has to give an idea, as for the time left: `3s`, `1m 05s`.
pub fn rough_duration(millis: u64) -> String {
    if millis < 60_000 { format!("{}s", millis.div_ceil(1000)) } else { duration(millis) }
}

/// A number of bytes in decimal units, as file managers and networks count: `31.2 MB`.
pub fn bytes(count: u64) -> String {
    let (figure, unit) = scaled(count, count);
    format!("{figure} {unit}")
}

/// Two numbers of bytes in the unit of the second: `14.2/31.2 MB`.
pub fn bytes_of(part: u64, whole: u64) -> String {
    let (of, unit) = scaled(whole, whole);
    let (figure, _) = scaled(part, whole);
    format!("{figure}/{of} {unit}")
}

/// `count` in the unit that suits `like`.
fn scaled(count: u64, like: u64) -> (String, &'static str) {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    // Five hundredths less, so that what would round up to 1000.0 takes the next unit.
    match UNITS.into_iter().find(|(size, _)| like >= size - size / 20_000) {
        Some((size, unit)) => {
            let tenths = (u128::from(count) * 10 + u128::from(size) / 2) / u128::from(size);
            (format!("{}.{}", tenths / 10, tenths % 10), unit)
        }
        None => (count.to_string(), "B"),
    }
}

/// A count and its noun: `1 host`, `3 hosts`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `text` with a capital at its start.
pub fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// The names while they are few and short, else how many there are.
pub fn names(hosts: &[String], width: usize) -> String {
    let joined = line(&hosts.join(", "));
    if hosts.len() <= 3 && self::width(&joined) <= width { joined } else { plural(hosts.len(), "host") }
}

/// `text` as one line in which nothing acts on a terminal. Most texts are safe already when they get
/// here; titles of commits and names of hosts need not be.
pub fn line(text: &str) -> String {
    output::visible(text.as_bytes()).replace('\t', "    ")
}

/// `text` line by line, each safe to show.
pub fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(line)
}

/// How many columns `text` takes: two for the wide letters of East Asia and for emoji, none for
/// combining marks. A rough table, so nothing but alignment may depend on it.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(character: char) -> usize {
    match character {
        '\u{0300}'..='\u{036f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// `text` cut to `limit` columns; `mark` ends it where something was cut.
pub fn cut(text: &str, limit: usize, mark: char) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut used = 0;
    let room = limit.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|character| {
            used += columns(*character);
            used <= room
        })
        .collect();
    if limit > 0 {
        kept.push(mark);
    }
    kept
}

/// `text` filled with spaces on its right up to `limit` columns.
pub fn left(text: &str, limit: usize) -> String {
    format!("{text}{}", " ".repeat(limit.saturating_sub(width(text))))
}

/// `text` filled with spaces on its left up to `limit` columns.
pub fn right(text: &str, limit: usize) -> String {
    format!("{}{text}", " ".repeat(limit.saturating_sub(width(text))))
}

/// `text` in lines of at most `limit` columns, broken between words where that is possible.
pub fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut done = Vec::new();
    let mut current = String::new();
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        let gap = usize::from(!current.is_empty());
        if width(&current) + gap + width(&word) > limit && !current.is_empty() {
            done.push(std::mem::take(&mut current));
        }
        while width(&word) > limit {
            let mut used = 0;
            let end = word
                .char_indices()
                .find(|(_, character)| {
                    used += columns(*character);
                    used > limit
                })
                .map_or(word.len(), |(index, character)| if index == 0 { character.len_utf8() } else { index });
            let rest = word.split_off(end);
            done.push(std::mem::replace(&mut word, rest));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(&word);
    }
    if !current.is_empty() || done.is_empty() {
        done.push(current);
    }
    done
}

/// `text` line by line, each wrapped to `limit` columns. A line that begins with a space is there to be
/// copied, such as a command or a key, and stays whole.
pub fn fold(text: &str, limit: usize) -> Vec<String> {
    lines(text).flat_map(|line| if line.starts_with(' ') { vec![line] } else { wrap(&line, limit) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn durations_have_the_two_figures_that_matter() {
        let shown: Vec<String> =
            [0, 850, 999, 1000, 4249, 59_999, 60_000, 65_400, 3_599_999, 7_620_000].map(duration).into();
        assert_eq!(shown, ["0ms", "850ms", "999ms", "1.0s", "4.2s", "59.9s", "1m 00s", "1m 05s", "59m 59s", "2h 07m"]);
        assert_eq!(rough_duration(2_001), "3s");
        assert_eq!(growing(449), "0.4s");
    }

    #[test]
    fn sizes_never_read_a_thousand_of_a_unit() {
        let shown: Vec<String> = [0, 999, 1000, 31_240_000, 999_949, 999_950, 999_999_999, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "31.2 MB", "999.9 kB", "1.0 MB", "1.0 GB", "18446744.1 TB"]);
        assert_eq!(bytes_of(14_200_000, 31_200_000), "14.2/31.2 MB");
        assert_eq!(bytes_of(0, 31_200_000), "0.0/31.2 MB");
        assert_eq!(bytes_of(1, 3), "1/3 B");
    }

    #[test]
    fn hosts_are_named_while_they_are_few() {
        let hosts = |count: usize| (1..=count).map(|n| format!("web{n}")).collect::<Vec<_>>();
        assert_eq!(names(&hosts(1), 20), "web1");
        assert_eq!(names(&hosts(3), 20), "web1, web2, web3");
        assert_eq!(names(&hosts(3), 10), "3 hosts");
        assert_eq!(names(&hosts(4), 80), "4 hosts");
    }

    #[test]
    fn wide_letters_are_counted_and_cut() {
        assert_eq!(width("日本"), 4);
        assert_eq!(cut("日本語", 5, '…'), "日本…");
        assert_eq!(cut("abc", 3, '…'), "abc");
        assert_eq!(cut("abcd", 3, '…'), "ab…");
        assert_eq!(cut("abcd", 0, '…'), "");
        assert_eq!(capital("put back"), "Put back");
    }

    #[test]
    fn text_is_wrapped_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn no_text_is_too_wide_after_it_was_cut_or_wrapped(text in ".*", limit in 2usize..40) {
            assert!(width(&cut(&line(&text), limit, '…')) <= limit);
            for part in wrap(&line(&text), limit) {
                assert!(width(&part) <= limit, "{part:?}");
            }
        }
    }
}
