//! Whether a symlink stays inside the release.

use super::path;

/// More links than this in a row are a loop for Linux (MAXSYMLINKS), and lead nowhere.
const HOPS: usize = 40;

/// Whether the symlink at `link` with `target` leads out of the release, also by way of other symlinks.
/// `target_of` says what the symlink at a path says, where there is one.
///
/// What does not exist is taken for a folder: shared files are linked into the release later.
pub fn leads_out<'a>(link: &[u8], target: &'a [u8], target_of: impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
    let mut place = path::parent(link).map(<[u8]>::to_vec).unwrap_or_default();
    let mut ahead: Vec<&'a [u8]> = Vec::new();
    if !enqueue(&mut ahead, target) {
        return true;
    }
    let mut hops = 0;
    while let Some(name) = ahead.pop() {
        match name {
            b"" | b"." => {}
            b".." if place.is_empty() => return true,
            b".." => place = path::parent(&place).map(<[u8]>::to_vec).unwrap_or_default(),
            name => {
                let next = path::join(&place, name);
                match target_of(&next) {
                    None => place = next,
                    Some(_) if hops == HOPS => return false,
                    Some(target) => {
                        hops += 1;
                        if !enqueue(&mut ahead, target) {
                            return true;
                        }
                    }
                }
            }
        }
    }
    false
}

/// Puts the components of `target` in front of those ahead; `false` where it is absolute.
fn enqueue<'a>(ahead: &mut Vec<&'a [u8]>, target: &'a [u8]) -> bool {
    ahead.extend(target.rsplit(|byte| *byte == b'/'));
    !target.starts_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_their_end() {
        let links: &[(&[u8], &[u8])] =
            &[(b"s/root", b".."), (b"s/deep", b"a/b/c"), (b"loop", b"loop"), (b"abs", b"/etc")];
        let target_of = |path: &[u8]| links.iter().find(|(link, _)| *link == path).map(|(_, target)| *target);
        let out = |link: &[u8], target: &'static [u8]| leads_out(link, target, target_of);
        for (link, target) in [
            (&b"x"[..], &b"a"[..]),
            (b"x", b"."),
            (b"a/x", b".."),
            (b"a/b/x", b"../../c/../d/"),
            (b"s/x", b"deep/../../.."),
            (b"x", b"loop/../.."),
            (b"x", b"s/root/s/root/s"),
            (b"a/x", b"../missing/../y"),
        ] {
            assert!(!out(link, target), "{link:?} {target:?}");
        }
        for (link, target) in [
            (&b"x"[..], &b"/"[..]),
            (b"x", b".."),
            (b"a/x", b"../.."),
            (b"a/x", b"../../release/y"),
            (b"s/x", b"root/.."),
            (b"x", b"s/root/../y"),
            (b"x", b"abs/passwd"),
        ] {
            assert!(out(link, target), "{link:?} {target:?}");
        }
    }
}
