//! An archive of container images, as `docker save` writes it: which images and layers are in it.
//!
//! Both forms are read: the one of old engines, with a folder for each layer, and the one that is an OCI layout
//! too. Layers stay on the disk; [`super::Load`] streams those that a host lacks. Deliberately absent: asking an
//! engine anything (`facts`, `step`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::manifest::hex;

/// The most bytes that a description inside an archive may have.
const LONGEST_TEXT: u64 = 16 * 1024 * 1024;

/// Images on this machine's disk.
#[derive(Debug)]
pub struct Archive {
    pub(super) path: PathBuf,
    images: Vec<Image>,
    pub(super) layers: BTreeMap<String, Layer>,
}

/// One image of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The names that it has in the archive, each with its tag.
    pub names: Vec<String>,
    /// The digest of its configuration: its id wherever layers are kept unpacked.
    pub id: String,
    /// The digest of the manifest that is sent with it: its id in a content store.
    pub manifest_id: String,
    /// The processor that it is for, in the words of Go (`amd64`).
    pub architecture: String,
    /// The digests of its unpacked layers, the lowest first.
    pub layers: Vec<String>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// Where the bytes of a layer are in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub offset: u64,
    pub size: u64,
    /// SHA-256 of these bytes, in hexadecimal.
    pub digest: String,
}

/// Why an archive is of no use, as a sentence without its full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageProblem(String);

impl ImageProblem {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What is of interest in an image's configuration.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// What the archive has under a name.
enum Place {
    File { offset: u64, size: u64 },
    Link(Vec<u8>),
}

impl Archive {
    /// Reads which images and layers `path` has.
    pub fn read(path: &Path) -> Result<Self, ImageProblem> {
        let wrong = |what: String| ImageProblem(format!("{}: {what}", path.display()));
        let mut file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut magic = [0; 2];
        if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
            return Err(wrong("it is compressed; unpack it with gunzip first".to_owned()));
        }
        let mut reader = Reader { places: BTreeMap::new(), file };
        reader.index().map_err(|error| wrong(format!("it is no tar archive: {error}")))?;
        let (mut images, mut layers) = (Vec::new(), BTreeMap::new());
        let saved = reader.text(b"manifest.json").map_err(|ImageProblem(what)| wrong(what))?;
        let saved: Vec<Saved> =
            serde_json::from_slice(&saved).map_err(|error| wrong(format!("its manifest.json: {error}")))?;
        for saved in saved {
            let image = reader.image(saved, &mut layers).map_err(|ImageProblem(what)| wrong(what))?;
            images.push(image);
        }
        Ok(Self { path: path.to_owned(), images, layers })
    }

    /// The image of this name, which is `latest` where it has no tag.
    pub fn image(&self, name: &str) -> Option<&Image> {
        let wanted = familiar(name);
        self.images.iter().find(|image| image.names.iter().any(|known| familiar(known) == wanted))
    }
}

/// A name as engines shorten it: without the public registry, with its tag.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') { short.to_owned() } else { format!("{short}:latest") }
}

/// Finds things in an archive.
struct Reader {
    places: BTreeMap<Vec<u8>, Place>,
    file: File,
}

