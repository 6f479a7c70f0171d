//! What is said of templates and variables that come to nothing.

use super::{Setting, run};

#[test]
fn undefined_variables_are_all_reported_where_they_stand() {
    insta::assert_snapshot!(run("echo {{ wrod }} \"é\\n\" {{ options.skip }} {% if false %}{{ list.x }}{{ relase_path }}{% endif %} {{ secrets.db_pasword }}"), @r#"
    error: `wrod` is not defined
     --> recipes/django.toml:5:16
      |
    5 | run = "echo {{ wrod }} \"é\\n\" {{ options.skip }} {% if false %}{{ list.x }}{{ relase_path }}{% endif %} {{ secrets.db_pasword }}"
      |                ^^^^ no such variable
      |
      = help: did you mean `word`?

    error: `options.skip` is not defined
     --> recipes/django.toml:5:36
      |
    5 | run = "echo {{ wrod }} \"é\\n\" {{ options.skip }} {% if false %}{{ list.x }}{{ relase_path }}{% endif %} {{ secrets.db_pasword }}"
      |                                    ^^^^^^^^^^^^ no such variable

    error: `relase_path` is not defined
     --> recipes/django.toml:5:81
      |
    5 | run = "echo {{ wrod }} \"é\\n\" {{ options.skip }} {% if false %}{{ list.x }}{{ relase_path }}{% endif %} {{ secrets.db_pasword }}"
      |                                                                                 ^^^^^^^^^^^ no such variable
      |
      = help: did you mean `release_path`?

    error: `secrets.db_pasword` is not defined
     --> recipes/django.toml:5:110
      |
    5 | run = "echo {{ wrod }} \"é\\n\" {{ options.skip }} {% if false %}{{ list.x }}{{ relase_path }}{% endif %} {{ secrets.db_pasword }}"
      |                                                                                                              ^^^^^^^^^^^^^^^^^^ no such variable
      |
      = help: did you mean `db_password`?
    "#);
}

#[test]
fn an_undefined_variable_in_a_variable() {
    insta::assert_snapshot!(Setting::new("[vars]\na = \"{{ bee }}\"\n[vars.table]\nb = [\"x{{ c.d }}\"]\n").steps(), @r#"
    error: `bee` is not defined
     --> recipes/django.toml:2:9
      |
    2 | a = "{{ bee }}"
      |         ^^^ no such variable
      |
      = help: variables stand in `[vars]` of the recipe and the inventory, or come by `--set`

    error: `c` is not defined
     --> recipes/django.toml:4:11
      |
    4 | b = ["x{{ c.d }}"]
      |           ^ no such variable
      |
      = help: variables stand in `[vars]` of the recipe and the inventory, or come by `--set`
    "#);
}

#[test]
fn an_undefined_key_of_a_table() {
    let text = "[vars.db]\nhost = \"{{ app }}.example.org\"\n[[prepare]]\nrun = \"{{ db.host }} {{ db.prot }} {{ db.port|default(5432) }} {{ db.hosst }}\"\n";
    insta::assert_snapshot!(Setting::new(text).steps(), @r#"
    error: `db.prot` is not defined
     --> recipes/django.toml:4:25
      |
    4 | run = "{{ db.host }} {{ db.prot }} {{ db.port|default(5432) }} {{ db.hosst }}"
      |                         ^^^^^^^ no such variable

    error: `db.hosst` is not defined
     --> recipes/django.toml:4:67
      |
    4 | run = "{{ db.host }} {{ db.prot }} {{ db.port|default(5432) }} {{ db.hosst }}"
      |                                                                   ^^^^^^^^ no such variable
      |
      = help: did you mean `host`?
    "#);
}

#[test]
fn an_undefined_variable_in_a_multi_line_command() {
    insta::assert_snapshot!(Setting::new("[[prepare]]\nrun = \"\"\"\n  first \\\n    second\n  third {{ wrod }}\n\"\"\"\n").steps(), @"
    error: `wrod` is not defined
     --> recipes/django.toml:5:12
      |
    5 |   third {{ wrod }}
      |            ^^^^ no such variable
      |
      = help: variables stand in `[vars]` of the recipe and the inventory, or come by `--set`
    ");
}

#[test]
fn variables_that_refer_to_themselves() {
    insta::assert_snapshot!(Setting::new("[vars]\na = \"{{ b }}\"\nb = \"x{{ c }}\"\nc = [\"{{ a }}\"]\nd = \"{{ a }}\"\ne = \"{{ e }}\"\n").steps(), @r#"
    error: the variable `a` refers to itself: a → b → c → a
     --> recipes/django.toml:2:5
      |
    2 | a = "{{ b }}"
      |     ^^^^^^^^^ expected a value that does not depend on itself
      |
      = help: `b` stands at recipes/django.toml:3:5, `c` stands at recipes/django.toml:4:5

    error: the variable `e` refers to itself: e → e
     --> recipes/django.toml:6:5
      |
    6 | e = "{{ e }}"
      |     ^^^^^^^^^ expected a value that does not depend on itself
    "#);
}

#[test]
fn a_host_on_this_machine() {
    let mut setting = Setting::new("[[build]]\nlocal = \"echo {{ host }} {{ branch }}\"\n");
    setting.local = true;
    insta::assert_snapshot!(setting.steps(), @r#"
    error: `host` is not defined
     --> recipes/django.toml:2:18
      |
    2 | local = "echo {{ host }} {{ branch }}"
      |                  ^^^^ no such variable
      |
      = help: a step of `build` is done once, on this machine, and belongs to no host
    "#);
}

#[test]
fn quotes_around_a_value() {
    insta::assert_snapshot!(run("echo \"a {{ word }}\"\ncat <<END\n{{ word }}\nEND"), @r#"
    error: a quoted value between quotes
     --> recipes/django.toml:5:17
      |
    5 | run = "echo \"a {{ word }}\"\ncat <<END\n{{ word }}\nEND"
      |                 ^^^^^^^^^^ ship quotes the value; remove the quotes around it
      |
      = help: to put the value into a longer word, write it beside the quotes: "a "{{ x }}" b"

    error: a quoted value in a here-document
     --> recipes/django.toml:5:42
      |
    5 | run = "echo \"a {{ word }}\"\ncat <<END\n{{ word }}\nEND"
      |                                          ^^^^^^^^^^ ship quotes the value, and its quotes would stay
      |
      = help: write the file with a `settings` step
    "#);
}

#[test]
fn templates_that_cannot_be_read() {
    insta::assert_snapshot!(run("a {{ word"), @r#"
    error: the template cannot be read
     --> recipes/django.toml:5:13
      |
    5 | run = "a {{ word"
      |             ^^^^ unexpected end of input, expected end of variable block
    "#);
    insta::assert_snapshot!(run("a {% if word %}"), @r#"
    error: the template cannot be read
     --> recipes/django.toml:5:21
      |
    5 | run = "a {% if word %}"
      |                     ^^ unexpected end of input, expected end of block
    "#);
    insta::assert_snapshot!(run("a {{ word|nofilter }}"), @r#"
    error: `nofilter` fails: unknown filter
     --> recipes/django.toml:5:18
      |
    5 | run = "a {{ word|nofilter }}"
      |                  ^^^^^^^^ filter nofilter is unknown
    "#);
    insta::assert_snapshot!(run("a {{ word + 1 }}"), @r#"
    error: `word + 1` cannot be used like this
     --> recipes/django.toml:5:13
      |
    5 | run = "a {{ word + 1 }}"
      |             ^^^^^^^^ tried to use + operator on unsupported types string and number
    "#);
    insta::assert_snapshot!(run("a {{ word }} ${#x}"), @r#"
    error: the template cannot be read
     --> recipes/django.toml:5:7
      |
    5 | run = "a {{ word }} ${#x}"
      |       ^^^^^^^^^^^^^^^^^^^^ unexpected end of comment
      |
      = help: `{#` begins a comment; for the shell's length, write `{% raw %}${#name}{% endraw %}`
    "#);
    insta::assert_snapshot!(run("{% for x in range(10000) %}{% for y in range(10000) %}{% endfor %}{% endfor %}"), @r#"
    error: this template does not come to an end
     --> recipes/django.toml:5:7
      |
    5 | run = "{% for x in range(10000) %}{% for y in range(10000) %}{% endfor %}{% endfor %}"
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected less work
    "#);
}
