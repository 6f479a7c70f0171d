//! A Django site on one server that an administrator prepared by the book: a narrow sudoers file, settings that stand
//! on the server, PostgreSQL, Redis, Celery, gunicorn behind a socket of systemd, nginx; packages by Poetry.

use std::time::Instant;

use crate::hosts::{Host, Lab, Project};
use crate::visitor::{Answer, Visitor, get_from};

const INVENTORY: &str = r#"
recipe        = "django"
app           = "tsosi"
deploy_to     = "/var/www"
keep_releases = 2

[vars]
settings_file    = "/home/deployer/config/settings_local.py"
installer        = "poetry"
installer_path   = "/home/deployer/.cache/ship-lab/poetry"
cache            = "/home/deployer/.cache"
server_name      = "tsosi.example.org"
health_host      = "{{ server_name }}"
gunicorn_options = "--workers 2 --no-control-socket"
celery_options   = "--concurrency 1 --loglevel INFO"
media            = "/tsosi_media"
prepare_commands = ["python -c 'import django; print(\"prepared with\", django.__version__)'"]
post_commands    = ["test -e ../deployment.json", "python manage.py check --tag files"]
reclaim          = "deployer:deployer"

[hosts.web1]
user  = "deployer"
roles = ["web", "worker"]

[environments.prod]
hosts   = ["web1"]
branch  = "main"
confirm = true
"#;

/// The file that the administrator pasted with `visudo`, before ship was known.
const SUDOERS: &str = r"deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart nginx, /usr/bin/systemctl start nginx, /usr/bin/systemctl stop nginx, /usr/bin/systemctl status nginx, /usr/bin/systemctl reload nginx
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart tsosi_gunicorn, /usr/bin/systemctl start tsosi_gunicorn, /usr/bin/systemctl stop tsosi_gunicorn, /usr/bin/systemctl status tsosi_gunicorn
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart redis-server, /usr/bin/systemctl start redis-server, /usr/bin/systemctl stop redis-server, /usr/bin/systemctl status redis-server
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart tsosi_celery, /usr/bin/systemctl start tsosi_celery, /usr/bin/systemctl stop tsosi_celery, /usr/bin/systemctl status tsosi_celery
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart tsosi_celery_beat, /usr/bin/systemctl start tsosi_celery_beat, /usr/bin/systemctl stop tsosi_celery_beat, /usr/bin/systemctl status tsosi_celery_beat
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/chown -R deployer\:deployer /var/www/releases/
";

/// The settings as the administrator wrote them: they know nothing of ship but the file that every release has.
const SETTINGS: &str = r#"import json
from pathlib import Path

_release = Path(__file__).resolve().parents[2]
SECRET_KEY = "an administrator's own long and random key of fifty letters and more 0123456789"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "tsosi",
        "USER": "tsosi_user",
        "PASSWORD": "@PASSWORD@",
        "HOST": "127.0.0.1",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
REDIS_URL = "redis://127.0.0.1:6379/1"
ALLOWED_HOSTS = ["tsosi.example.org"]
STATIC_ROOT = str(_release / "static")
RELEASE = json.loads((_release / "deployment.json").read_text())["release"]
"#;

const PYPROJECT: &str = r#"[project]
name = "notes"
version = "1.0"
description = "The sample site"
requires-python = ">=3.11"
dependencies = ["django>=5.2,<5.3", "gunicorn>=25.1", "celery[redis]>=5.5,<6", "psycopg[binary]>=3.2,<4"]

[tool.poetry]
package-mode = false
"#;

/// Everything that a former run left, so that the host is bare.
const CLEAN: &str = "systemctl disable --now --quiet tsosi_gunicorn.socket tsosi_gunicorn tsosi_celery tsosi_celery_beat 2>/dev/null
    rm -rf /var/www/releases /var/www/current /var/www/shared /var/www/.ship /var/log/tsosi /tsosi_media /home/deployer/config
    rm -f /etc/systemd/system/tsosi_* /etc/sudoers.d/tsosi /etc/sudoers.d/ship-tsosi /etc/logrotate.d/tsosi
    rm -f /etc/nginx/sites-enabled/tsosi /etc/nginx/sites-available/tsosi
    systemctl daemon-reload; systemctl reset-failed 'tsosi_*' 2>/dev/null
    cd / && runuser -u postgres -- psql -qc 'DROP DATABASE IF EXISTS tsosi' -c 'DROP ROLE IF EXISTS tsosi_user'
    systemctl reload nginx || systemctl restart nginx";