impl Reader {
    fn index(&mut self) -> std::io::Result<()> {
        self.file.rewind()?;
        let mut archive = tar::Archive::new(&self.file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = entry.path_bytes().into_owned();
            let place = match entry.header().entry_type() {
                tar::EntryType::Regular => Place::File { offset: entry.raw_file_position(), size: entry.size() },
                kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                    // A symbolic link starts from the folder that it is in, a hard link from the archive's root.
                    let folder = if kind == tar::EntryType::Symlink { parent(&name) } else { b"" };
                    Place::Link(resolve(folder, &target))
                }
                _ => continue,
            };
            self.places.insert(resolve(b"", &name), place);
        }
        Ok(())
    }

    /// Where the file of this name is, through one link at most: engines make no more.
    fn find(&self, name: &[u8]) -> Result<(u64, u64), ImageProblem> {
        let place = match self.places.get(name) {
            Some(Place::Link(target)) => self.places.get(target),
            other => other,
        };
        match place {
            Some(Place::File { offset, size }) => Ok((*offset, *size)),
            _ => Err(ImageProblem(format!("it has no {}", super::path::escape(name)))),
        }
    }

    fn text(&mut self, name: &[u8]) -> Result<Vec<u8>, ImageProblem> {
        let (offset, size) = self.find(name)?;
        if size > LONGEST_TEXT {
            return Err(ImageProblem(format!("its {} is too long", super::path::escape(name))));
        }
        let mut text = Vec::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| (&self.file).take(size).read_to_end(&mut text))
            .map_err(|error| ImageProblem(format!("its {}: {error}", super::path::escape(name))))?;
        Ok(text)
    }

    fn image(&mut self, saved: Saved, layers: &mut BTreeMap<String, Layer>) -> Result<Image, ImageProblem> {
        let config = self.text(saved.config.as_bytes())?;
        let parsed: Config =
            serde_json::from_slice(&config).map_err(|error| ImageProblem(format!("its {}: {error}", saved.config)))?;
        let ids = parsed.rootfs.diff_ids;
        if ids.len() != saved.layers.len() || !ids.iter().all(|id| is_digest(id)) {
            return Err(ImageProblem::new("its layers are not those of its configuration"));
        }
        let mut descriptors = Vec::new();
        for (id, path) in ids.iter().zip(&saved.layers) {
            let (layer, kind) = self.layer(id, path)?;
            descriptors.push(descriptor(&format!("layer.v1.{kind}"), &layer.digest, layer.size));
            layers.entry(id.clone()).or_insert(layer);
        }
        let digest = hex(&Sha256::digest(&config));
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &digest, config.len() as u64),
            "layers": descriptors,
        });
        let manifest = manifest.to_string().into_bytes();
        Ok(Image {
            names: saved.repo_tags.unwrap_or_default(),
            id: format!("sha256:{digest}"),
            manifest_id: format!("sha256:{}", hex(&Sha256::digest(&manifest))),
            architecture: parsed.architecture,
            layers: ids,
            config,
            manifest,
        })
    }

    /// A layer, and how its kind ends: engines pack layers or leave them as they are.
    fn layer(&mut self, id: &str, path: &str) -> Result<(Layer, &'static str), ImageProblem> {
        let (offset, size) = self.find(path.as_bytes())?;
        let wrong = |error: std::io::Error| ImageProblem(format!("its {path}: {error}"));
        let mut magic = Vec::new();
        self.file.seek(SeekFrom::Start(offset)).map_err(wrong)?;
        (&self.file).take(size.min(4)).read_to_end(&mut magic).map_err(wrong)?;
        let kind = match magic.as_slice() {
            [0x1f, 0x8b, ..] => "tar+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "tar+zstd",
            // What is not packed is what the digest of the layer is of.
            _ => return Ok((Layer { offset, size, digest: id.trim_start_matches("sha256:").to_owned() }, "tar")),
        };
        let digest = match path.strip_prefix("blobs/sha256/") {
            Some(digest) => digest.to_owned(),
            None => {
                self.file.seek(SeekFrom::Start(offset)).map_err(wrong)?;
                hash((&self.file).take(size)).map_err(wrong)?
            }
        };
        Ok((Layer { offset, size, digest }, kind))
    }
}

/// SHA-256 of everything that `reader` gives, in hexadecimal.
fn hash(mut reader: impl std::io::Read) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How a manifest names a blob.
fn descriptor(kind: &str, digest: &str, size: u64) -> serde_json::Value {
    serde_json::json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": size,
    })
}

/// Only digests become names of files.
fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn parent(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    name.get(..end).unwrap_or_default()
}

/// `path`, seen from `folder`, without `.` and `..`.
fn resolve(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in folder.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

impl Layer {
    /// Opens the archive at the layer's first byte.
    pub(super) fn open(&self, path: &Path) -> std::io::Result<File> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file)
    }
}

impl Archive {
    /// The archive's own path, for messages.
    pub(super) fn shown(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::image_samples::{Form, Sample};

    #[test]
    fn both_forms_of_an_archive_are_read_alike() {
        let sample = Sample::new(&[b"one", b"two", b"one"]);
        let [old, new] = [Form::Old, Form::Layout].map(|form| sample.archive(form));
        let [old, new] = [old.archive(), new.archive()];
        let image = old.image("app").expect("the image");
        assert_eq!(Some(image), new.image("docker.io/library/app:latest"));
        assert_eq!((image.id.as_str(), image.architecture.as_str()), (sample.id().as_str(), "amd64"));
        assert_eq!(image.layers, sample.layers());
        assert_eq!(old.layers.len(), 2, "a layer that occurs twice is there once");
        let digests = |archive: &Archive| archive.layers.values().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
        assert_eq!(digests(&old), digests(&new));
        assert!(old.image("app:1").is_none() && old.image("other").is_none());
    }

    #[test]
    fn what_is_no_archive_of_images_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tar");
        let reason = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("a file");
            let message = Archive::read(&path).expect_err("a problem").to_string();
            message.strip_prefix(&path.display().to_string()).expect("the path").to_owned()
        };
        assert_eq!(reason(&[0x1f, 0x8b, 8, 0]), ": it is compressed; unpack it with gunzip first");
        assert_eq!(reason(&[0; 1024]), ": it has no manifest.json");
        assert!(reason(&[b'x'; 1024]).starts_with(": it is no tar archive"));
    }

    #[test]
    fn names_are_compared_as_engines_shorten_them() {
        for (name, short) in [
            ("app", "app:latest"),
            ("docker.io/library/app", "app:latest"),
            ("docker.io/team/app:1", "team/app:1"),
            ("registry.example.org:5000/app", "registry.example.org:5000/app:latest"),
        ] {
            assert_eq!(familiar(name), short);
        }
    }

    #[test]
    fn a_digest_is_a_digest() {
        assert!(is_digest(&format!("sha256:{}", "0f".repeat(32))));
        for wrong in ["sha256:../../etc/passwd", "sha256:", "0f0f", &format!("sha256:{}", "0F".repeat(32))] {
            assert!(!is_digest(wrong), "{wrong}");
        }
    }
}
