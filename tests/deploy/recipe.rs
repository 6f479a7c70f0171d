//! Recipes, put together from steps.

/// The whole commit becomes the release.
pub const UPLOAD: &str = "[[prepare]]\nupload = \".\"\n";

/// The release goes live.
pub const SWAP: &str = "[[publish]]\nswap = {}\n";

/// A commit that holds a file `broken` is published in vain.
pub const CHECK: &str = "[[publish]]\nname = \"Check the site\"\nrun = \"test ! -e broken\"\n";

/// Deploys a commit and checks it.
pub fn checked() -> String {
    [UPLOAD, SWAP, CHECK].concat()
}

/// A step that runs `shell` on every host.
pub fn run(phase: &str, shell: &str) -> String {
    format!("[[{phase}]]\nrun = '''{shell}'''\n")
}

/// A step that runs `shell` on one host.
pub fn run_on(phase: &str, host: &str, shell: &str) -> String {
    format!("{}roles = [\"{host}\"]\n", run(phase, shell))
}
