//! Archives of images for tests: the same image in both forms that `docker save` has written.

use sha2::{Digest as _, Sha256};

use super::image::Archive;
use super::manifest::hex;

/// How an archive is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder for each layer, and links where one occurs again.
    Old,
    /// An OCI layout.
    Layout,
}

/// An image named `app`.
pub struct Sample {
    layers: Vec<Vec<u8>>,
}

/// An archive on the disk.
pub struct Saved {
    file: tempfile::NamedTempFile,
}

impl Saved {
    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    /// It, read.
    pub fn archive(&self) -> Archive {
        Archive::read(self.path()).expect("an archive")
    }
}

impl Sample {
    /// An image with these layers.
    pub fn new(layers: &[&[u8]]) -> Self {
        Self { layers: layers.iter().map(|layer| layer.to_vec()).collect() }
    }

    /// Their digests.
    pub fn layers(&self) -> Vec<String> {
        self.layers.iter().map(|layer| format!("sha256:{}", hex(&Sha256::digest(layer)))).collect()
    }

    fn config(&self) -> Vec<u8> {
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": self.layers() },
        });
        config.to_string().into_bytes()
    }

    /// The image's id.
    pub fn id(&self) -> String {
        format!("sha256:{}", hex(&Sha256::digest(self.config())))
    }

    /// Writes it.
    pub fn archive(&self, form: Form) -> Saved {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut tar = tar::Builder::new(file.as_file());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes).expect("an entry");
        };
        let config = self.id().replace("sha256:", if form == Form::Old { "" } else { "blobs/sha256/" });
        let config = if form == Form::Old { format!("{config}.json") } else { config };
        add(&config, &self.config());
        let mut names: Vec<String> = Vec::new();
        let mut links: Vec<(String, String)> = Vec::new();
        for (number, (layer, id)) in self.layers.iter().zip(self.layers()).enumerate() {
            let name = match form {
                Form::Old => format!("{number}/layer.tar"),
                Form::Layout => id.replace("sha256:", "blobs/sha256/"),
            };
            match self.layers.iter().position(|known| known == layer) {
                Some(first) if first < number && form == Form::Old => {
                    links.push((name.clone(), format!("../{first}/layer.tar")));
                }
                Some(first) if first < number => {}
                _ => add(&name, layer),
            }
            names.push(name);
        }
        let saved = serde_json::json!([{ "Config": config, "RepoTags": ["app:latest"], "Layers": names }]);
        add("manifest.json", saved.to_string().as_bytes());
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).expect("a link");
        }
        tar.finish().expect("the archive");
        drop(tar);
        Saved { file }
    }
}
