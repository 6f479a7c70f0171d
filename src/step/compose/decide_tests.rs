//! Every decision about a release of Compose, from answers as Docker gives them to commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::Images;
use super::super::docker::Docker;
use super::super::service::{Choice, Service, Services, Way};
use super::{Decide, Freezing, Removal, Site};
use crate::command::Command;
use crate::layout::{Layout, ReleaseId};
use crate::secret::Secret;
use crate::step::{Action, Judge, Poll, Task};

fn site() -> Site {
    Site {
        docker: Docker { program: "/usr/bin/docker".to_owned(), sudo: false, project: "app".to_owned() },
        layout: Layout::new("/srv/app"),
        release: ReleaseId::parse("20261121T101500Z-1a2b3c4").expect("an id"),
        timeout: None,
        wait: Duration::from_secs(60),
    }
}

/// A line for each task, with the parts that are the same in all of them left out.
fn shown(tasks: &[Task]) -> String {
    let short = |command: &Command| {
        command
            .display()
            .replace("/usr/bin/docker compose --ansi never --progress plain --project-name app", "compose")
            .replace("--file /srv/app/.ship/releases/20261121T101500Z-1a2b3c4/compose.json", "-f")
            .replace("up --detach --wait --wait-timeout 60 --no-build", "UP")
            .replace("/srv/app/.ship/releases/20261121T101500Z-1a2b3c4", "RECORD")
            .replace("/usr/bin/docker", "docker")
    };
    let line = |task: &Task| {
        let action = match &task.action {
            Action::Command(command) => short(command),
            Action::Poll(poll) => format!("until {}", poll.judge_text()),
            Action::Derive(_) => "asks again".to_owned(),
            Action::Detached(detached) => short(&detached.command),
            Action::Feed(feed) => short(&feed.command),
            Action::Transfer | Action::Send(_) => String::new(),
        };
        format!("{}: {action}", task.name)
    };
    tasks.iter().map(line).collect::<Vec<_>>().join("\n")
}

trait JudgeText {
    fn judge_text(&self) -> String;
}

impl JudgeText for Poll {
    fn judge_text(&self) -> String {
        match &self.judge {
            Judge::Compose(watch) => watch.until(),
            other => format!("{other:?}"),
        }
    }
}

fn service(name: &str, way: Way, after: &[&str]) -> Service {
    let after = after.iter().map(|name| (*name).to_owned()).collect();
    Service { name: name.to_owned(), way, config: format!("{name}2"), replicas: 1, after, folders: false }
}

fn stack() -> Services {
    let port = || Way::Recreate("it publishes port 80".to_owned());
    Services {
        services: vec![
            service("api", Way::StartFirst, &["db", "front"]),
            service("db", Way::Recreate("it alone writes to the volume data".to_owned()), &[]),
            service("front", Way::OneShot, &[]),
            service("proxy", port(), &["api"]),
        ],
    }
}

fn replaced(containers: &str) -> String {
    let decide = Decide::Replace(site(), stack());
    shown(&decide.tasks(containers).expect("tasks"))
}

