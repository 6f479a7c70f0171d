//! The keys of `inventory.toml` and of recipes: what the readers ask for, the schema allows and the
//! README lists.

use crate::document::key::{Absent, Key, KeyKind, Table};

const fn key(name: &'static str, kind: KeyKind, absent: Absent, doc: &'static str) -> Key {
    Key { name, kind, absent, doc }
}

/// `inventory.toml`.
pub static INVENTORY: Table = Table {
    name: "inventory.toml",
    doc: "who is deployed to",
    keys: &[
        key(
            "recipe",
            KeyKind::String,
            Absent::Required,
            "a recipe in the binary, or `recipes/NAME.toml` beside this file, which wins",
        ),
        key("app", KeyKind::String, Absent::Required, "the application's name, made of `[A-Za-z0-9._-]`"),
        key(
            "deploy_to",
            KeyKind::String,
            Absent::Required,
            "where releases live on each host: an absolute path; a template: `/srv/{{ app }}/{{ environment }}`",
        ),
        key(
            "default",
            KeyKind::String,
            Absent::Default("the only environment, if there is one"),
            "the environment that is meant where none is named",
        ),
        key("keep_releases", KeyKind::Count, Absent::Default("5"), "how many releases are kept on each host"),
        key(
            "exclude",
            KeyKind::Strings,
            Absent::None,
            "patterns of files that are never uploaded, in the manner of `.gitignore`",
        ),
        key("vars", KeyKind::Vars, Absent::None, "variables of every host, stronger than the recipe's"),
        key("hosts", KeyKind::Named(&HOST), Absent::None, "the hosts"),
        key("groups", KeyKind::Named(&GROUP), Absent::None, "named sets of hosts with variables"),
        key(
            "environments",
            KeyKind::Named(&ENVIRONMENT),
            Absent::None,
            "named sets of hosts with variables and a branch",
        ),
        key(
            "secrets",
            KeyKind::Named(&SECRET),
            Absent::None,
            "values that are never shown; templates say `secrets.NAME`",
        ),
    ],
};

/// `[hosts.NAME]`.
pub static HOST: Table = Table {
    name: "[hosts.NAME]",
    doc: "a host",
    keys: &[
        key(
            "address",
            KeyKind::String,
            Absent::Default("its name"),
            "host name, IP address, or a `Host` of `~/.ssh/config`, which is honoured",
        ),
        key("user", KeyKind::String, Absent::Default("that of `~/.ssh/config`, then your own"), "the login"),
        key("port", KeyKind::Count, Absent::Default("that of `~/.ssh/config`, then `22`"), "the port"),
        key(
            "identity_file",
            KeyKind::String,
            Absent::Default("that of `~/.ssh/config`, then the agent's and the usual keys"),
            "the private key to offer first; relative to this file, or `~/…`",
        ),
        key(
            "jump",
            KeyKind::String,
            Absent::Default("that of `~/.ssh/config`"),
            "the host to go through: a host of this file, or `user@host:port`",
        ),
        key(
            "host_key",
            KeyKind::Strings,
            Absent::Default("what known_hosts says"),
            "the only host keys to accept: `ssh-ed25519 AAAA…` or `SHA256:…`",
        ),
        key("forward_agent", KeyKind::Boolean, Absent::Default("false"), "whether the host may use your SSH agent"),
        key("password", KeyKind::Table(&PASSWORD), Absent::None, "the login's password, where it cannot be a key"),
        key(
            "sudo_password",
            KeyKind::WordOrTable("ask", &PASSWORD),
            Absent::Default("sudo must need none"),
            "the password that sudo wants: a secret, or `\"ask\"` to be asked once for all hosts of a run",
        ),
        key("roles", KeyKind::Strings, Absent::None, "what the host does; steps and `--role` choose by it"),
        key(
            "deploy_to",
            KeyKind::String,
            Absent::Default("the environment's, then the inventory's"),
            "where releases live on this host",
        ),
        key("vars", KeyKind::Vars, Absent::None, "variables of this host, stronger than all but `--set`"),
    ],
};

