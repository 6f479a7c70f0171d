//! Two builds of one Django API side by side on one server: each environment is an instance with its own releases, lock,
//! settings, socket, unit (of one template) and rollback; one site of nginx in front of both.

use std::time::Instant;

use crate::hosts::{Host, Lab, Project};
use crate::visitor::{Visitor, get_from};

const INVENTORY: &str = r#"
recipe    = "django"
app       = "medctrl"
deploy_to = "/opt/{{ app }}/backend/{{ environment }}"

[vars]
backend        = "API"
frontend       = ""
settings       = "api_settings.settings.deploy_{{ environment }}"
local_settings = "api_settings/settings/deploy_{{ environment }}.py"
settings_file  = "/opt/medctrl/settings/deploy_{{ environment }}.py"
cache          = "/home/deployer/.cache"
gunicorn       = "medctrl@{{ environment }}"
unit           = "medctrl@"
unit_home      = "/opt/medctrl/backend/%i"
unit_settings  = "api_settings.settings.deploy_%i"
socket         = "{{ deploy_to }}/gunicorn.sock"
unit_socket    = "{{ unit_home }}/gunicorn.sock"
target         = "medctrl.target"
server_name    = "medctrl.example.org"
health_host    = "{{ server_name }}"
health_url     = "http://127.0.0.1{{ location }}/health/"
gunicorn_options = "--workers 2 --no-control-socket"

[hosts.web2]
user  = "deployer"
roles = ["web"]

[environments.development]
hosts  = ["web2"]
branch = "develop"
vars   = { location = "/api" }

[environments.testing]
hosts  = ["web2"]
branch = "testing"
vars   = { location = "/testapi", installer = "uv" }
"#;

const BUILDS: [(&str, &str, &str); 2] = [("development", "develop", "/api"), ("testing", "testing", "/testapi")];

/// The settings of a build, as they stand on the server.
const SETTINGS: &str = r#"from api_settings.settings.common import *

SECRET_KEY = "a random key of this build with more than fifty letters 0123456789 @BUILD@"
DEBUG = False
BUILD = "@BUILD@"
BASE_URL = "medctrl.example.org@LOCATION@/"
ALLOWED_HOSTS = ["medctrl.example.org"]
STATIC_ROOT = "/var/www/medctrl/django-static/@BUILD@"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "medctrl_@BUILD@", "CONN_MAX_AGE": 60}}
"#;

const CLEAN: &str = "systemctl disable --now --quiet medctrl.target 2>/dev/null
    for b in development testing; do systemctl disable --now --quiet medctrl@$b.socket medctrl@$b 2>/dev/null
    systemctl reset-failed medctrl@$b medctrl@$b.socket 2>/dev/null; done
    rm -rf /opt/medctrl /var/log/medctrl /var/www/medctrl /etc/systemd/system/medctrl* /etc/sudoers.d/ship-medctrl*
    rm -rf /etc/nginx/medctrl /etc/nginx/sites-enabled/medctrl /etc/nginx/sites-available/medctrl /etc/logrotate.d/medctrl
    systemctl daemon-reload
    cd / && for b in development testing; do runuser -u postgres -- dropdb --if-exists medctrl_$b; done
    systemctl reload nginx || systemctl restart nginx";

/// What an administrator does before ship: logins, databases, settings.
fn administrate(lab: &Lab, host: &Host) {
    lab.root(host, CLEAN);
    lab.admin(host);
    lab.root(
        host,
        "systemctl start postgresql nginx; usermod --append --groups systemd-journal deployer; cd /
         install -d -o deployer /opt/medctrl /opt/medctrl/settings /var/www/medctrl /var/www/medctrl/django-static
         test -n \"$(runuser -u postgres -- psql -tAc \"SELECT 1 FROM pg_roles WHERE rolname = 'deployer'\")\" \
         || runuser -u postgres -- createuser deployer
         for b in development testing; do runuser -u postgres -- createdb --owner deployer medctrl_$b; done",
    );
    for (build, _, location) in BUILDS {
        let text = SETTINGS.replace("@BUILD@", build).replace("@LOCATION@", location);
        let write = format!("umask 077; cat >/opt/medctrl/settings/deploy_{build}.py");
        lab.as_fed(host, "deployer", &write, &text);
    }
}

/// `uv.lock` of the fixture, made on the host: it names the archives of the day.
fn lock_file(lab: &Lab, host: &Host, project: &str) -> String {
    let make =
        "set -ea; . /etc/environment; HOME=/home/deployer; mkdir -p $HOME/.cache/ship-lab/api; cd $HOME/.cache/ship-lab
        test -x uv/bin/uv || { python3 -m venv uv && uv/bin/python -m pip install --quiet uv; }
        cd api; cat >pyproject.toml; ../uv/bin/uv lock --quiet";
    lab.as_fed(host, "deployer", make, project);
    lab.root(host, "cat /home/deployer/.cache/ship-lab/api/uv.lock")
}

/// The message of a build, asked through nginx.
fn served(host: &Host, (build, _, location): (&str, &str, &str)) -> String {
    let answer = get_from("medctrl.example.org", host.http_port, &format!("{location}/"))
        .unwrap_or_else(|error| panic!("{build}: {error}"));
    assert_eq!(answer.status, 200, "{build}: {}", answer.body);
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(json["build"], build);
    json["message"].as_str().expect("a message").to_owned()
}

