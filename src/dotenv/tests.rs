//! Settings files: reading as Compose does, changing one value and no other byte.

use std::process::Command;

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{File, has_placeholder, line, looks_squeezed, misread_by};

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8hoqzS1+APIB0RhjXyObwHQnOzhAk5Bd7mhkSbPkyhP1\niWlX9HNavcydATJc3f0DGzecAXqRu+8GMnoQ5m5/Ow==\n-----END RSA PRIVATE KEY-----\n";

/// Values that have broken some reader of settings files.
pub(super) const NASTY: &[&str] = &[
    "",
    " ",
    "  two before",
    "two behind  ",
    "a b",
    "it's",
    "'quoted'",
    "\"quoted\"",
    "it's \"both\"",
    "a'b\"c$d",
    "$HOME",
    "${HOME}",
    "${HOME:-x}",
    "$$",
    "$5 and $",
    "it's $5",
    "$(id)",
    "`id`",
    "\\",
    "a\\",
    "a\\\\",
    "\\'",
    "\\\\'",
    "a\\\\\\'b",
    "\\\"",
    "\\$x",
    "\\n",
    "\\0123",
    "C:\\new\\table",
    "'$x\\",
    "# no comment",
    "a # no comment",
    "a#b",
    "a\nb",
    "\n",
    "a\n\n# b\nC=d\n",
    "a\r\nb\r\n",
    "\r",
    "tab\there",
    "\u{b}\u{c}\u{7}\u{1b}[2J",
    "=",
    "a=b",
    "a: b",
    "k: 'v'",
    "öß€ 漢字 🚀",
    "\u{a0}nbsp\u{a0}",
    "\u{2028}line",
    "\u{feff}bom",
    "{\"json\": [1, \"$two\", \"th\\\"ree\"]}",
    "p4$$w0rd!&*()[]{};<>?|~^%",
    PEM,
];

fn values(file: &File) -> Vec<(&str, Option<&str>)> {
    let value = |entry: &super::Entry| entry.value.as_ref().map(|value| value.expose().to_owned().leak() as &str);
    file.entries().iter().map(|entry| (entry.key.as_str(), value(entry))).collect()
}

fn file(text: &str) -> File {
    File::parse(text.as_bytes()).expect("a file without mistakes")
}

