//! Publishing a frozen release: which containers are replaced, in which order and how.

use std::collections::BTreeSet;
use std::time::Duration;

use super::containers::{Container, Watch};
use super::decide::Decide;
use super::service::{Service, Services, Way};
use super::site::Site;
use crate::step::Task;

/// How long containers must stay up.
const WINDOW: Duration = Duration::from_secs(2);

/// Replaces what changed, level by level.
pub(super) fn replace(site: &Site, services: &Services, containers: &[Container]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for level in services.levels() {
        let mut recreated: Vec<(&Service, &str)> = Vec::new();
        let mut started = Vec::new();
        let mut stopped = Vec::new();
        for service in level {
            let own: Vec<&Container> = containers.iter().filter(|own| own.service == service.name).collect();
            let (same, other): (Vec<&Container>, Vec<&Container>) =
                own.iter().copied().partition(|own| own.config == service.config);
            let wanted = usize::try_from(service.replicas).unwrap_or(usize::MAX);
            let enough = same.len() >= wanted;
            let up = same.iter().filter(|own| own.running()).count() >= wanted;
            match &service.way {
                Way::OneShot if same.iter().any(|own| own.ended() == Some(0)) => {}
                Way::OneShot => tasks.extend(one_shot(site, service)),
                // For what is wanted nowhere nobody waits.
                _ if wanted == 0 => tasks.extend(remove(site, service, &own)),
                // Made by a release that was not kept, or left over: the right ones are there beside them.
                _ if up => tasks.extend(remove(site, service, &other)),
                _ if enough && other.is_empty() => stopped.push(service.name.clone()),
                Way::StartFirst if other.iter().any(|own| own.running()) => {
                    let dead: Vec<&Container> = own.iter().copied().filter(|own| !own.running()).collect();
                    tasks.extend(remove(site, service, &dead));
                    let old: Vec<String> = other.iter().filter(|own| own.running()).map(|own| own.id.clone()).collect();
                    tasks.extend(start_first(site, service, old));
                }
                Way::Recreate(why) if !own.is_empty() => recreated.push((service, why)),
                Way::StartFirst | Way::Recreate(_) => started.push(service.name.clone()),
            }
        }
        if !stopped.is_empty() {
            let name = format!("Start what was stopped: {}", stopped.join(", "));
            tasks.push(site.up(name, &["--no-recreate", "--no-deps"], &stopped));
        }
        if !recreated.is_empty() {
            let names: Vec<String> = recreated.iter().map(|(service, _)| service.name.clone()).collect();
            let shown: Vec<String> =
                recreated.iter().map(|(service, why)| format!("{} ({why})", service.name)).collect();
            // What they depend on is up by now, and looking at it again would only make them be gone for longer.
            let flags = ["--force-recreate", "--no-deps"];
            tasks.push(site.up(format!("Recreate {}", shown.join(", ")), &flags, &names));
        }
        if !started.is_empty() {
            tasks.push(site.up(format!("Start {}", started.join(", ")), &["--force-recreate"], &started));
        }
    }
    let all = services.running();
    if !all.is_empty() {
        let flags = ["--no-recreate", "--remove-orphans"];
        tasks.push(site.up("Have all services running, and no other".to_owned(), &flags, &all));
        let next = Decide::Watch(site.clone(), all);
        tasks.push(Task { own: true, ..site.ask("Look at the containers", site.docker.containers(), next) });
    }
    tasks
}

fn one_shot(site: &Site, service: &Service) -> Vec<Task> {
    let name = &service.name;
    let up = ["up", "--detach", "--no-deps", "--no-build", "--force-recreate", name.as_str()];
    let next = Decide::Follow(site.clone(), service.clone());
    vec![
        site.task(format!("Run {name} to its end"), site.compose(up)),
        Task { own: true, ..site.ask(format!("Look for {name}"), site.docker.containers(), next) },
    ]
}

/// Shows what a one-shot service says until it ends. `docker compose logs --follow` would wait for ever where the
/// container ended before it was asked.
pub(super) fn follow(site: &Site, service: &Service, containers: &[Container]) -> Result<Vec<Task>, String> {
    let name = &service.name;
    let own = containers.iter().find(|own| own.service == *name && own.config == service.config);
    let own = own.ok_or_else(|| format!("Compose made no container of {name}"))?;
    let ended = Watch::Ended { service: name.clone(), config: service.config.clone() };
    Ok(vec![
        site.task(format!("What {name} says"), site.docker.command(["container", "logs", "--follow", &own.id])),
        site.poll(format!("How {name} ended"), site.docker.containers(), ended, site.wait),
    ])
}

fn start_first(site: &Site, service: &Service, old: Vec<String>) -> Vec<Task> {
    let name = &service.name;
    let scale = format!("{name}={}", old.len().saturating_add(usize::try_from(service.replicas).unwrap_or(1)));
    let up = ["up", "--detach", "--no-build", "--no-recreate", "--scale", &scale, name];
    let next = Decide::Settle(site.clone(), service.clone(), old);
    vec![
        site.task(format!("Start {name} beside what is live"), site.compose(up)),
        Task { own: true, ..site.ask(format!("Look for {name}"), site.docker.containers(), next) },
    ]
}

/// Once the new containers of a service are up and healthy, its old ones go.
pub(super) fn settle(
    site: &Site,
    service: &Service,
    old: &[String],
    containers: &[Container],
) -> Result<Vec<Task>, String> {
    let new: Vec<&Container> =
        containers.iter().filter(|own| own.service == service.name && own.config == service.config).collect();
    if new.is_empty() {
        return Err(format!("Compose started no new container of {}", service.name));
    }
    let mut tasks = vec![steady(site, &service.name, &new)];
    let gone: Vec<&Container> = containers.iter().filter(|own| old.contains(&own.id)).collect();
    tasks.extend(remove(site, service, &gone));
    Ok(tasks)
}

/// Stops containers as their `stop_grace_period` says, and removes them.
fn remove(site: &Site, service: &Service, containers: &[&Container]) -> Vec<Task> {
    if containers.is_empty() {
        return Vec::new();
    }
    let ids = || containers.iter().map(|own| own.id.as_str());
    let stop = site.docker.command(["container", "stop"].into_iter().chain(ids()));
    let rm = site.docker.command(["container", "rm"].into_iter().chain(ids()));
    vec![
        site.task(format!("Stop the old {}", service.name), stop),
        Task { own: true, ..site.task(format!("Remove the old {}", service.name), rm) },
    ]
}

pub(super) fn watch(site: &Site, names: &[String], containers: &[Container]) -> Option<Task> {
    let all: Vec<&Container> = containers.iter().filter(|own| names.contains(&own.service)).collect();
    (!all.is_empty()).then(|| steady(site, &names.join(", "), &all))
}

fn steady(site: &Site, what: &str, containers: &[&Container]) -> Task {
    let ids: Vec<String> = containers.iter().map(|own| own.id.clone()).collect();
    let names: BTreeSet<String> = containers.iter().map(|own| own.service.clone()).collect();
    let services = containers.iter().map(|own| (own.id.clone(), own.service.clone())).collect();
    let watch = Watch::Steady { services, window: WINDOW };
    let mut task = site.poll(
        format!("Watch {what} for {} s", WINDOW.as_secs()),
        site.docker.inspect(&ids),
        watch,
        site.wait + WINDOW,
    );
    task.explain = Some(site.logs(&names.into_iter().collect::<Vec<_>>()));
    task
}