fn current(lab: &Lab, host: &Host, build: &str) -> String {
    lab.root(host, &format!("readlink /opt/medctrl/backend/{build}/current"))
}

/// Deploys both builds at once, by two runs of ship.
fn deploy_both(project: &Project, codes: [i32; 2]) {
    std::thread::scope(|scope| {
        let runs = BUILDS.map(|(build, ..)| scope.spawn(move || project.ship(&["deploy", build])));
        for (run, code) in runs.into_iter().zip(codes) {
            run.join().expect("a run").exits(code);
        }
    });
}

#[test]
fn two_builds_of_one_api_on_one_server() {
    let began = Instant::now();
    let lab = Lab::new();
    let host = lab.host("web2");
    administrate(&lab, &host);
    let [development, testing] = BUILDS;

    let project = Project::new(&lab);
    project.copy_fixture("django-instances");
    project.write("inventory.toml", INVENTORY);
    let pyproject = std::fs::read_to_string(project.path().join("API/pyproject.toml")).expect("pyproject.toml");
    project.write("API/uv.lock", &lock_file(&lab, &host, &pyproject));
    let version = |(_, branch, _): (&str, &str, &str), name: &str, value: &str| {
        project.checkout(branch);
        project.set("API/version.py", name, value);
    };
    project.commit("Both builds");
    project.branch("develop");
    project.branch("testing");
    version(development, "MESSAGE", "development one");
    version(testing, "MESSAGE", "testing one");

    // Each instance is set up for itself; what they have in common (template units, target, site) is there once.
    for (build, ..) in BUILDS {
        let setup = ["setup", build, "--user", "admin", "--yes"];
        project.ship(&setup).exits(0).says(&format!("medctrl@{build}.socket"));
    }
    for (build, ..) in BUILDS {
        project.ship(&["setup", build, "--user", "admin", "--yes"]).exits(0).says("Nothing to do");
        project.ship(&["check", build]).exits(0);
    }
    println!("The sudoers files of this test:\n{}", lab.root(&host, "cat /etc/sudoers.d/ship-medctrl*"));
    for refused in ["restart medctrl@production", "stop medctrl@testing", "restart nginx", "restart medctrl.target"] {
        assert_ne!(lab.status_as(&host, "deployer", &format!("sudo -n systemctl {refused}")), 0, "{refused}");
    }

    // The settings of a build have to be there before anything of it starts.
    lab.root(&host, "mv /opt/medctrl/settings/deploy_testing.py /opt/medctrl/settings/away");
    deploy_both(&project, [0, 3]);
    assert_eq!(served(&host, development), "development one");
    assert_eq!(lab.root(&host, "ls /opt/medctrl/backend/testing/releases"), "");
    lab.root(&host, "mv /opt/medctrl/settings/away /opt/medctrl/settings/deploy_testing.py");
    project.ship(&["deploy", "testing"]).exits(0);
    assert_eq!(served(&host, testing), "testing one");
    let units = lab.root(&host, "systemctl list-dependencies --plain medctrl.target");
    assert!(units.contains("medctrl@development.service") && units.contains("medctrl@testing.service"), "{units}");

    let visitors =
        ["/api/", "/testapi/"].map(|path| Visitor::begin_at("medctrl.example.org", vec![host.http_port], path));

    // Two commits of two branches at once.
    version(development, "MESSAGE", "development two");
    version(testing, "MESSAGE", "testing two");
    deploy_both(&project, [0, 0]);
    assert_eq!([served(&host, development), served(&host, testing)], ["development two", "testing two"]);

    // One that does not start is put back; the other does not notice, though it is deployed at the same time.
    version(development, "MESSAGE", "development three");
    version(testing, "STARTS", "no");
    deploy_both(&project, [0, 1]);
    assert_eq!([served(&host, development), served(&host, testing)], ["development three", "testing two"]);

    // A site that nginx does not like comes back as it was, and both go on.
    let wrong = ["setup", "testing", "--user", "admin", "--yes", "--set", "location=/testapi { broken"];
    let refused = project.ship(&wrong);
    assert_ne!(refused.code, 0, "{}", refused.text);
    lab.root(&host, "nginx -tq");
    assert_eq!([served(&host, development), served(&host, testing)], ["development three", "testing two"]);

    let before = current(&lab, &host, "development");
    project.ship(&["rollback", "testing"]).exits(0);
    assert_eq!([served(&host, development), served(&host, testing)], ["development three", "testing one"]);
    assert_eq!(current(&lab, &host, "development"), before);
    project.ship(&["status", "development"]).exits(0).says("medctrl@development active");

    for visitor in visitors {
        let seen = visitor.end();
        println!("{} requests, {} failed, slowest {:?}", seen.requests, seen.failures.len(), seen.slowest);
        assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    }
    let logs = project.ship(&["logs", "testing"]).exits(0).says("Booting worker").text;
    assert!(!logs.contains("medctrl@development"), "{logs}");
    lab.root(&host, CLEAN);
    println!("in all {:.0} s", began.elapsed().as_secs_f32());
}
