//! `nginx`: a site or a snippet, which comes into use only if `nginx -t` accepts it.

use super::ground::{Change, Ground, Placed};
use super::link::wrong;
use super::owned::{Owned, check_path};
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "installs an nginx site (`site`, enabled) or another file of its configuration (`to`), from a `template` or \
     `content`; where `nginx -t` fails, the former file comes back; then reloads nginx";
/// An example in TOML.
pub const EXAMPLE: &str = r#"nginx = { site = "{{ app }}", template = "site.nginx.j2" }"#;

/// Where Debian's nginx keeps sites, and links to those that are in use.
const AVAILABLE: &str = "/etc/nginx/sites-available";
const ENABLED: &str = "/etc/nginx/sites-enabled";

/// A rendered `nginx` step. The text of a template is rendered by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nginx {
    /// The template, relative to the project folder.
    pub template: Option<String>,
    /// The text itself.
    pub content: Option<String>,
    /// The file.
    pub to: String,
    /// The link that puts a site to use, and what it points at.
    pub enabled: Option<(String, String)>,
}

impl Nginx {
    /// Reads the body.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`nginx`", body, problems)?;
        let (template, content) = (reader.string("template"), reader.string("content"));
        let (site, to) = (reader.string("site"), reader.string("to"));
        reader.finish();
        if template.is_some() == content.is_some() {
            problems.push(wrong(&body.place, "`nginx` needs exactly one of `template` and `content`".to_owned()));
        }
        let (to, enabled) = match (site, to) {
            (Some(site), None) => {
                if !site.contains("{{") && (site.is_empty() || site.contains('/') || site.starts_with('.')) {
                    problems.push(wrong(&body.place, format!("{site:?} is no name of a site")));
                }
                (format!("{AVAILABLE}/{site}"), Some((format!("{ENABLED}/{site}"), format!("{AVAILABLE}/{site}"))))
            }
            (None, Some(to)) => {
                check_path("nginx", &to, body, problems);
                (to, None)
            }
            _ => {
                problems.push(wrong(&body.place, "`nginx` needs exactly one of `site` and `to`".to_owned()));
                return None;
            }
        };
        (problems.len() == before).then_some(Self { template, content, to, enabled })
    }

    /// What has to change.
    pub fn changes(&self, ground: &Ground<'_>) -> Result<Vec<Change>, String> {
        let contents = ground.contents()?;
        let (owner, group) = ground.owner_of(&self.to, &Owned::default())?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut placed = Placed::new(&self.to, owner, group, 0o644, contents);
        placed.link = self.enabled.as_ref().map(|(link, target)| (link.as_str(), target.as_str()));
        placed.check = words(&["nginx", "-t"]);
        placed.check_before = true;
        placed.then = vec![match ground.context.facts.program("systemctl") {
            Some(_) => words(&["systemctl", "reload-or-restart", "nginx"]),
            None => words(&["nginx", "-s", "reload"]),
        }];
        Ok(ground.place(&placed)?.into_iter().collect())
    }
}