/// `password`.
pub static PASSWORD: Table = Table {
    name: "password",
    doc: "a password",
    keys: &[key("secret", KeyKind::String, Absent::Required, "the name of the secret that holds it")],
};

/// `[groups.NAME]`.
pub static GROUP: Table = Table {
    name: "[groups.NAME]",
    doc: "a named set of hosts",
    keys: &[
        key("hosts", KeyKind::Strings, Absent::None, "names or globs of hosts"),
        key("roles", KeyKind::Strings, Absent::None, "roles that each of its hosts has"),
        key(
            "vars",
            KeyKind::Vars,
            Absent::None,
            "variables of its hosts; where a host is in two groups, the later one wins",
        ),
    ],
};

/// `[environments.NAME]`.
pub static ENVIRONMENT: Table = Table {
    name: "[environments.NAME]",
    doc: "a named set of hosts with variables and a branch",
    keys: &[
        key(
            "hosts",
            KeyKind::Strings,
            Absent::None,
            "names or globs of hosts and groups; this or `hosts_from` must be there",
        ),
        key("hosts_from", KeyKind::Table(&HOSTS_FROM), Absent::None, "hosts that a command names"),
        key(
            "branch",
            KeyKind::String,
            Absent::None,
            "the branch that is deployed where `--branch`, `--revision` or `--artifact` names nothing else",
        ),
        key(
            "batch",
            KeyKind::CountOrString,
            Absent::Default("all"),
            "how many hosts are published at once: `2`, `\"50%\"`, `\"all\"`",
        ),
        key(
            "max_failures",
            KeyKind::Count,
            Absent::Default("0"),
            "how many hosts may fail before every host is put back",
        ),
        key(
            "confirm",
            KeyKind::Boolean,
            Absent::Default("false"),
            "whether a person has to confirm each deploy; `--yes` does",
        ),
        key("deploy_to", KeyKind::String, Absent::Default("the inventory's"), "where releases live on its hosts"),
        key("vars", KeyKind::Vars, Absent::None, "variables of its hosts, stronger than a group's"),
        key(
            "secrets",
            KeyKind::Named(&SECRET),
            Absent::None,
            "secrets of this environment, in place of the inventory's of the same name",
        ),
    ],
};

/// `hosts_from`.
pub static HOSTS_FROM: Table = Table {
    name: "hosts_from",
    doc: "hosts that a command names",
    keys: &[key(
        "command",
        KeyKind::String,
        Absent::Required,
        "prints hosts as JSON in the form of Ansible's dynamic inventory; run in the folder of this file",
    )],
};

/// `secrets.NAME`, which has exactly one of these keys.
pub static SECRET: Table = Table {
    name: "secrets.NAME",
    doc: "where a secret comes from: exactly one of these",
    keys: &[
        key("env", KeyKind::String, Absent::None, "an environment variable of ship"),
        key("file", KeyKind::String, Absent::None, "a file, relative to this one"),
        key(
            "command",
            KeyKind::String,
            Absent::None,
            "what a command prints, for example `op read …`; run in the folder of this file",
        ),
        key("age", KeyKind::String, Absent::None, "a file that `age` decrypts, relative to this one"),
    ],
};

