//! `images`: container images of this machine, sent to the engine of a host without a registry.
//!
//! The engine gets only the layers that it lacks, computes the digests of what it has then, and an image gets its name
//! on the host once its id there is the one that it has here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::link::{inside, wrong};
use super::{Action, Context, Sending, Task, compose};
use crate::artifact::image::Image;
use crate::artifact::{Archive, Load};
use crate::command::{Command, quote};
use crate::document::{Node, Problems, Reader, Value};
use crate::facts::images::{Engine, Images as Present};

/// One line for the documentation.
pub const SUMMARY: &str = "sends container images of this machine to the host's Docker, without a registry; only the layers that it lacks are sent";
/// An example in TOML.
pub const EXAMPLE: &str = r#"images = { push = ["shop:latest"] }"#;

/// How long a host may take to receive images when the recipe does not say: layers are large and lines are slow.
const RECEIVE: Duration = Duration::from_secs(3600);

/// An image and its name on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Its name on this machine.
    pub from: String,
    /// Its name on the host.
    pub to: String,
}

/// A rendered `images` step.
#[derive(Clone, Debug)]
pub struct Images {
    /// The images.
    pub push: Vec<Push>,
    /// The file of the checkout that has them, as `docker save` writes it; without one this machine's engine has them.
    pub archive: Option<String>,
    /// Whether the host's engine is called through sudo.
    pub sudo: bool,
    /// The images themselves, once they are on this machine's disk.
    pub source: Option<Arc<Archive>>,
}

impl PartialEq for Images {
    /// Of the same source where that is the same file in memory.
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.source, &other.source) {
            (Some(ours), Some(its)) => Arc::ptr_eq(ours, its),
            (ours, its) => ours.is_none() && its.is_none(),
        };
        same && (&self.push, &self.archive, self.sudo) == (&other.push, &other.archive, other.sudo)
    }
}

impl Images {
    /// Reads the body: `{ push = ["name", { from, to }], archive, sudo }`.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`images`", body, problems)?;
        reader.required("push", Some("which images are sent: push = [\"shop:latest\"]"));
        let items = reader.node("push");
        let archive = reader.string("archive");
        let sudo = reader.typed("sudo", "expected true or false", compose::boolean).unwrap_or_default();
        reader.finish();
        let items = match items.map(|node| (&node.value, node)) {
            Some((Value::Array(items), _)) => items.as_slice(),
            Some((_, node)) => std::slice::from_ref(node),
            None => &[],
        };
        let push: Vec<Push> = items.iter().flat_map(|item| pushed(item, problems)).collect();
        if push.is_empty() && problems.len() == before {
            problems.push(wrong(&body.place, "`images` has no image to push".to_owned()));
        }
        if let Some(Err(reason)) = archive.as_deref().map(inside) {
            problems.push(wrong(&body.place, format!("`images` cannot read its `archive`: {reason}")));
        }
        (problems.len() == before).then_some(Self { push, archive, sudo, source: None })
    }

    /// The name of a step whose author gave it none.
    pub fn title(&self) -> String {
        let names: Vec<&str> = self.push.iter().map(|push| push.to.as_str()).collect();
        format!("Send {}", names.join(", "))
    }

    /// The programs that the host needs.
    pub fn programs(&self) -> Vec<String> {
        let sudo = self.sudo.then_some("sudo");
        sudo.into_iter().chain(["docker"]).map(str::to_owned).collect()
    }

    /// How the host's engine is asked, where `docker` is on the host.
    pub fn engine(&self, docker: &str) -> Engine {
        Engine { program: docker.to_owned(), sudo: self.sudo }
    }

    /// Sends what is missing, makes sure of the ids, and gives the images their names.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        let engine = self.engine(&context.program("docker")?);
        // Whether the host is ready, and what sudo has to allow there, is asked before there is any image.
        let Some(archive) = &self.source else { return Ok(Vec::new()) };
        let present = context.facts.images.as_ref().ok_or_else(|| {
            let how =
                if self.sudo { "through sudo" } else { "by itself; add it to the group docker, or say `sudo = true`" };
            format!("the step \"{}\" needs Docker, which {} cannot use {how}", context.name, context.facts.user)
        })?;
        let mut wanted: BTreeMap<String, Image> = BTreeMap::new();
        let mut names = Vec::new();
        for push in &self.push {
            let image = archive
                .image(&push.from)
                .ok_or_else(|| format!("the step \"{}\" has no image {}", context.name, push.from))?;
            if !image.architecture.is_empty() && image.architecture != present.architecture {
                return Err(format!(
                    "the image {} is for {}, and the host's processor is {}",
                    push.from, image.architecture, present.architecture
                ));
            }
            let id = if present.content_store { &image.manifest_id } else { &image.id };
            names.push((id.clone(), push.to.clone()));
            wanted.insert(id.clone(), image.clone());
        }
        let ids: Vec<String> = wanted.keys().cloned().collect();
        wanted.retain(|id, _| !present.layers.contains_key(id));
        let mut tasks = match wanted.is_empty() {
            true => Vec::new(),
            false => self.send(context, &engine, &load(archive, wanted, present)),
        };
        let verify = engine
            .command(["image", "inspect", "--format", "{{.Id}}"].into_iter().chain(ids.iter().map(String::as_str)));
        let verify = Task::own("Verify the images by digest", verify);
        tasks.push(
            verify.meanings(&[(1, "the host's engine has other images than those that were sent; none got a name")]),
        );
        for (id, name) in names {
            let command = engine.command(["image", "tag", &id, &name]);
            tasks.push(Task::own(format!("Name the image {name}"), command));
        }
        Ok(tasks)
    }

    fn send(&self, context: &Context<'_>, engine: &Engine, load: &Load) -> Vec<Task> {
        let limit = context.timeout.unwrap_or(RECEIVE);
        let sending = |command: Command| {
            context.task(Action::Send(Sending { command: command.timeout(limit), load: load.clone() }))
        };
        if !self.sudo {
            return vec![sending(engine.command(["image", "load", "--quiet"]))];
        }
        // sudo's input is for its own question; and what the file holds may be secret.
        let file = format!("{}/images.tar", context.layout.record(context.release));
        let receive = Command::shell(format!("umask 077; exec cat >{}", quote(&file)));
        let read = engine.command(["image", "load", "--quiet", "--input", &file]).timeout(limit);
        vec![
            sending(receive),
            Task::own("Load the images", read),
            Task::own("Remove what was sent", Command::argv(["rm", "-f", &file])),
        ]
    }
}