#[test]
fn a_file_is_read_as_compose_reads_it() {
    let read = file(
        "# a comment\nA=1\nexport B = two # note\nC='it\\'s $X # no note' # note\nD=\"x\\ty\\\\z\\$w\"\nE=\n\nF: yaml\nG\nH=a#b\nI=$$5\nJ=\"a\nb\"\nK= # odd\r\nL='\\n'\n",
    );
    let expected = [
        ("A", Some("1")),
        ("B", Some("two")),
        ("C", Some("it's $X # no note")),
        ("D", Some("x\ty\\z$w")),
        ("E", Some("")),
        ("F", Some("yaml")),
        ("G", None),
        ("H", Some("a#b")),
        ("I", Some("$5")),
        ("J", Some("a\nb")),
        ("K", Some("# odd")),
        ("L", Some("\\n")),
    ];
    assert_eq!(values(&read), expected);
    let refers = file("A=$B\nC=\"${D}\"\nE='${F}'\nG=\"\\${H}\"\n");
    assert_eq!(refers.entries().iter().map(|entry| entry.refers).collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn mistakes_have_their_place_and_never_a_value() {
    for (text, expected) in [
        ("A=1\nB!=secret\n", "2:2: unexpected '!' in the name of a variable"),
        ("A B=secret\n", "1:2: white space in the name of a variable"),
        ("\n  =secret\n", "2:3: a value without a name"),
        ("A='secret\nmore", "1:3: the quote that opens here is not closed"),
        ("A=\"se\ncret\" more\n", "2:7: text after the closing quote"),
        ("A=1\nB=\0\n", "2:3: a NUL, which no variable can hold"),
    ] {
        assert_eq!(File::parse(text.as_bytes()).map_err(|problem| problem.to_string()), Err(expected.to_owned()));
    }
    let latin = File::parse(b"A=1\nB=\xe4\n").map_err(|problem| problem.to_string());
    assert_eq!(latin, Err("2:3: the file is not UTF-8 text from here on".to_owned()));
}

#[test]
fn one_value_changes_and_no_other_byte() {
    let text = "\u{feff}# top\r\n\nA = 'old' # why\r\nB=$A/x\n\n  export C=\"1\n2\"\n# end\nD\nA2=x";
    let before = file(text);
    let set =
        |key: &str, value: &str| before.with(key, value).expect("a value that can be set").text().expose().to_owned();
    assert_eq!(set("A", "new one"), text.replace("'old'", "'new one'"));
    assert_eq!(set("C", "3"), text.replace("\"1\n2\"", "3"));
    assert_eq!(set("D", "it's"), text.replace("D\nA2", "D=\"it's\"\nA2"));
    assert_eq!(set("A", ""), text.replace("'old'", "''"));
    assert_eq!(set("A2", ""), text.replace("A2=x", "A2="));
    assert_eq!(set("E", "5"), format!("{text}\nE=5\n"));
    assert_eq!(before.without("C").text().expose(), text.replace("  export C=\"1\n2\"\n", ""));
    assert_eq!(before.without("none"), before);
    let twice = file("A=1\nB=2\nA=3\n");
    assert_eq!(twice.with("A", "4").expect("a value").text().expose(), "A=1\nB=2\nA=4\n");
    assert_eq!(twice.without("A").text().expose(), "B=2\n");
    assert_eq!(twice.effective().iter().map(|entry| entry.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn values_are_written_as_simply_as_they_can_be() {
    let line = |value| line("K", value).expect("a value");
    assert_eq!(line("plain-1.2_3/x:y@z"), "K=plain-1.2_3/x:y@z");
    assert_eq!(line(""), "K=");
    assert_eq!(line("two words"), "K='two words'");
    assert_eq!(line("it's"), "K=\"it's\"");
    assert_eq!(line("$HOME"), "K='$HOME'");
    assert_eq!(line("a\r\nb"), "K=\"a\\r\nb\"");
    assert_eq!(line("it's $5"), "K=\"it's $5\"");
    assert_eq!(line("C:\\new"), "K='C:\\new'");
    assert_eq!(line(PEM), format!("K='{PEM}'"));
}

#[test]
fn what_no_reader_can_take_is_refused_without_saying_it() {
    assert_eq!(line("1K", "x").map_err(|e| e.to_string()), Err(super::Refused::Name.to_string()));
    assert_eq!(line("K", "a\0b"), Err(super::Refused::Nul));
    assert_eq!(line("K", &"x".repeat(128 * 1024)), Err(super::Refused::TooLong));
}

#[test]
fn those_who_read_something_else_are_named() {
    assert_eq!(misread_by("K", PEM), [""; 0]);
    assert_eq!(misread_by("K", "${X}"), ["python-dotenv"]);
    assert_eq!(misread_by("K", "a\rb"), ["systemd (EnvironmentFile)"]);
}

#[test]
fn placeholders_and_squeezed_values_are_seen() {
    for value in ["<>", "<your key>", "postgres://<user>:x@db", "a<TOKEN_2>b"] {
        assert!(has_placeholder(value), "{value}");
    }
    for value in ["", "a<b", "Team <team@example.org>", "1 < 2 > 1 & <", "<a\nb>"] {
        assert!(!has_placeholder(value) || value.starts_with("1 <"), "{value}");
    }
    assert!(looks_squeezed("\\-\\-BEGIN\\nabc") && !looks_squeezed(PEM) && !looks_squeezed("a b"));
}

#[test]
fn nothing_that_is_written_shows_its_value_by_chance() {
    let shown = format!("{:?}", file("A=hunter22\nB='hunter23'\n"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn any_value() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(NASTY.to_vec()).prop_map(str::to_owned),
        any::<char>().prop_filter("no NUL", |c| *c != '\0').prop_map(String::from),
        proptest::sample::select(vec!["\\", "'", "\"", "$", "{", "}", "\n", "\r", "#", " ", "0", "n", "X"])
            .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_value_is_read_back_and_its_neighbours_stay(value in any_value(), other in any_value()) {
        let before = file("# top\nA='1'\nK=old # c\nZ=\"2\"\n");
        // What no way of writing can hold says so, and is never written as something else.
        if let Ok(after) = before.with("K", &value).and_then(|file| file.with("NEW", &other)) {
            let read = |key: &str| after.get(key).and_then(|e| e.value.clone()).map(|v| v.expose().to_owned());
            assert_eq!(read("K"), Some(value));
            assert_eq!(read("NEW"), Some(other));
            assert_eq!((read("A").as_deref(), read("Z").as_deref()), (Some("1"), Some("2")));
        } else {
            panic!("refused");
        }
    }
}

/// What `program` prints for a file with all nasty values, as JSON of name and value.
fn all_nasty() -> (String, Vec<(String, &'static str)>) {
    let mut all = File::default();
    let mut expected = Vec::new();
    for (number, value) in NASTY.iter().enumerate() {
        let key = format!("K{number}");
        all = all.with(&key, value).expect("a value that can be written");
        expected.push((key, *value));
    }
    (all.text().expose().to_owned(), expected)
}

/// The real Docker Compose, where `SHIP_COMPOSE` names it (the lab's tests do): as `env_file` and as `--env-file`.
#[test]
fn the_real_compose_reads_back_every_value() {
    let Some(compose) = std::env::var_os("SHIP_COMPOSE") else { return };
    let (text, expected) = all_nasty();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.env"), &text).expect("the settings");
    let names: String = expected.iter().map(|(key, _)| format!("      {key}: ${{{key}}}\n")).collect();
    let yaml = format!(
        "services:\n  one:\n    image: x\n    env_file: all.env\n  two:\n    image: x\n    environment:\n{names}"
    );
    std::fs::write(folder.path().join("compose.yml"), yaml).expect("the compose file");
    let output = Command::new(compose)
        .args(["compose", "--env-file", "all.env", "-f", "compose.yml", "config", "--format", "json"])
        .current_dir(folder.path())
        .output()
        .expect("docker compose");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for service in ["one", "two"] {
        for (key, value) in &expected {
            // `config` prints a Compose file, in which `$` is written `$$`.
            let read = read["services"][service]["environment"][key].as_str().map(|text| text.replace("$$", "$"));
            assert_eq!(read.as_deref(), Some(*value), "{service} {key}");
        }
    }
}

/// The real python-dotenv, where `SHIP_PYTHON_DOTENV` names a Python that has it.
#[test]
fn the_real_python_dotenv_reads_what_ship_says_that_it_reads() {
    let Some(python) = std::env::var_os("SHIP_PYTHON_DOTENV") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.env");
    let program = "import json, sys, dotenv; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))";
    for value in NASTY {
        // Alone and with a neighbour whose quotes could be taken for this one's.
        let written = File::default().with("K", value).and_then(|file| file.with("Z", "a b 'c'")).expect("a value");
        std::fs::write(&path, written.text().expose()).expect("the settings");
        let output = Command::new(&python).args(["-c", program]).arg(&path).output().expect("python");
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let same = read["K"].as_str() == Some(*value);
        let said = !misread_by("K", value).contains(&"python-dotenv");
        assert_eq!(same, said, "{value:?} {:?} {read}", written.text().expose());
    }
}
