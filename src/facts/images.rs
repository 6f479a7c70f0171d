//! Which container images a host has, layer by layer: what of an image need not be sent.
//!
//! Two questions, one after the other, only for hosts that are sent images.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Command;

/// How the engine of a host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The program, absolute.
    pub program: String,
    /// Whether it is called through sudo: the login is no member of the group `docker`.
    pub sudo: bool,
}

/// What the engine of a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The processor that it runs on, in the words of Go (`amd64`).
    pub architecture: String,
    /// Whether it keeps images as they were sent (containerd). Otherwise it keeps their layers unpacked.
    pub content_store: bool,
    /// The layers of each image by its id, the lowest first.
    pub layers: BTreeMap<String, Vec<String>>,
}

/// What the engine's answer has where images are kept by containerd.
const CONTENT_STORE: &str = "io.containerd.snapshotter.v1";

impl Engine {
    /// `docker WORDS`.
    pub fn command<S: Into<String>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let words = std::iter::once(self.program.clone()).chain(words.into_iter().map(Into::into));
        let command = Command::argv(words);
        if self.sudo { command.sudo() } else { command }
    }

    /// The first questions. All succeed where the engine can be used. What was built step by step counts, too.
    pub fn questions(&self) -> Vec<Command> {
        vec![
            self.command(["version", "--format", "{{.Server.Arch}}"]),
            self.command(["info", "--format", "{{json .DriverStatus}}"]),
            self.command(["image", "ls", "--all", "--quiet", "--no-trunc"]),
        ]
    }

    /// The second: the layers of images. An image that is gone by now makes it fail after it has told of the others.
    pub fn layers<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Command {
        let format = "{{.Id}} {{range .RootFS.Layers}} {{.}}{{end}}";
        self.command(["image", "inspect", "--format", format].into_iter().chain(ids))
    }
}

impl Images {
    /// Reads the answers to [`Engine::questions`], and gives back the ids to ask for next.
    pub fn parse(outputs: &[Vec<u8>]) -> (Self, BTreeSet<String>) {
        let text = |index: usize| outputs.get(index).map(|output| String::from_utf8_lossy(output).into_owned());
        let (architecture, status) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
        let ids = text(2).unwrap_or_default();
        let ids = ids.split_whitespace().filter(|word| word.starts_with("sha256:")).map(str::to_owned).collect();
        let images = Self {
            architecture: architecture.trim().to_owned(),
            content_store: status.contains(CONTENT_STORE),
            layers: BTreeMap::new(),
        };
        (images, ids)
    }

    /// Reads the answer to [`Engine::layers`].
    pub fn take_layers(&mut self, output: &[u8]) {
        for line in String::from_utf8_lossy(output).lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            if let Some(id) = words.next() {
                self.layers.insert(id, words.collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_asked_as_a_member_of_its_group_or_through_sudo() {
        let engine = |sudo| Engine { program: "/usr/bin/docker".to_owned(), sudo };
        let shown = |engine: &Engine| engine.layers(["sha256:1"]).display();
        assert!(shown(&engine(true)).starts_with("sudo /usr/bin/docker image inspect "));
        assert!(shown(&engine(false)).starts_with("/usr/bin/docker image inspect "));
    }

    #[test]
    fn answers_are_read_and_nonsense_in_them_is_left_out() {
        let old = b"[[\"Backing Filesystem\",\"extfs\"],[\"Supports d_type\",\"true\"]]\n".to_vec();
        let new = b"[[\"driver-type\",\"io.containerd.snapshotter.v1\"]]\n".to_vec();
        let ids = b"sha256:1\nsha256:2\nsha256:1\nWARNING\n".to_vec();
        let (mut images, ids) = Images::parse(&[b"amd64\n".to_vec(), old, ids]);
        assert_eq!((images.architecture.as_str(), images.content_store), ("amd64", false));
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["sha256:1", "sha256:2"]);
        images.take_layers(b"sha256:1  sha256:a sha256:b\nsha256:2 \n");
        assert_eq!(images.layers["sha256:1"], ["sha256:a", "sha256:b"]);
        assert!(images.layers["sha256:2"].is_empty());
        assert!(Images::parse(&[Vec::new(), new]).0.content_store);
    }
}