/// What the book tells the administrator to do: a login for administrators, the deployer's own, the database, the
/// settings, the sudo rules.
fn administrate(lab: &Lab, host: &Host, password: &str) {
    lab.root(host, CLEAN);
    lab.admin(host);
    lab.root(host, "chown deployer:www-data /var/www && usermod --append --groups systemd-journal deployer");
    lab.root_fed(
        host,
        "cd / && runuser -u postgres -- psql -qf - && runuser -u postgres -- createdb --owner tsosi_user tsosi",
        &format!("CREATE ROLE tsosi_user LOGIN PASSWORD '{password}';\n"),
    );
    let settings = SETTINGS.replace("@PASSWORD@", password);
    lab.root_fed(
        host,
        "install -d -o deployer -g deployer -m 0700 /home/deployer/config && cd /home/deployer/config && umask 077 \
         && cat >settings_local.py && chown deployer:deployer settings_local.py",
        &settings,
    );
    lab.root_fed(host, "umask 227 && cat >/etc/sudoers.d/tsosi && visudo -cqf /etc/sudoers.d/tsosi", SUDOERS);
}

/// `pyproject.toml` and `poetry.lock`, made on the host, because the lock names the archives of the day. Poetry asks
/// the index that pip asks, in pip's way, which every mirror of it knows.
fn locked(lab: &Lab, host: &Host) -> [String; 2] {
    let make = r#"set -ea; . /etc/environment; HOME=/home/deployer; cd; mkdir -p .cache/ship-lab/notes; cd .cache/ship-lab
        test -x poetry/bin/poetry || { python3 -m venv poetry && poetry/bin/python -m pip install --quiet poetry; }
        usual='from pip._internal.models.index import PyPI; print(PyPI.simple_url)'
        index=${PIP_INDEX_URL:-$(poetry/bin/python -c "$usual")}
        cd notes; cat >pyproject.toml
        printf '\n[[tool.poetry.source]]\nname = "index"\nurl = "%s"\npriority = "primary"\n' "$index" >>pyproject.toml
        ../poetry/bin/poetry lock --quiet"#;
    lab.as_fed(host, "deployer", make, PYPROJECT);
    ["pyproject.toml", "poetry.lock"]
        .map(|name| lab.root(host, &format!("cat /home/deployer/.cache/ship-lab/notes/{name}")))
}

