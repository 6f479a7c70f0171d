//! `swap`: switches `current` to the release in one step. The only place that changes `current`.

use super::{Action, Context, Task};
use crate::command::{Command, quote};
use crate::document::{Node, Problems, Reader};
use crate::layout::Layout;

/// One line for the documentation.
pub const SUMMARY: &str = "switches `current` to the release by rename(2), if it still points where the plan saw it";
/// An example in TOML.
pub const EXAMPLE: &str = "swap = {}";

/// What the statuses of the switch mean.
pub const MEANINGS: &[(i32, &str)] = &[
    (73, "`current` is a real file or folder, not a link: move it away by hand, ship never removes it"),
    (74, "`current` no longer points where the plan saw it: somebody else changed it; run `ship status`"),
    (75, "the release is no longer there"),
];

/// A `swap` step. It has no settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap;

impl Swap {
    /// Reads the body: an empty table.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        Reader::new("`swap`", body, problems)?.finish();
        Some(Self)
    }

    /// The switch.
    pub fn tasks(&self, context: &Context<'_>) -> Vec<Task> {
        let target = context.layout.release_target(context.release);
        let command = context.limited(switch(context.layout, &target, context.expected));
        vec![context.task(Action::Command(command)).meanings(MEANINGS)]
    }
}

/// What `current` may be for a switch to be right: anything else means that somebody else changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The targets that it may have.
    pub targets: Vec<String>,
    /// Whether there may be none.
    pub missing: bool,
}

impl Expected {
    /// A shell pattern list for `case`, in which the empty word is a missing link.
    fn pattern(&self) -> String {
        let missing = self.missing.then(|| "''".to_owned());
        // A quoted word has no pattern characters (POSIX XCU 2.13.1).
        let targets = self.targets.iter().map(|target| quote(target).into_owned());
        missing.into_iter().chain(targets).collect::<Vec<_>>().join("|")
    }
}

/// Points `current` at `target`, if it is as `expected`.
///
/// The new link is made under the same name in another folder of the same file system and moved into the
/// parent: `mv` then is one rename(2), with which readers see the old or the new release and never none
/// (rename(2): "newpath will be atomically replaced"). GNU's `mv -T` is not everywhere. A link left over by
/// a run that died is replaced first, so it can never be the one that is published.
///
/// Bounded on the host, short as it is: where a disk does not answer, the run is given up and the host put back, and
/// nothing may be published after that.
fn switch(layout: &Layout, target: &str, expected: &Expected) -> Command {
    Command::shell(format!(
        "[ -L current ] || [ ! -e current ] || exit 73; case $(readlink current) in {pattern}) ;; *) exit 74;; esac; \
         [ -d {target} ] || exit 75; \
         ln -sfn {target} .ship/current && exec mv -f .ship/current ./",
        pattern = expected.pattern(),
        target = quote(target),
    ))
    .directory(layout.root())
}

/// Removes `current`, if it points at `target`: the way back from the very first release. A link that pointed
/// nowhere `before` is left as it is where the switch was not reached.
pub fn unpublish(layout: &Layout, before: Option<&str>, target: &str) -> Task {
    let expected = Expected { targets: vec![target.to_owned()], missing: true };
    let unreached = before.map(|before| format!("{}) exit 0;; ", quote(before))).unwrap_or_default();
    let command = Command::shell(format!(
        "[ -L current ] || [ ! -e current ] || exit 73; case $(readlink current) in {unreached}{}) ;; *) exit 74;; esac; rm -f current",
        expected.pattern()
    ));
    Task::new("Remove current", Action::Command(command.directory(layout.root()))).meanings(MEANINGS)
}

/// Points `current` at what it was `before` the first release of ship, which ship did not make.
pub fn back_to(layout: &Layout, before: &str, target: &str) -> Task {
    let expected = Expected { targets: vec![before.to_owned(), target.to_owned()], missing: false };
    Task::new("Switch current", Action::Command(switch(layout, before, &expected))).meanings(MEANINGS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn run(command: &Command) -> i32 {
        let status = std::process::Command::new("/bin/sh").arg("-c").arg(command.to_shell()).status().expect("sh");
        status.code().expect("no signal")
    }

    fn host(releases: &[&str]) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("it's here");
        std::fs::create_dir_all(root.join(".ship")).expect("records");
        for release in releases {
            std::fs::create_dir_all(root.join("releases").join(release)).expect("a release");
        }
        let layout = Layout::new(&root.to_string_lossy());
        (folder, layout)
    }

    fn target(layout: &Layout) -> String {
        std::fs::read_link(layout.current()).expect("a link").to_string_lossy().into_owned()
    }

    #[test]
    fn the_switch_needs_current_to_be_as_the_plan_saw_it() {
        let (_folder, layout) = host(&["a", "b"]);
        let first = Expected { targets: Vec::new(), missing: true };
        assert_eq!(run(&switch(&layout, "releases/a", &first)), 0);
        assert_eq!(target(&layout), "releases/a");
        assert_eq!(run(&switch(&layout, "releases/b", &first)), 74);
        let from_a = Expected { targets: vec!["releases/a".to_owned()], missing: false };
        assert_eq!(run(&switch(&layout, "releases/b", &from_a)), 0);
        assert_eq!(target(&layout), "releases/b");
        let from_b = Expected { targets: vec!["releases/b".to_owned()], missing: false };
        assert_eq!(run(&switch(&layout, "releases/c", &from_b)), 75);
        assert_eq!(target(&layout), "releases/b");
    }

    #[test]
    fn a_folder_in_place_of_current_is_never_touched() {
        let (_folder, layout) = host(&["a"]);
        std::fs::create_dir(layout.current()).expect("a folder");
        std::fs::write(Path::new(&layout.current()).join("precious"), "x").expect("a file");
        assert_eq!(run(&switch(&layout, "releases/a", &Expected { targets: Vec::new(), missing: true })), 73);
        assert!(Path::new(&layout.current()).join("precious").exists());
    }

    #[test]
    fn the_way_back_from_the_first_release_is_what_was_there_before() {
        let (folder, layout) = host(&["new"]);
        let run_task = |task: &Task| task.command().map(run);
        let foreign = folder.path().join("elsewhere").to_string_lossy().into_owned();
        std::fs::create_dir(&foreign).expect("a folder");
        std::os::unix::fs::symlink("releases/new", layout.current()).expect("a link");
        assert_eq!(run_task(&back_to(&layout, &foreign, "releases/new")), Some(0));
        assert_eq!(target(&layout), foreign);
        assert_eq!(run_task(&back_to(&layout, &foreign, "releases/new")), Some(0), "where the switch was not reached");
        assert_eq!(run_task(&unpublish(&layout, Some(&foreign), "releases/new")), Some(0));
        assert_eq!(target(&layout), foreign);
        assert_eq!(run_task(&unpublish(&layout, None, "releases/new")), Some(74));
    }

    #[test]
    fn a_link_left_over_by_a_dead_run_is_not_published() {
        let (_folder, layout) = host(&["old", "dead", "new"]);
        let next = Path::new(layout.root()).join(".ship/current");
        std::os::unix::fs::symlink(format!("{}/dead", layout.releases()), &next).expect("a link");
        std::os::unix::fs::symlink("releases/old", layout.current()).expect("a link");
        let expected = Expected { targets: vec!["releases/old".to_owned()], missing: false };
        assert_eq!(run(&switch(&layout, "releases/new", &expected)), 0);
        assert_eq!(target(&layout), "releases/new");
        assert!(next.symlink_metadata().is_err());
    }
}
