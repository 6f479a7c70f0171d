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

/// Points `current` at `target`, if it points at `expected` now.
///
/// The new link is made under the same name in another folder of the same file system and moved into the
/// parent: `mv` then is one rename(2), with which readers see the old or the new release and never none
/// (rename(2): "newpath will be atomically replaced"). GNU's `mv -T` is not everywhere. A link left over by
/// a run that died is removed first, so it can never be the one that is published.
fn switch(layout: &Layout, target: &str, expected: Option<&str>) -> Command {
    let next = ".ship/next";
    let unchanged = match expected {
        Some(expected) => format!("[ \"$(readlink current)\" = {} ] || exit 74", quote(expected)),
        None => "[ ! -L current ] || exit 74".to_owned(),
    };
    Command::shell(format!(
        "[ -L current ] || [ ! -e current ] || exit 73; {unchanged}; [ -d {target} ] || exit 75; \
         rm -rf {next} && mkdir {next} && ln -s {target} {next}/current && mv -f {next}/current ./ && rmdir {next}",
        target = quote(target),
    ))
    .directory(layout.root())
}

/// Removes `current`, if it points at `target`: the way back from the very first release.
pub fn unpublish(layout: &Layout, target: &str) -> Command {
    Command::shell(format!("[ \"$(readlink current)\" = {} ] || exit 74; rm -f current", quote(target)))
        .directory(layout.root())
}
