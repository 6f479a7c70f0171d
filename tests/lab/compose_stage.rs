//! A Vite front end in the image of a Django back end under daphne, with PostgreSQL: settings made from secrets, migrations
//! once for a release, commands for people, and volumes that go only when that was said twice.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::hosts::{Host, Lab, Project};
use crate::visitor::{Seen, Visitor, get};

const APP: &str = "lab-stage";

const INVENTORY: &str = r#"
recipe    = "compose"
app       = "lab-stage"
deploy_to = "/srv/lab-stage"

[vars]
compose_files   = "docker-compose.stage.yml"
env_file        = "stage/stage.env"
env_template    = "stage.env.j2"
migrate_service = "django"
migrate         = "python manage.py migrate --noinput"
health_url      = "http://127.0.0.1:443/api/health/"

[hosts.dock1]
user = "deployer"

[environments.stage]
hosts = ["dock1"]

[secrets]
django_key     = { env = "DJANGO_KEY" }
db_password    = { env = "DB_PASSWORD" }
admin_password = { env = "ADMIN_PASSWORD" }
"#;

/// The second release's change of the database: what is live goes on with it.
const MIGRATION: &str = r#"
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_jobs")]
    operations = [migrations.AddField("Job", "city", models.CharField(max_length=80, db_default="Los Angeles"))]
"#;

/// The id of the container of a service: another one where it was replaced.
fn container(lab: &Lab, host: &Host, service: &str) -> String {
    let labels = format!(
        "--filter label=com.docker.compose.project={APP} --filter label=com.docker.compose.service={service} \
         --filter label=com.docker.compose.oneoff=False"
    );
    let id = lab.root(host, &format!("docker ps --quiet {labels}"));
    assert_eq!(id.lines().count(), 1, "{service}: {id:?}");
    id
}

fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let file = project.path().join(path);
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains(from), "{from} in {path}");
    std::fs::write(file, text.replace(from, to)).expect("a file");
}

