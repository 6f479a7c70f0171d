//! The keys that a table may have: one list that the reader, the schema and the documentation share.

/// A table of a file and its keys.
#[derive(Debug)]
pub struct Table {
    /// Its name in the documentation, as it is written in TOML: `[hosts.NAME]`.
    pub name: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: KeyKind,
    /// What holds where it is left out.
    pub absent: Absent,
    /// What it is for, in one line.
    pub doc: &'static str,
}

/// What holds where a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must be there.
    Required,
    /// Nothing.
    None,
    /// This value, as it would be written in TOML, or a phrase in the documentation's words.
    Default(&'static str),
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    /// A string.
    String,
    /// A string that is a template.
    Template,
    /// `true` or `false`.
    Boolean,
    /// An expression, or `true` or `false`.
    Expression,
    /// A whole number, 0 or more.
    Count,
    /// A whole number or a string, for example `2` or `"50%"`.
    CountOrString,
    /// A length of time: `"30s"`, or a number of seconds.
    Duration,
    /// A string or an array of strings.
    Strings,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A string, a number or a boolean.
    Scalar,
    /// Anything that TOML has; strings in it are templates.
    Any,
    /// A table of names that the author chooses, with anything as value.
    Vars,
    /// A table of names that the author chooses, with templates as values.
    Env,
    /// This string, or a table with these keys.
    WordOrTable(&'static str, &'static Table),
    /// A table with these keys.
    Table(&'static Table),
    /// A table of names that the author chooses, each a table with these keys.
    Named(&'static Table),
    /// An array of tables with these keys.
    List(&'static Table),
}

impl KeyKind {
    /// The words of the documentation.
    pub fn words(self) -> String {
        match self {
            Self::String => "string".to_owned(),
            Self::Template => "template".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::Expression => "expression".to_owned(),
            Self::Count => "number".to_owned(),
            Self::CountOrString => "number or string".to_owned(),
            Self::Duration => "time".to_owned(),
            Self::Strings => "strings".to_owned(),
            Self::OneOf(choices) => {
                choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", ")
            }
            Self::Scalar => "string, number or boolean".to_owned(),
            Self::Any => "any".to_owned(),
            Self::Vars | Self::Env => "table of names".to_owned(),
            Self::WordOrTable(word, table) => format!("`\"{word}\"` or `{}`", table.name),
            Self::Table(table) | Self::Named(table) | Self::List(table) => format!("`{}`", table.name),
        }
    }
}

impl Table {
    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// This table and all tables below it, each once, in the order of the documentation.
    pub fn all(&'static self) -> Vec<&'static Self> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(table) = all.get(next).copied() {
            for key in table.keys {
                if let KeyKind::Table(below)
                | KeyKind::WordOrTable(_, below)
                | KeyKind::Named(below)
                | KeyKind::List(below) = key.kind
                    && !all.iter().any(|seen| std::ptr::eq(*seen, below))
                {
                    all.push(below);
                }
            }
            next += 1;
        }
        all
    }
}