fn ask(host: &Host, path: &str) -> Answer {
    get_from("tsosi.example.org", host.http_port, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Message and release, as the site says them.
fn served(host: &Host) -> (String, String) {
    let answer = ask(host, "/api/");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}")).to_owned();
    (text("message"), text("release"))
}

#[test]
fn a_django_site_with_an_administrators_own_sudoers() {
    let began = Instant::now();
    let lab = Lab::new();
    let host = lab.host("web1");
    let password = "pw-tsosi-4711-not-shown";
    administrate(&lab, &host, password);
    println!("The sudoers file of this test, as it was before ship:\n{SUDOERS}");

    let project = Project::new(&lab);
    project.copy_fixture("django");
    std::fs::remove_file(project.path().join("backend/requirements.txt")).expect("requirements.txt");
    project.write("inventory.toml", INVENTORY);
    let [pyproject, lock] = locked(&lab, &host);
    project.write("backend/pyproject.toml", &pyproject);
    project.write("backend/poetry.lock", &lock);
    project.set("backend/version.py", "MESSAGE", "one");

    // The bare host gets folders, units, site and log rotation; twice is once. The administrator's sudo rules stay.
    let setup = ["setup", "prod", "--user", "admin", "--skip", "sudoers", "--yes"];
    project.ship(&setup).exits(0).says("tsosi_gunicorn.socket").says("sites-available/tsosi").says("logrotate.d/tsosi");
    project.ship(&setup).exits(0).says("Nothing to do");
    assert_eq!(lab.root(&host, "stat -c '%U %a' /tsosi_media /var/log/tsosi").lines().count(), 2);
    lab.root(&host, "logrotate --debug /etc/logrotate.d/tsosi");
    project.ship(&["check", "prod"]).exits(0);

    // What ship itself would ask for is less, and visudo likes it.
    let least = project.ship(&["sudoers", "prod"]).exits(0).text;
    println!("The least that ship needs:\n{least}");
    assert!(!least.contains("nginx") && !least.contains("status") && !least.contains('*'), "{least}");
    lab.root_fed(&host, "umask 077; cat >/run/least && visudo -cf /run/least", &least);

    // Production is confirmed by a person, who is shown what it is.
    project.ship(&["deploy", "prod"]).exits(2).says("asks for confirmation");
    // A settings file that is not there is noticed before anything starts.
    lab.root(&host, "mv /home/deployer/config/settings_local.py /home/deployer/config/away");
    project.ship(&["deploy", "prod", "--yes"]).exits(3).says("/home/deployer/config/settings_local.py");
    assert_eq!(lab.root(&host, "ls /var/www/releases 2>/dev/null || true"), "");
    lab.root(&host, "mv /home/deployer/config/away /home/deployer/config/settings_local.py");

    let first = project.ship(&["deploy", "prod", "--branch", "main", "--yes", "-v"]).exits(0);
    assert!(!first.text.contains(password), "the database password was shown");
    let (message, one) = served(&host);
    assert_eq!(message, "one");
    assert!(first.text.contains("prepared with 5.2"), "{}", first.text);
    assert_eq!(ask(&host, "/api/celery/").status, 200);
    assert_eq!(ask(&host, "/static/notes/site.css").status, 200);
    let built = ask(&host, "/").body;
    assert!(built.contains("data-build="), "{built}");
    let deployment: serde_json::Value =
        serde_json::from_str(&lab.root(&host, "cat /var/www/current/deployment.json")).expect("JSON");
    assert_eq!(deployment["release"], one.as_str());
    assert_eq!(deployment["branch"], "main");
    assert_eq!(deployment["revision"].as_str().map(str::len), Some(40));
    let mode = "stat -c '%a %U' /var/www/current/backend/site_project/settings_local.py";
    assert_eq!(lab.root(&host, mode).trim(), "600 deployer");

    let visitor = Visitor::begin_at("tsosi.example.org", vec![host.http_port], "/api/");

    // Again, with the front end of before, and Celery left on the code that it has.
    let workers = "systemctl show --property=InvocationID tsosi_celery tsosi_celery_beat";
    let before = lab.root(&host, workers);
    project.set("backend/version.py", "MESSAGE", "two");
    project.ship(&["deploy", "prod", "--yes", "--skip-front-build", "--celery-no-restart"]).exits(0);
    let (message, two) = served(&host);
    assert_eq!(message, "two");
    assert_eq!(lab.root(&host, workers), before, "Celery was restarted");
    assert_eq!(ask(&host, "/").body, built, "the front end was built again");

    // Somebody ran Python as root in the oldest release: its files are in the way when it is to be removed.
    lab.root(&host, &format!("cd /var/www/releases/{one}/backend && mkdir -p notes/__pycache__ && touch notes/__pycache__/root.pyc && chmod 755 notes/__pycache__ && chown root:root notes/__pycache__"));

    // A release that cannot start: put back, though these rules do not allow `reset-failed`.
    project.set("backend/version.py", "START_FAILS_ON", "*");
    let broken = project.ship(&["deploy", "prod", "--yes"]).exits(1).says("put back");
    if std::env::var_os("SHIP_LAB_SHOW").is_some() {
        println!("{}", broken.text);
    }
    let told = broken.text.lines().filter(|line| line.contains("reset-failed")).count();
    println!("{told} lines tell of `reset-failed`, which these rules do not allow");
    assert_eq!(served(&host), ("two".to_owned(), two.clone()));
    project.set("backend/version.py", "START_FAILS_ON", "");

    // The third good one: two stay, and what root left in the first is gone.
    project.set("backend/version.py", "MESSAGE", "three");
    let third = project.ship(&["deploy", "prod", "--yes"]).exits(0);
    if std::env::var_os("SHIP_LAB_SHOW").is_some() {
        println!("{}", third.text);
    }
    let (message, three) = served(&host);
    assert_eq!(message, "three");
    assert_eq!(lab.root(&host, "ls /var/www/releases").lines().collect::<Vec<_>>(), [two.as_str(), three.as_str()]);

    project.ship(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(served(&host), ("two".to_owned(), two));
    project.ship(&["status", "prod"]).exits(0).says("tsosi_gunicorn active").says("tsosi_celery_beat active");

    let seen = visitor.end();
    println!("{} requests, {} failed, slowest {:?}", seen.requests, seen.failures.len(), seen.slowest);
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    let logs = project.ship(&["logs", "prod"]).exits(0).says("Booting worker").text;
    assert!(logs.contains("tsosi_celery") && !logs.contains(password), "{logs}");
    lab.root(&host, CLEAN);
    println!("in all {:.0} s", began.elapsed().as_secs_f32());
}