fn json(port: u16, path: &str) -> serde_json::Value {
    let answer = get(port, path).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The front end as Vite made it, and what the back end reads from the database.
fn serves(port: u16, heading: &str, job: &serde_json::Value) {
    let page = get(port, "/").expect("the page");
    assert!(page.status == 200 && page.body.contains(&format!("<h1>{heading}</h1>")), "{}", page.body);
    let asset = page.body.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a script");
    assert!(asset.starts_with("/assets/index-"), "{asset}");
    let script = get(port, asset).expect("the script");
    assert!(script.status == 200 && script.body.contains("dataset.ready"), "{}", script.body);
    let expected = serde_json::json!({ "motto": "Work for all", "jobs": [job] });
    assert_eq!(json(port, "/api/jobs/"), expected);
}

fn users(port: u16) -> u64 {
    json(port, "/api/health/")["users"].as_u64().expect("a number")
}

const SECRETS: [(&str, &str); 3] =
    [("DJANGO_KEY", "key $1 '#\""), ("DB_PASSWORD", "pass$word\\n #1"), ("ADMIN_PASSWORD", "Tr0ub4dor&3")];

fn project(lab: &Lab, inventory: &str) -> Project {
    let project = SECRETS.iter().fold(Project::new(lab), |project, (name, value)| project.env(name, value));
    project.copy_fixture("compose-stage");
    project.write("inventory.toml", inventory);
    project
}

/// Does something while a visitor asks for the jobs, and says how many requests failed.
fn visited(port: u16, what: &str, work: impl FnOnce()) -> Seen {
    let visitor = Visitor::begin(vec![port], "/api/jobs/");
    work();
    let seen = visitor.end();
    let failed = seen.failures.len();
    println!(
        "{what}: {failed} of {} requests failed, 20 ms apart: about {:.1} s without an answer",
        seen.requests,
        failed as f64 * 0.02
    );
    assert!(seen.requests > 50, "{what}");
    seen
}

#[test]
fn a_front_end_in_the_image_of_django_with_a_database_and_settings_from_secrets() {
    let lab = Lab::new();
    let host = lab.host("dock1");
    let port = host.https_port.expect("a port of the host that is published here");
    lab.remove_project(&host, APP);
    lab.admin(&host);
    let secrets =
        [("DJANGO_KEY", "key $1 '#\""), ("DB_PASSWORD", "pass$word\\n #1"), ("ADMIN_PASSWORD", "Tr0ub4dor&3")];
    let project = secrets.iter().fold(Project::new(&lab), |project, (name, value)| project.env(name, value));
    project.copy_fixture("compose-stage");
    project.write("inventory.toml", INVENTORY);
    project.commit("Release one");
    let deploy = ["deploy", "stage", "--output", "plain"];

    project.ship(&["setup", "--user", "admin", "--yes"]).exits(0);
    project.ship(&["setup", "--user", "admin", "--yes"]).exits(0).says("Nothing to do");

    // What nobody filled in is seen before anything is changed.
    let refused = project.ship(&deploy).exits(3).says("a <placeholder> is left in stage/stage.env: MOTTO");
    assert!(!refused.text.contains("your motto"), "{}", refused.text);
    assert_eq!(lab.root(&host, &format!("ls /srv/{APP}/releases")), "");
    edit(&project, "recipes/compose/stage.env.j2", "<your motto>", "Work for all");
    project.commit("Release one, with its motto");

    let one = project.ship(&deploy).exits(0).says("Applying jobs.0001_jobs");
    for (name, value) in SECRETS {
        assert!(!one.text.contains(value), "{name} was shown");
    }
    let first = serde_json::json!({ "id": 1, "title": "Tester" });
    serves(port, "site one", &first);
    let modes = lab.root(
        &host,
        &format!("stat -c '%U %a' /srv/{APP}/current/stage/stage.env /srv/{APP}/.ship/releases/*/compose.json"),
    );
    assert_eq!(modes, "deployer 600\ndeployer 600\n");
    let database = container(&lab, &host, "pgdb");
    project.ship(&["status"]).exits(0).says("django up, pgdb up");

    // Commands for people: without a terminal, and with one.
    let super_user =
        ["run", "--service", "django", "--", "python", "manage.py", "createsuperuser", "--email", "a@example.org"];
    let by_settings = [&super_user[..], &["--noinput", "--username", "admin"]].concat();
    project.ship(&by_settings).exits(0).says("Superuser created successfully");
    project.ship(&by_settings).exits(1).says("That username is already taken");
    let (code, screen) = project.ship_typing(&[&super_user[..], &["--username", "ann"]].concat(), "correct horse");
    assert!(code == 0 && screen.contains("Superuser created successfully"), "{code} {screen}");
    assert!(!screen.contains("correct horse"), "a password was shown");
    assert_eq!(users(port), 2);

    // The second release changes the database: once, while the first one serves.
    edit(&project, "frontend/index.html", "site one", "site two");
    edit(
        &project,
        "backend/jobs/models.py",
        "    title",
        "    city = models.CharField(max_length=80, db_default=\"Los Angeles\")\n    title",
    );
    project.write("backend/jobs/migrations/0002_city.py", MIGRATION);
    project.commit("Release two");
    visited(port, "second deploy", || {
        let run = project.ship(&deploy).exits(0).says("Recreate django (it publishes port 443)");
        assert_eq!(run.text.matches("Applying jobs.0002_city... OK").count(), 1, "{}", run.text);
        assert!(!run.text.contains("jobs.0001"), "{}", run.text);
    });
    let second = serde_json::json!({ "id": 1, "title": "Tester", "city": "Los Angeles" });
    serves(port, "site two", &second);
    assert_eq!(users(port), 2);
    assert_eq!(container(&lab, &host, "pgdb"), database, "the database goes on running");

    // One whose migrations fail stops nothing; one that is not healthy is put back.
    edit(&project, "backend/jobs/migrations/0002_city.py", "AddField(", "RemoveField(");
    project.write("backend/jobs/migrations/0003_broken.py", "raise SystemExit(\"this migration is broken\")\n");
    project.commit("Release three, broken");
    let seen = visited(port, "broken migration", || {
        project.ship(&deploy).exits(1).says("this migration is broken");
    });
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    std::fs::remove_file(project.path().join("backend/jobs/migrations/0003_broken.py")).expect("the file");
    edit(&project, "backend/jobs/migrations/0002_city.py", "RemoveField(", "AddField(");
    edit(&project, "backend/site_stage/urls.py", "HEALTHY = True", "HEALTHY = False");
    project.commit("Release four, ill");
    visited(port, "not healthy, put back", || {
        project.ship(&deploy).exits(1).says("unhealthy").says("put back");
    });
    serves(port, "site two", &second);

    visited(port, "rollback", || {
        let run = project.ship(&["rollback", "stage", "--output", "plain"]).exits(0);
        assert!(!run.text.contains("Build ") && !run.text.contains("Pull "), "{}", run.text);
    });
    serves(port, "site one", &first);
    assert_eq!(users(port), 2);
    assert_eq!(container(&lab, &host, "pgdb"), database);

    let logs = project.ship(&["logs", "stage", "-n", "100000", "django"]).exits(0).says("entrypoint: daphne");
    assert!(logs.text.contains("/api/jobs/") && !logs.text.contains("Applying"), "{}", logs.text);

    // The end: containers, and what they stored only when that is confirmed.
    let volume = format!("docker volume ls --quiet --filter label=com.docker.compose.project={APP}");
    project.ship(&["service", "down", "--volumes"]).exits(2).says("there is no terminal to confirm on");
    let (code, screen) = project.ship_asked(&["service", "down", "--volumes"], "to go on:", "yes");
    assert!(code == 2 && screen.contains("nothing was done"), "{code} {screen}");
    serves(port, "site one", &first);
    assert_eq!(lab.root(&host, &volume), format!("{APP}_pgdata\n"));
    let (code, screen) = project.ship_asked(&["service", "down", "--volumes"], "to go on:", APP);
    assert_eq!(code, 0, "{screen}");
    assert_eq!(lab.root(&host, &volume), "");

    println!("{}", project.ship(&["sudoers", "stage"]).exits(0).text);
    println!("rights used: {}", lab.root(&host, "id --name --groups deployer"));
    lab.remove_project(&host, APP);
}

/// Has the lab's own engine, in the part of the developer's machine, start from what the host's images start from.
fn base_here(lab: &Lab, host: &Host) {
    let read = ["exec", &host.container, "tar", "-C", "/var/lib/ship-lab-base", "-c", "."];
    let mut files = lab.docker().args(read).stdout(Stdio::piped()).spawn().expect("docker");
    let mut build = lab.docker();
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", "base:lab", "-"]);
    let built = build.stdin(files.stdout.take().expect("output")).stdout(Stdio::null()).status().expect("docker");
    assert!(built.success() && files.wait().expect("docker").success());
}

#[test]
fn images_that_are_built_here_run_on_a_host_that_builds_nothing() {
    let lab = Lab::new();
    let host = lab.host("dock1");
    let port = host.https_port.expect("a port of the host that is published here");
    lab.remove_project(&host, APP);
    lab.admin(&host);
    base_here(&lab, &host);
    let own = format!("build --quiet --tag {APP}");
    let pushed = format!(
        "[vars]\nimages = \"push\"\nsend = \"{APP}-django {APP}-pgdb\"\n\
         build_here = \"docker {own}-django --file stage/Dockerfile . && docker {own}-pgdb --file stage/pgdb.Dockerfile stage\""
    );
    let project = project(&lab, &INVENTORY.replace("[vars]", &pushed));
    let path = std::env::var("PATH").expect("PATH");
    let bin = project.path().join(".home/bin");
    let project = project.env("PATH", &format!("{}:{path}", bin.display())).env("DOCKER_BUILDKIT", "0");
    let engine = lab.docker_words().join(" ");
    project.write(".home/bin/docker", &format!("#!/bin/sh\nPATH='{path}'\nexec {engine} \"$@\"\n"));
    std::fs::set_permissions(bin.join("docker"), PermissionsExt::from_mode(0o755)).expect("a mode");
    edit(&project, "recipes/compose/stage.env.j2", "<your motto>", "Work for all");
    project.commit("Release one");
    let deploy = ["deploy", "stage", "--output", "plain", "--timing"];

    project.ship(&["setup", "--user", "admin", "--yes"]).exits(0);
    let first = project.ship(&deploy).exits(0);
    serves(port, "site one", &serde_json::json!({ "id": 1, "title": "Tester" }));
    edit(&project, "frontend/index.html", "site one", "site two");
    project.commit("Release two");
    let second = project.ship(&deploy).exits(0);
    serves(port, "site two", &serde_json::json!({ "id": 1, "title": "Tester" }));
    for run in [&first, &second] {
        assert!(!run.text.contains("> Build django") && run.text.contains("> Build the images here"), "{}", run.text);
        println!("{}", run.text.lines().find(|line| line.contains("bytes sent")).expect("the timing"));
    }
    lab.remove_project(&host, APP);
}
