//! Detached commands that a host knows of: which run, and how the others ended.

use crate::layout::ReleaseId;

/// A detached command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Its name, for people.
    pub name: String,
    /// The release that it works in.
    pub release: ReleaseId,
    /// How it is.
    pub state: DetachedState,
}

/// How a detached command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetachedState {
    /// It runs.
    Runs,
    /// It ended with this status.
    Ended(i32),
    /// It was killed, or the host was started anew: it left no status.
    Vanished,
}

/// Shell text that, in `deploy_to`, prints a line for each.
pub(super) const LOOK: &str = "for d in .ship/detached/*; do [ -r \"$d/name\" ] && read -r r <\"$d/release\" && read -r v <\"$d/name\" || continue\n\
     if [ -r \"$d/status\" ]; then read -r w <\"$d/status\"; elif flock -n -s \"$d/alive\" true; then w=vanished; else w=runs; fi\n\
     printf 'detached %s %s %s %s\\n' \"${d##*/}\" \"$r\" \"$w\" \"$v\"; done\n";

/// Reads what stands behind `detached ` in a line of [`LOOK`]: the key, and what is known.
pub(super) fn read(text: &str) -> Option<(String, Detached)> {
    let mut words = text.splitn(4, ' ');
    let (key, release, state, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let state = match state {
        "runs" => DetachedState::Runs,
        "vanished" => DetachedState::Vanished,
        status => DetachedState::Ended(status.parse().ok()?),
    };
    Some((key.to_owned(), Detached { name: name.to_owned(), release: ReleaseId::parse(release)?, state }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_nonsense_is_left_out() {
        let read = |text: &str| read(text).map(|(key, found)| (key, found.name, found.state));
        let id = "20261121T101500Z-1a2b3c4";
        let of = |state| Some(("ab".to_owned(), "Build it all".to_owned(), state));
        assert_eq!(read(&format!("ab {id} runs Build it all")), of(DetachedState::Runs));
        assert_eq!(read(&format!("ab {id} 7 Build it all")), of(DetachedState::Ended(7)));
        assert_eq!(read(&format!("ab {id} vanished Build it all")), of(DetachedState::Vanished));
        for nonsense in ["", "ab", "ab ../x runs n", "ab x runs n"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(read(&format!("ab {id} what n")), None);
    }
}
