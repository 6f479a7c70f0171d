//! The files of the folder `recipes/`, compiled into the binary.

/// Path below `recipes/`, and text. A test compares the list with the folder.
pub const FILES: &[(&str, &str)] = &[
    ("compose.toml", include_str!("../../recipes/compose.toml")),
    ("django.toml", include_str!("../../recipes/django.toml")),
    ("django/deployment.json.j2", include_str!("../../recipes/django/deployment.json.j2")),
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
