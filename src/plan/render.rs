//! Steps of a recipe, rendered for one host and one release, with everything but facts.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::EnvValue;
use crate::config::recipe::StepSpec;
use crate::config::scope::Scope;
use crate::config::selection::Host;
use crate::document::{Place, Problem, Problems};
use crate::event::Phase;
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};
use crate::step::swap::Expected;
use crate::step::{Context, Step, Task};

/// A step of one host and one release.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// When.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// What.
    pub step: Step,
    /// Where commands run, relative to the release, or absolute.
    pub directory: String,
    /// Their environment.
    pub environment: Vec<(String, EnvValue)>,
    /// The step's own time limit.
    pub timeout: Option<Duration>,
    /// How often a command may be tried in all.
    pub attempts: u32,
    /// A failure is reported and the run goes on.
    pub tolerate: bool,
    /// See [`Task::stage`].
    pub stage: u32,
    /// In `setup`: what is there once the step is done.
    pub creates: Option<String>,
    /// In `setup`: shell text whose status 0 says that the step is done.
    pub done_when: Option<String>,
    /// Where it stands in the recipe.
    pub place: Place,
}

/// Which steps a person chose on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Steps to leave out, by name, kind or tag.
    pub skip: Vec<String>,
    /// The only steps to take, by name, kind or tag; empty for all.
    pub only: Vec<String>,
    /// Whether `setup` is meant, and not what a deploy does.
    pub setup: bool,
}

impl Filter {
    /// Whether the step takes part. `swap` always does: without it nothing is published.
    fn takes(&self, spec: &StepSpec) -> bool {
        if self.setup != (spec.phase == Phase::Setup) {
            return false;
        }
        if spec.kind == crate::step::Kind::Swap {
            return true;
        }
        let named = |names: &[String]| {
            names.iter().any(|name| {
                spec.name.as_ref().is_some_and(|own| own.value == *name)
                    || spec.kind.name() == name
                    || spec.modifiers.tags.contains(name)
            })
        };
        !named(&self.skip) && (self.only.is_empty() || named(&self.only))
    }

    /// The words that name no step of the recipe: a typing error must not deploy something else.
    pub fn unknown(&self, steps: &[StepSpec]) -> Vec<String> {
        let known: BTreeSet<&str> = steps
            .iter()
            .flat_map(|spec| {
                let name = spec.name.as_ref().map(|name| name.value.as_str());
                name.into_iter().chain([spec.kind.name()]).chain(spec.modifiers.tags.iter().map(String::as_str))
            })
            .collect();
        self.skip.iter().chain(&self.only).filter(|word| !known.contains(word.as_str())).cloned().collect()
    }
}

/// The steps of `host`, in the order of the recipe. `hosts` are all hosts of the run: a step that is to run
/// `once` runs on the first of them that has its roles.
pub fn steps(
    specs: &[StepSpec],
    filter: &Filter,
    scope: &Scope,
    host: &Host,
    hosts: &[Host],
) -> Result<Vec<PlannedStep>, Problems> {
    let mut planned = Vec::new();
    let mut problems = Problems::new();
    // Counted over all steps, also those of other hosts, so that a stage means the same everywhere.
    let mut stage = 0;
    let mut once_before = false;
    for spec in specs.iter().filter(|spec| filter.takes(spec)) {
        let once = spec.modifiers.once && hosts.len() > 1 && spec.phase == Phase::Prepare;
        if once || once_before {
            stage += 1;
        }
        once_before = once;
        let has_role = |host: &Host| {
            spec.modifiers.roles.is_empty() || spec.modifiers.roles.iter().any(|role| host.roles.contains(&role.value))
        };
        let first = || hosts.iter().find(|other| has_role(other)).is_some_and(|first| first.name == host.name);
        if !has_role(host) || (spec.modifiers.once && !first()) {
            continue;
        }
        let rendered = match scope.step(spec) {
            Ok(rendered) => rendered,
            Err(found) => {
                problems.extend(found);
                continue;
            }
        };
        if !rendered.wanted {
            continue;
        }
        if let Some(step) = Step::read(spec.kind, &rendered.body, &mut problems) {
            if let Err(reason) = step.suits(spec.phase, rendered.creates.is_some() || rendered.done_when.is_some()) {
                problems.push(Problem::at(&spec.body.place, reason));
            }
            planned.push(PlannedStep {
                phase: spec.phase,
                name: rendered.name.unwrap_or_else(|| step.title()),
                step,
                directory: rendered.cwd.unwrap_or_default(),
                environment: rendered.env,
                timeout: spec.modifiers.timeout,
                attempts: spec.modifiers.attempts,
                tolerate: spec.modifiers.tolerate,
                stage: if spec.phase == Phase::Prepare { stage } else { 0 },
                creates: rendered.creates,
                done_when: rendered.done_when,
                place: spec.body.place.clone(),
            });
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

/// The tasks of `steps` in `phase`, for a release. The errors name what the host lacks.
pub fn tasks(
    steps: &[PlannedStep],
    phase: Phase,
    layout: &Layout,
    facts: &Facts,
    release: &ReleaseId,
    expected: &Expected,
    put_back: bool,
) -> Result<Vec<Task>, Vec<String>> {
    gather(steps, phase, layout, facts, release, expected, put_back, &|step, context| step.tasks(context))
}

/// What `act` makes of each of `steps` in `phase`, for a release. The errors name what the host lacks.
#[expect(clippy::too_many_arguments, reason = "a step's context, spelt out once")]
pub fn gather(
    steps: &[PlannedStep],
    phase: Phase,
    layout: &Layout,
    facts: &Facts,
    release: &ReleaseId,
    expected: &Expected,
    put_back: bool,
    act: &dyn Fn(&Step, &Context<'_>) -> Result<Vec<Task>, String>,
) -> Result<Vec<Task>, Vec<String>> {
    let mut tasks = Vec::new();
    let mut lacking = Vec::new();
    for planned in steps.iter().filter(|planned| planned.phase == phase) {
        let folder = layout.release(release);
        let directory = match planned.directory.as_str() {
            "" => folder,
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("{folder}/{relative}"),
        };
        let context = Context {
            layout,
            facts,
            release,
            expected,
            phase,
            put_back,
            name: &planned.name,
            directory: &directory,
            environment: &planned.environment,
            timeout: planned.timeout,
            attempts: planned.attempts,
        };
        match act(&planned.step, &context) {
            Ok(made) => {
                tasks.extend(made.into_iter().map(|task| Task { tolerate: task.tolerate || planned.tolerate, ..task }))
            }
            Err(lack) => lacking.push(lack),
        }
    }
    if lacking.is_empty() { Ok(tasks) } else { Err(lacking) }
}

/// The programs that any of `steps` needs on the host.
pub fn programs(steps: &[PlannedStep]) -> Vec<String> {
    let all: BTreeSet<String> = steps.iter().flat_map(|planned| planned.step.programs()).collect();
    all.into_iter().collect()
}