/// A recipe.
pub static RECIPE: Table = Table {
    name: "recipes/NAME.toml",
    doc: "what is done",
    keys: &[
        key("description", KeyKind::String, Absent::None, "what the recipe is for, in one line"),
        key(
            "options",
            KeyKind::Named(&OPTION),
            Absent::None,
            "options: flags of `ship deploy`, and variables of templates",
        ),
        key("vars", KeyKind::Vars, Absent::None, "variables, weaker than all others"),
        key("shared", KeyKind::Table(&SHARED), Absent::None, "what outlives releases and is linked into each"),
        key(
            "exclude",
            KeyKind::Strings,
            Absent::None,
            "patterns of files that are never uploaded, in the manner of `.gitignore`",
        ),
        key(
            "caches",
            KeyKind::Strings,
            Absent::Default("`node_modules`, `frontend/node_modules`, `target`"),
            "folders of the checkout that are kept between builds",
        ),
        key(
            "read_only",
            KeyKind::Boolean,
            Absent::Default("`false`"),
            "no program changes an uploaded file: files lose their write permission, and those that did not change are hard links to the release before instead of copies, so that a change by force shows in every release that is kept",
        ),
        key(
            "services",
            KeyKind::Strings,
            Absent::None,
            "systemd units for `ship status`, `ship logs` and `ship service`; templates, of which an empty one names none",
        ),
        key(
            "env_file",
            KeyKind::Template,
            Absent::Default("`.env`"),
            "the settings file that `ship env` keeps, below `shared/`",
        ),
        key("build", KeyKind::List(&STEP), Absent::None, "steps on this machine, in a clean checkout of the revision"),
        key("prepare", KeyKind::List(&STEP), Absent::None, "steps on every host; nothing is visible to users yet"),
        key(
            "publish",
            KeyKind::List(&STEP),
            Absent::None,
            "steps batch by batch; also what a rollback runs, for an older release",
        ),
        key(
            "finish",
            KeyKind::List(&STEP),
            Absent::None,
            "steps after every batch is live; a failure here undoes nothing",
        ),
        key("setup", KeyKind::List(&STEP), Absent::None, "steps of `ship setup`"),
    ],
};

/// `[options.NAME]`.
pub static OPTION: Table = Table {
    name: "[options.NAME]",
    doc: "an option: `[options] skip_tests = { type = \"bool\" }` becomes the flag `--skip-tests`",
    keys: &[
        key("type", KeyKind::OneOf(&["bool", "string", "integer", "choice"]), Absent::Required, "what it takes"),
        key("choices", KeyKind::Strings, Absent::None, "the values of a `choice`"),
        key(
            "default",
            KeyKind::Scalar,
            Absent::Default("`false` for a `bool`, else none"),
            "its value where the flag is not given",
        ),
        key("help", KeyKind::String, Absent::None, "the help of the flag"),
    ],
};

/// `[shared]`.
pub static SHARED: Table = Table {
    name: "[shared]",
    doc: "what outlives releases and is linked into each; templates, relative to the release",
    keys: &[
        key("files", KeyKind::Strings, Absent::None, "files"),
        key("dirs", KeyKind::Strings, Absent::None, "folders"),
    ],
};

/// A step: these keys, and exactly one action.
pub static STEP: Table = Table {
    name: "step",
    doc: "a step: exactly one action, and any of these",
    keys: &[
        key("name", KeyKind::Template, Absent::Default("made from the action"), "what is shown while it is done"),
        key("tags", KeyKind::Strings, Absent::None, "names for `--skip` and `--only`"),
        key("roles", KeyKind::Strings, Absent::Default("all hosts"), "only on hosts that have one of these roles"),
        key(
            "when",
            KeyKind::Expression,
            Absent::Default("true"),
            "only where this is true: `options.migrate and environment == 'prod'`",
        ),
        key("unless", KeyKind::Expression, Absent::Default("false"), "only where this is false"),
        key("once", KeyKind::Boolean, Absent::Default("false"), "only on the first of its hosts"),
        key(
            "cwd",
            KeyKind::Template,
            Absent::Default("the release, or the checkout"),
            "where commands run, relative to that",
        ),
        key("env", KeyKind::Env, Absent::None, "the environment of commands; values may contain secrets"),
        key("timeout", KeyKind::Duration, Absent::Default("\"10m\""), "how long a command may take"),
        key("attempts", KeyKind::Count, Absent::Default("1"), "how often a command may be tried in all"),
        key(
            "detach",
            KeyKind::Boolean,
            Absent::Default("false"),
            "a command of `prepare` or `finish` goes on when the connection or the laptop is gone; this run or the next finds it again",
        ),
        key("tolerate", KeyKind::Boolean, Absent::Default("false"), "a failure is reported and the run goes on"),
        key("creates", KeyKind::Template, Absent::None, "in `setup`: nothing is done where this path is there"),
        key(
            "done_when",
            KeyKind::Template,
            Absent::None,
            "in `setup`: nothing is done where this shell command, run by the login user, ends with 0",
        ),
    ],
};