/// A content store looks for layers in what is sent alone, so it is sent everything.
fn load(archive: &Arc<Archive>, images: BTreeMap<String, Image>, present: &Present) -> Load {
    let known: Vec<&[String]> = present.layers.values().map(Vec::as_slice).collect();
    let images = images.into_values().collect();
    Load::new(archive, images, (!present.content_store).then_some(known.as_slice()))
}

/// The image that an item is, or those that a text names with blanks or commas between them.
fn pushed(item: &Node, problems: &mut Problems) -> Vec<Push> {
    let both = |name: String| Push { from: name.clone(), to: name };
    let push = match &item.value {
        // What it names is known once it is rendered.
        Value::String(text) if text.contains("{{") => vec![both(text.clone())],
        Value::String(text) => compose::list(std::slice::from_ref(text)).into_iter().map(both).collect(),
        _ => pair(item, problems).into_iter().collect(),
    };
    for name in push.iter().flat_map(|push| [&push.from, &push.to]) {
        // A template has its spaces until it is rendered.
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if name.is_empty() || name.starts_with('-') || (!name.contains("{{") && name.contains(odd)) {
            problems.push(wrong(&item.place, format!("{name:?} is no name of an image")));
            return Vec::new();
        }
    }
    push
}

fn pair(item: &Node, problems: &mut Problems) -> Option<Push> {
    let mut reader = Reader::new("an image to push", item, problems)?;
    let (from, to) = (reader.required_string("from"), reader.required_string("to"));
    reader.finish();
    Some(Push { from: from?, to: to? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::artifact::image_samples::{Form, Sample};
    use crate::document::parse;
    use crate::facts::Facts;
    use crate::layout::{Layout, ReleaseId};
    use crate::step::swap::Expected;

    fn read(text: &str) -> Result<Images, String> {
        let body = parse(Path::new("r.toml"), text.to_owned()).expect("TOML");
        let mut problems = Problems::new();
        let step = Images::read(&body, &mut problems);
        step.ok_or_else(|| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "))
    }

    fn tasks(step: &Images, present: Option<Present>) -> Result<String, String> {
        let facts = Facts {
            user: "deployer".to_owned(),
            programs: BTreeMap::from([("docker".to_owned(), "/usr/bin/docker".to_owned())]),
            images: present,
            ..Facts::default()
        };
        let context = Context {
            layout: &Layout::new("/srv/app"),
            facts: &facts,
            release: &ReleaseId::parse("20261121T101500Z-1a2b3c4").expect("an id"),
            expected: &Expected::default(),
            phase: crate::event::Phase::Prepare,
            put_back: false,
            name: "Send",
            directory: "/",
            environment: &[],
            timeout: None,
            attempts: 1,
            detach: None,
        };
        let shown = |task: &Task| {
            let sent = match &task.action {
                Action::Send(sending) => format!(" < {} layers", sending.load.counts().0),
                _ => String::new(),
            };
            format!("{}{sent}", task.command().map(Command::display).unwrap_or_default())
        };
        Ok(step.tasks(&context)?.iter().map(shown).collect::<Vec<_>>().join("\n"))
    }

    fn present(layers: &[(&str, &[String])]) -> Option<Present> {
        let layers = layers.iter().map(|(id, layers)| ((*id).to_owned(), layers.to_vec())).collect();
        Some(Present { architecture: "amd64".to_owned(), content_store: false, layers })
    }

    #[test]
    fn images_are_names_or_pairs_of_names() {
        let step = read("push = ['a', { from = 'b', to = 'c:1' }]\nsudo = true").expect("a step");
        let names = |step: &Images| -> Vec<(String, String)> {
            step.push.iter().map(|push| (push.from.clone(), push.to.clone())).collect()
        };
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!((names(&step), step.sudo), (vec![pair("a", "a"), pair("b", "c:1")], true));
        let rendered = read("push = 'a, b:1'\nsudo = 'false'").expect("a step");
        assert_eq!((names(&rendered), rendered.sudo), (vec![pair("a", "a"), pair("b:1", "b:1")], false));
        insta::assert_snapshot!(
            ["", "push = []", "push = ' '", "push = ['--all', { from = 'a b', to = 'c' }]", "push = 'a'\narchive = '/a.tar'"]
                .map(|text| read(text).expect_err("a problem"))
                .join("\n"),
            @r#"
        `images` has no `push`
        `images` has no image to push
        `images` has no image to push
        "--all" is no name of an image; "a b" is no name of an image
        `images` cannot read its `archive`: it is absolute, and must be relative to the release
        "#
        );
    }

    #[test]
    fn what_is_missing_is_sent_and_an_image_is_named_after_its_id_is_certain() {
        let sample = Sample::new(&[b"one", b"two"]);
        let file = sample.archive(Form::Old);
        let mut step = read("push = [{ from = 'app', to = 'app:7' }]").expect("a step");
        assert_eq!(tasks(&step, None).as_deref(), Ok(""), "nothing is known before the build");
        step.source = Some(Arc::new(file.archive()));
        let id = sample.id();
        let named =
            format!("/usr/bin/docker image inspect --format '{{{{.Id}}}}' {id}\n/usr/bin/docker image tag {id} app:7");
        let direct = |layers: usize| Ok(format!("/usr/bin/docker image load --quiet < {layers} layers\n{named}"));
        assert_eq!(tasks(&step, present(&[])), direct(2));
        assert_eq!(tasks(&step, present(&[("sha256:other", &sample.layers()[..1])])), direct(1));
        assert_eq!(tasks(&step, present(&[(&id, &sample.layers())])), Ok(named.clone()));
        step.sudo = true;
        let file = "/srv/app/.ship/releases/20261121T101500Z-1a2b3c4/images.tar";
        assert_eq!(
            tasks(&step, present(&[])).expect("tasks").lines().take(3).collect::<Vec<_>>(),
            [
                format!("umask 077; exec cat >{file} < 2 layers"),
                format!("sudo /usr/bin/docker image load --quiet --input {file}"),
                format!("rm -f {file}"),
            ]
        );
    }

    #[test]
    fn a_content_store_is_sent_everything_and_knows_images_by_their_manifest() {
        let sample = Sample::new(&[b"one", b"two"]);
        let file = sample.archive(Form::Layout);
        let mut step = read("push = 'app'").expect("a step");
        step.source = Some(Arc::new(file.archive()));
        let store =
            Present { content_store: true, ..present(&[("sha256:other", &sample.layers()[..1])]).expect("images") };
        let said = tasks(&step, Some(store)).expect("tasks");
        let manifest = &file.archive().image("app").expect("it").manifest_id.clone();
        assert!(said.contains("< 2 layers") && said.contains(&format!("tag {manifest} app")), "{said}");
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_sent() {
        let sample = Sample::new(&[b"one"]);
        let file = sample.archive(Form::Old);
        let mut step = read("push = ['app', 'other']").expect("a step");
        step.source = Some(Arc::new(file.archive()));
        let arm = Present { architecture: "arm64".to_owned(), ..Present::default() };
        insta::assert_snapshot!(
            [None, Some(arm), present(&[])].map(|present| tasks(&step, present).expect_err("a reason")).join("\n"),
            @r#"
        the step "Send" needs Docker, which deployer cannot use by itself; add it to the group docker, or say `sudo = true`
        the image app is for amd64, and the host's processor is arm64
        the step "Send" has no image other
        "#
        );
    }
}
