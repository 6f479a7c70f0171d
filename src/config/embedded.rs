//! The files of the folder `recipes/`, compiled into the binary.

/// Path below `recipes/`, and text. A test compares the list with the folder.
pub const FILES: &[(&str, &str)] = &[
    ("compose.toml", include_str!("../../recipes/compose.toml")),
    ("compose/renew.service.j2", include_str!("../../recipes/compose/renew.service.j2")),
    ("compose/renew.timer.j2", include_str!("../../recipes/compose/renew.timer.j2")),
    ("django.toml", include_str!("../../recipes/django.toml")),
    ("django/celery.service.j2", include_str!("../../recipes/django/celery.service.j2")),
    ("django/celery_beat.service.j2", include_str!("../../recipes/django/celery_beat.service.j2")),
    ("django/deployment.json.j2", include_str!("../../recipes/django/deployment.json.j2")),
    ("django/gunicorn.service.j2", include_str!("../../recipes/django/gunicorn.service.j2")),
    ("django/gunicorn.socket.j2", include_str!("../../recipes/django/gunicorn.socket.j2")),
    ("django/location.nginx.j2", include_str!("../../recipes/django/location.nginx.j2")),
    ("django/logrotate.j2", include_str!("../../recipes/django/logrotate.j2")),
    ("django/site.nginx.j2", include_str!("../../recipes/django/site.nginx.j2")),
    ("django/target.j2", include_str!("../../recipes/django/target.j2")),
    ("django/tls.nginx.j2", include_str!("../../recipes/django/tls.nginx.j2")),
    ("static.toml", include_str!("../../recipes/static.toml")),
    ("static/site.nginx.j2", include_str!("../../recipes/static/site.nginx.j2")),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn collect(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_binary() {
        let mut found = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes"), "", &mut found);
        found.sort();
        let listed: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(found, listed, "the files of recipes/, sorted, and the list in this file");
    }

    #[test]
    fn every_recipe_in_the_binary_can_be_read() {
        for recipe in crate::config::recipe_files::embedded() {
            if let Err(problems) = crate::config::recipe::Recipe::read_embedded(recipe.name, recipe.text) {
                panic!("{}", crate::config::diagnostic::render(&problems, false));
            }
        }
    }
}
