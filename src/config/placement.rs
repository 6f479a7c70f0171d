//! Where the releases of each host live: `deploy_to` as a template becomes a path.
//!
//! With `deploy_to = "/opt/app/{{ environment }}"` each environment is an instance of its own, also on one host:
//! its own releases, lock, history and `current`.

use crate::config::inventory::Inventory;
use crate::config::names::deploy_to;
use crate::config::scope::Scope;
use crate::config::selection::{Host, one_app_per_place};
use crate::config::template::is_template;
use crate::document::{Node, Place, Problem, Problems, Value};

/// The hosts with paths in place of templates. `scope` is what templates of a host can refer to: its variables,
/// and nothing that follows from `deploy_to` or from a release.
pub fn placed(
    inventory: &Inventory,
    mut hosts: Vec<Host>,
    scope: &dyn Fn(&Host) -> Result<Scope, Problems>,
) -> Result<Vec<Host>, Problems> {
    let mut problems = Problems::new();
    for host in hosts.iter_mut().filter(|host| is_template(&host.deploy_to)) {
        let node = Node { place: host.deploy_to_place.clone(), value: Value::String(host.deploy_to.clone()) };
        let rendered = scope(host).and_then(|scope| scope.text(&node).map_err(|problem| vec![problem]));
        let checked = rendered.and_then(|text| {
            // A variable that is empty would make one instance's folder the parent of the others.
            let empty = text.trim_end_matches('/').split('/').skip(1).any(str::is_empty) || text.ends_with('/');
            let problem = || Problem::at(&node.place, format!("releases cannot live in {text:?}"));
            if empty {
                return Err(vec![problem().label("expected a path without empty parts")]);
            }
            path(text, &node.place).map_err(|problem| vec![problem])
        });
        match checked {
            Ok(path) => host.deploy_to = path,
            Err(found) => {
                for problem in found {
                    // The same template stands for several hosts.
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
    }
    if problems.is_empty() {
        one_app_per_place(inventory, &hosts)?;
        Ok(hosts)
    } else {
        Err(problems)
    }
}

/// `text` as a path where releases can live.
pub fn path(text: String, place: &Place) -> Result<String, Problem> {
    match deploy_to(&text) {
        Ok(()) => Ok(text.trim_end_matches('/').to_owned()),
        Err(expected) => Err(Problem::at(place, format!("releases cannot live in {text:?}")).label(expected)),
    }
}

/// The path that all `hosts` have in common.
pub fn common(hosts: &[Host]) -> Option<String> {
    let (first, others) = hosts.split_first()?;
    others.iter().all(|host| host.deploy_to == first.deploy_to).then(|| first.deploy_to.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::located::Vars;
    use crate::config::scope::{Ingredients, KnownSecrets, RunFacts};
    use crate::config::selection::{Choice, select};
    use crate::config::{diagnostic, inventory_tests};

    /// The folders of the hosts of `environment`, or what is wrong.
    fn folders(text: &str, environment: &str) -> String {
        let inventory = inventory_tests::read(&format!("recipe = \"x\"\napp = \"medctrl\"\n{text}\n"))
            .unwrap_or_else(|said| panic!("{said}"));
        let choice = Choice { environment: Some(environment.to_owned()), ..Choice::default() };
        let selection = select(&inventory, &choice, &|_| Err(String::new())).expect("hosts");
        let run =
            RunFacts { app: inventory.app.clone(), environment: selection.environment.clone(), ..RunFacts::default() };
        let secrets = KnownSecrets::Names(BTreeSet::from(["key".to_owned()]));
        let scope = |host: &Host| {
            Scope::new(Ingredients {
                recipe: &Vars::new(),
                vars: &selection.vars,
                host: Some(host),
                hosts: &selection.hosts,
                set: &[],
                options: &BTreeMap::new(),
                option_names: &["fast".to_owned()],
                run: &run,
                secrets: &secrets,
            })
        };
        match placed(&inventory, selection.hosts.clone(), &scope) {
            Ok(hosts) => hosts.iter().map(|host| format!("{} {}\n", host.name, host.deploy_to)).collect(),
            Err(problems) => diagnostic::render(&problems, false),
        }
    }

    #[test]
    fn each_environment_is_an_instance_on_the_same_host() {
        let text = "deploy_to = \"{{ base }}/{{ environment }}\"\nvars = { base = \"/opt/{{ app }}\" }\n[hosts.web1]\n[environments.development]\nhosts = [\"web1\"]\n[environments.testing]\nhosts = [\"web1\"]\nvars = { base = \"/srv\" }";
        assert_eq!(folders(text, "development"), "web1 /opt/medctrl/development\n");
        assert_eq!(folders(text, "testing"), "web1 /srv/testing\n");
    }

    #[test]
    fn two_names_for_one_server_may_differ_by_their_template_alone() {
        let text = "deploy_to = \"/srv/{{ host }}\"\n[hosts.a]\naddress = \"h\"\n[hosts.b]\naddress = \"h\"\n[environments.e]\nhosts = [\"*\"]";
        assert_eq!(folders(text, "e"), "a /srv/a\nb /srv/b\n");
        let same = text.replace("{{ host }}", "{{ app }}");
        assert!(folders(&same, "e").contains("`a` and `b` are the same folder of the same server"));
    }

    #[test]
    fn what_a_template_may_not_become() {
        let with = |template: &str| {
            folders(
                &format!(
                    "deploy_to = \"{template}\"\nvars = {{ empty = \"\", up = \"..\" }}\n[hosts.a]\n[hosts.b]\n[environments.e]\nhosts = [\"*\"]"
                ),
                "e",
            )
        };
        let wrong = [
            "/srv/{{ empty }}",
            "/srv/{{ up }}/x",
            "/srv/{{ enviroment }}",
            "/srv/{{ release }}",
            "{{ shared_path }}/x",
            "/srv/{{ options.fast }}",
            "/srv/{{ deploy_user }}",
            "/srv/{{ secrets.key }}",
        ];
        insta::assert_snapshot!(wrong.map(with).join("\n"), @r#"
        error: releases cannot live in "/srv/"
         --> inventory.toml:3:13
          |
        3 | deploy_to = "/srv/{{ empty }}"
          |             ^^^^^^^^^^^^^^^^^^ expected a path without empty parts

        error: releases cannot live in "/srv/../x"
         --> inventory.toml:3:13
          |
        3 | deploy_to = "/srv/{{ up }}/x"
          |             ^^^^^^^^^^^^^^^^^ expected a path without `.` and `..`

        error: `enviroment` is not defined
         --> inventory.toml:3:22
          |
        3 | deploy_to = "/srv/{{ enviroment }}"
          |                      ^^^^^^^^^^ no such variable
          |
          = help: did you mean `environment`?

        error: `release` is not defined
         --> inventory.toml:3:22
          |
        3 | deploy_to = "/srv/{{ release }}"
          |                      ^^^^^^^ no such variable
          |
          = help: where releases live is the same for every run

        error: `shared_path` is not defined
         --> inventory.toml:3:17
          |
        3 | deploy_to = "{{ shared_path }}/x"
          |                 ^^^^^^^^^^^ no such variable
          |
          = help: it follows from `deploy_to`

        error: `options` is not defined
         --> inventory.toml:3:22
          |
        3 | deploy_to = "/srv/{{ options.fast }}"
          |                      ^^^^^^^ no such variable
          |
          = help: where releases live is the same for every run

        error: `deploy_user` is not defined
         --> inventory.toml:3:22
          |
        3 | deploy_to = "/srv/{{ deploy_user }}"
          |                      ^^^^^^^^^^^ no such variable
          |
          = help: say in the inventory which `user` the host has

        error: the secret `key` would show here, in process lists and logs
         --> inventory.toml:3:22
          |
        3 | deploy_to = "/srv/{{ secrets.key }}"
          |                      ^^^^^^^^^^^ a secret may stand only in a settings file and in `env`
          |
          = help: write `env = { KEY = "{{ secrets.key }}" }`, and "$KEY" in the command
        "#);
    }
}