#[test]
fn a_first_release_starts_everything_in_order() {
    insta::assert_snapshot!(replaced(""), @r"
    Run front to its end: compose -f up --detach --no-deps --no-build --force-recreate front
    Look for front: asks again
    Start db: compose -f UP --force-recreate db
    Start api: compose -f UP --force-recreate api
    Start proxy: compose -f UP --force-recreate proxy
    Have all services running, and no other: compose -f UP --no-recreate --remove-orphans api db proxy
    Look at the containers: asks again
    ");
}

#[test]
fn a_one_shot_service_is_followed_to_its_end() {
    let decide = Decide::Follow(site(), service("front", Way::OneShot, &[]));
    let tasks = decide.tasks("f1|front|front2|running|Up\n").expect("tasks");
    insta::assert_snapshot!(shown(&tasks), @r"
    What front says: docker container logs --follow f1
    How front ended: until front ended with status 0
    ");
    assert!(decide.tasks("f0|front|front1|exited|Exited (0) now\n").is_err());
}

#[test]
fn what_did_not_change_goes_on_running() {
    let containers = "a1|api|api1|running|Up\nd1|db|db2|running|Up\nf1|front|front2|exited|Exited (0) 1 hour ago\np1|proxy|proxy2|running|Up\n";
    insta::assert_snapshot!(replaced(containers), @r"
    Start api beside what is live: compose -f up --detach --no-build --no-recreate --scale api=2 api
    Look for api: asks again
    Have all services running, and no other: compose -f UP --no-recreate --remove-orphans api db proxy
    Look at the containers: asks again
    ");
}

#[test]
fn what_cannot_run_twice_is_recreated_and_a_one_shot_that_failed_runs_again() {
    let containers = "a1|api|api2|running|Up\nd1|db|db1|running|Up\nf1|front|front2|exited|Exited (1) 1 hour ago\np1|proxy|proxy1|exited|Exited (0) 1 hour ago\n";
    insta::assert_snapshot!(replaced(containers), @r"
    Run front to its end: compose -f up --detach --no-deps --no-build --force-recreate front
    Look for front: asks again
    Recreate db (it alone writes to the volume data): compose -f UP --force-recreate --no-deps db
    Recreate proxy (it publishes port 80): compose -f UP --force-recreate --no-deps proxy
    Have all services running, and no other: compose -f UP --no-recreate --remove-orphans api db proxy
    Look at the containers: asks again
    ");
}

#[test]
fn what_somebody_stopped_is_up_before_what_depends_on_it_is_recreated() {
    let containers = "a1|api|api2|running|Up\nd1|db|db2|exited|Exited (0) now\nf1|front|front2|exited|Exited (0) 1 hour ago\np1|proxy|proxy1|running|Up\n";
    insta::assert_snapshot!(replaced(containers), @r"
    Start what was stopped: db: compose -f UP --no-recreate --no-deps db
    Recreate proxy (it publishes port 80): compose -f UP --force-recreate --no-deps proxy
    Have all services running, and no other: compose -f UP --no-recreate --remove-orphans api db proxy
    Look at the containers: asks again
    ");
}

#[test]
fn putting_back_a_failed_start_first_only_removes_what_is_too_much() {
    // a1 is of the release to publish and was never stopped; a2 is of the one that failed.
    let containers = "a1|api|api2|running|Up\na2|api|api3|running|Up (unhealthy)\nd1|db|db2|running|Up\nf1|front|front2|exited|Exited (0) 1 hour ago\np1|proxy|proxy2|running|Up\n";
    insta::assert_snapshot!(replaced(containers), @r"
    Stop the old api: docker container stop a2
    Remove the old api: docker container rm a2
    Have all services running, and no other: compose -f UP --no-recreate --remove-orphans api db proxy
    Look at the containers: asks again
    ");
}

#[test]
fn a_service_of_which_none_is_wanted_is_removed_and_not_waited_for() {
    let mut services = Services { services: vec![service("api", Way::StartFirst, &[])] };
    services.services[0].replicas = 0;
    let answer = "a1|api|api1|running|Up\n";
    let tasks = shown(&Decide::Replace(site(), services).tasks(answer).expect("tasks"));
    assert!(tasks.starts_with("Stop the old api: docker container stop a1\n"), "{tasks}");
    assert!(!tasks.contains("beside what is live"), "{tasks}");
}

#[test]
fn dead_containers_go_before_start_first() {
    let containers = "a1|api|api1|running|Up\na0|api|api0|exited|Exited (1) now\na2|api|api2|exited|Exited (1) now\nd1|db|db2|running|Up\nf1|front|front2|exited|Exited (0) 1 hour ago\np1|proxy|proxy2|running|Up\n";
    let tasks = replaced(containers);
    assert!(tasks.starts_with("Stop the old api: docker container stop a0 a2\n"), "{tasks}");
    assert!(tasks.contains("--scale api=2 api"), "{tasks}");
}

#[test]
fn old_containers_go_once_the_new_ones_are_up() {
    let decide = Decide::Settle(site(), service("api", Way::StartFirst, &[]), vec!["a1".to_owned()]);
    let tasks = decide.tasks("a1|api|api1|running|Up\na2|api|api2|running|Up\n").expect("tasks");
    insta::assert_snapshot!(shown(&tasks), @r"
    Watch api for 2 s: until every container was up for 2 s
    Stop the old api: docker container stop a1
    Remove the old api: docker container rm a1
    ");
    assert!(decide.tasks("a1|api|api1|running|Up\n").is_err());
}

fn freezing(images: Images) -> Freezing {
    let flags = vec!["--file".to_owned(), "/r/a.yml".to_owned()];
    Freezing { site: site(), flags, images, choice: Choice::default(), detached: None }
}

const CONFIG: &str = r#"{ "name": "app", "services": { "db": { "image": "postgres:16", "environment": { "P": "s3cret" } }, "web": { "build": {}, "image": "web:dev" } } }"#;

#[test]
fn images_are_built_or_pulled_and_kept_for_the_release() {
    let tasks = |images| shown(&Decide::Freeze(freezing(images)).tasks(CONFIG).expect("tasks"));
    insta::assert_snapshot!(tasks(Images::Build), @r"
    Name the images of the release: umask 077 && cat >RECORD/compose.build.json.new && mv -f RECORD/compose.build.json.new RECORD/compose.build.json
    Build web: compose --file RECORD/compose.build.json build web
    Pull missing images of db: compose --file RECORD/compose.build.json pull --policy missing db
    Keep the image of db: docker image tag postgres:16 ship/app/db:20261121t101500z-1a2b3c4
    Look at the mounted files: asks again
    ");
    insta::assert_snapshot!(tasks(Images::Pull), @r"
    Name the images of the release: umask 077 && cat >RECORD/compose.build.json.new && mv -f RECORD/compose.build.json.new RECORD/compose.build.json
    Pull missing images of db, web: compose --file RECORD/compose.build.json pull --policy missing db web
    Keep the image of db: docker image tag postgres:16 ship/app/db:20261121t101500z-1a2b3c4
    Keep the image of web: docker image tag web:dev ship/app/web:20261121t101500z-1a2b3c4
    Look at the mounted files: asks again
    ");
    insta::assert_snapshot!(tasks(Images::Push), @r"
    Name the images of the release: umask 077 && cat >RECORD/compose.build.json.new && mv -f RECORD/compose.build.json.new RECORD/compose.build.json
    Pull missing images of db: compose --file RECORD/compose.build.json pull --policy missing db
    Keep the image of db: docker image tag postgres:16 ship/app/db:20261121t101500z-1a2b3c4
    Keep the image of web: docker image tag web:dev ship/app/web:20261121t101500z-1a2b3c4
    Look at the mounted files: asks again
    ");
}

#[test]
fn what_is_frozen_is_secret_wherever_a_task_is_shown() {
    let tasks = Decide::Freeze(freezing(Images::Build)).tasks(CONFIG).expect("tasks");
    assert!(!format!("{tasks:?}").contains("s3cret"));
    let names = vec!["db".to_owned(), "web".to_owned()];
    let decide = Decide::Images(freezing(Images::Build), Secret::new(CONFIG.to_owned()), BTreeMap::new(), names);
    let tasks = decide.tasks("sha256:aa|{\"/var/lib/postgresql/data\":{}}\nsha256:bb|null\n").expect("tasks");
    assert!(!format!("{tasks:?}").contains("s3cret"));
    let texts: Vec<&str> = tasks
        .iter()
        .filter_map(|task| match &task.action {
            Action::Feed(feed) => Some(feed.text.expose()),
            _ => None,
        })
        .collect();
    assert!(texts[0].contains("s3cret") && texts[0].contains("sha256:bb"));
    assert!(
        texts[2]
            .starts_with(r#"{"services":[{"name":"db","way":{"recreate":"its image has a volume without a name"},"#)
    );
    let missing = decide.tasks("sha256:aa|null\n").expect_err("no image");
    assert_eq!(missing, "the image of web is not on the host");
}

#[test]
fn parts_of_settings_in_messages_of_compose_are_not_shown() {
    let shown = |line: &str| Decide::Freeze(freezing(Images::Build)).shown(line);
    assert_eq!(shown("level=warning msg=\"The \\\"s3cret\\\" variable is not set.\""), None);
    let broken =
        shown("failed to read /srv/app/.env: line 3: unexpected character \"\\n\" in variable name \"s3cret\"");
    insta::assert_snapshot!(broken.expect("a line"), @"failed to read /srv/app/.env … (the rest may be a secret: run the command on the host to see it)");
    let template = shown("invalid interpolation format for services.web: \"s3cret${\"").expect("a line");
    assert!(template.starts_with("invalid interpolation …"), "{template}");
    let plain = "service \"web\" refers to undefined volume data: invalid compose project";
    assert_eq!(shown(plain).as_deref(), Some(plain));
}

#[test]
fn containers_of_somebody_else_are_never_taken_over_or_down() {
    let own = "db|/srv/app/.ship/releases/20261121T101500Z-1a2b3c4/compose.prepare.json\n";
    let adopt = |answer: &str| Decide::Adopt(site()).tasks(answer);
    assert_eq!((adopt(""), adopt(own)), (Ok(Vec::new()), Ok(Vec::new())));
    let others = [
        "web|/home/ann/app/docker-compose.yml\nweb|/home/ann/app/docker-compose.yml\n",
        "web|\n",
        "web|/srv/app2/.ship/releases/20261121T101500Z-1a2b3c4/compose.json\ndb|/srv/app2/.ship/releases/20261120T101500Z-1a2b3c4/compose.json\n",
    ];
    let refused = others.map(|other| adopt(&format!("{own}{other}")).expect_err("somebody else's"));
    insta::assert_snapshot!(refused.join("\n"), @r"
    the project app has containers that ship did not make (web of /home/ann/app/docker-compose.yml), and could not put back: give this app another `project`; or, if they are its own from before ship, stop them once on the host with `/usr/bin/docker compose --ansi never --project-name app down --remove-orphans` (volumes stay), then deploy
    the project app has containers that ship did not make (web), and could not put back: give this app another `project`; or, if they are its own from before ship, stop them once on the host with `/usr/bin/docker compose --ansi never --project-name app down --remove-orphans` (volumes stay), then deploy
    the project app on this host is that of the app in /srv/app2 (db, web): give this app another `project`
    ");
    for other in others {
        assert_eq!(Decide::Down(site()).tasks(&format!("{own}{other}")), Ok(Vec::new()), "{other}");
    }
    let down = Decide::Down(site()).tasks(own).expect("tasks");
    insta::assert_snapshot!(shown(&down), @"Take the containers down; volumes stay: docker compose --ansi never --project-name app down --remove-orphans");
}

#[test]
fn a_release_stays_for_as_long_as_a_container_has_a_folder_of_it_mounted() {
    let removal = |release: &str, mounts: &[&str]| {
        let task = Task::new(release, Action::Command(Command::argv(["rm", "-rf", release])));
        let mounts = mounts.iter().map(|name| (*name).to_owned()).collect();
        Removal { release: ReleaseId::parse(release).expect("an id"), mounts, task }
    };
    let (first, second) = ("20261121T101300Z-0000000", "20261121T101400Z-0000000");
    let old = vec![removal(first, &["web"]), removal(second, &["web"])];
    let decide = Decide::RemoveReleases(site(), old, BTreeSet::from(["kept".to_owned()]));
    let answer = format!(
        "web|/srv/app/.ship/releases/{first}/compose.json\ndb|/srv/app/.ship/releases/{second}/compose.json\n\
         web|/srv/other/.ship/releases/{second}/compose.json\nweb|\n"
    );
    let tasks = decide.tasks(&answer).expect("tasks");
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, [second, "Look for images of removed releases"]);
    // What stays can be rolled back to, so its images stay too.
    let Action::Derive(look) = &tasks[1].action else { panic!("a question") };
    let images = format!("ship/app/web:{}\nship/app/web:{}\n", first.to_lowercase(), second.to_lowercase());
    let removed = shown(&look.decide.tasks(&images).expect("tasks"));
    assert!(removed.contains(&second.to_lowercase()) && !removed.contains(&first.to_lowercase()), "{removed}");
}

#[test]
fn only_images_of_releases_that_are_gone_are_removed() {
    let kept = BTreeSet::from(["20261121t101500z-1a2b3c4".to_owned()]);
    let images = "ship/app/web:20261121t101500z-1a2b3c4\nship/app/web:20261120t101500z-0000000\nship/app/web:latest\n<none>:<none>\n";
    let tasks = Decide::RemoveImages(site(), kept).tasks(images).expect("tasks");
    insta::assert_snapshot!(shown(&tasks), @"Remove images of removed releases: docker image rm ship/app/web:20261120t101500z-0000000");
}

#[test]
fn a_one_off_command_finds_what_its_service_needs() {
    let record = serde_json::to_string(&stack()).expect("JSON");
    let run = |service: &str| {
        let words = vec!["python".to_owned(), "manage.py".to_owned(), "migrate".to_owned()];
        Decide::Run { site: site(), file: "F".to_owned(), service: service.to_owned(), words }.tasks(&record)
    };
    insta::assert_snapshot!(shown(&run("api").expect("tasks")), @r"
    Have db running: compose --file F UP --no-recreate db
    api: python manage.py migrate: compose --file F run --rm --no-deps --no-TTY api python manage.py migrate
    ");
    assert_eq!(run("gone"), Err("the release has no service gone; it has api, db, front, proxy".to_owned()));
}

#[test]
fn a_person_can_publish_and_unpublish_by_hand() {
    let by_hand = |decide: Decide| decide.by_hand().iter().map(Command::display).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(by_hand(Decide::Publish(site(), None)), @"/usr/bin/docker compose --ansi never --progress plain --project-name app --file /srv/app/.ship/releases/20261121T101500Z-1a2b3c4/compose.json up --detach --no-build --remove-orphans");
    insta::assert_snapshot!(by_hand(Decide::Down(site())), @"/usr/bin/docker compose --ansi never --project-name app down --remove-orphans");
}

#[test]
fn a_detached_build_is_looked_at_when_it_ends() {
    let layout = Layout::new("/srv/app");
    let release = site().release;
    let detached = crate::step::detach::Detached::new(Command::shell(":"), "x", 0, &layout, &release);
    let freezing = Freezing { detached: Some(detached), ..freezing(Images::Build) };
    let tasks = freezing.images(&Secret::new(r#"{"services":{"web":{"build":{"context":"."}}}}"#.to_owned())).unwrap();
    let build = tasks.iter().find(|task| matches!(task.action, Action::Detached(_))).expect("a detached build");
    assert_eq!(build.name, "Build web");
    let after = tasks.iter().find(|task| task.name == "Look at what was built").expect("a look");
    let Action::Derive(derive) = &after.action else { panic!("a question") };
    let own = site().docker.image("web", &release);
    assert_eq!(derive.decide.tasks(&format!("{own}\n")), Ok(Vec::new()));
    // It was begun for another release: what it made has that one's name.
    let again = derive.decide.tasks("ship/app/web:20261121t101400z-0000000\n").unwrap();
    assert_eq!(
        shown(&again),
        "Give the images that were built the names of this release: compose --file RECORD/compose.build.json build web"
    );
}
