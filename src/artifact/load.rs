//! The stream that `docker load` reads: images, with only the layers that a host lacks.
//!
//! An engine that keeps layers unpacked knows a layer by the digests of all layers up to it, and looks there before it
//! reads the archive, so what it has may be left out. The stream is an OCI layout as well, for engines with a content
//! store; those look into the archive alone and are sent everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::coding::Coding;
use super::image::{Archive, Image};
use super::manifest::hex;
use super::stream::{self, Body, CHANGED, END, Header, Output, Stop, Tally, failed, record};

/// What one host is sent.
#[derive(Clone, Debug)]
pub struct Load {
    archive: Arc<Archive>,
    images: Vec<Image>,
    layers: BTreeSet<String>,
}

impl Load {
    /// `images` of `archive` for a host that has images with the layers `present`, each from the lowest up. `None` sends
    /// every layer.
    pub fn new(archive: &Arc<Archive>, images: Vec<Image>, present: Option<&[&[String]]>) -> Self {
        let mut layers = BTreeSet::new();
        for image in &images {
            let same =
                |known: &&[String]| image.layers.iter().zip(*known).take_while(|(ours, its)| ours == its).count();
            let there = present.unwrap_or_default().iter().map(same).max().unwrap_or(0);
            layers.extend(image.layers.iter().skip(there).cloned());
        }
        Self { archive: Arc::clone(archive), images, layers }
    }

    /// How many layers are sent, and how many the images have in all.
    pub fn counts(&self) -> (usize, usize) {
        let all: BTreeSet<&String> = self.images.iter().flat_map(|image| &image.layers).collect();
        (self.layers.len(), all.len())
    }

    /// The exact length of the stream.
    pub fn total(&self) -> u64 {
        let texts = self.texts();
        let texts = texts.iter().map(|(name, text)| record(name.len(), 0, text.len() as u64));
        let layers = self.layers.iter().filter_map(|id| self.archive.layers.get(id));
        let layers = layers.map(|layer| record(blob(&layer.digest).len(), 0, layer.size));
        texts.chain(layers).sum::<u64>() + END
    }

    /// Starts a thread that makes the stream.
    pub fn start(self) -> Body {
        // Layers are compressed already, or the engine wants them as they are.
        stream::start(Coding::Plain, &Tally::default(), move |output| self.write(output))
    }

    fn write(&self, output: &mut Output) -> Result<(), Stop> {
        for (name, text) in self.texts() {
            output.memory(name.as_bytes(), 0o644, 0, &text)?;
        }
        for id in &self.layers {
            let Some(layer) = self.archive.layers.get(id) else { continue };
            let shown = self.archive.shown();
            let file = layer.open(&self.archive.path).map_err(|error| failed(shown, error))?;
            let header = Header::new(tar::EntryType::Regular, 0o644, 0);
            output.header(blob(&layer.digest).as_bytes(), &Header { size: layer.size, ..header })?;
            let sent = output.file(file, layer.size).map_err(|stop| stop.at(shown))?;
            if hex(&sent) != layer.digest {
                return Err(failed(shown, CHANGED));
            }
        }
        output.finish()
    }

    /// Everything but the layers: names and bytes. The images come without a name: that is given when they are verified.
    fn texts(&self) -> Vec<(String, Vec<u8>)> {
        let mut texts = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let (mut index, mut saved) = (Vec::new(), Vec::new());
        for image in &self.images {
            let (config, manifest) = (bare(&image.id), bare(&image.manifest_id));
            index.push(serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": image.manifest_id,
                "size": image.manifest.len(),
            }));
            let layers = image.layers.iter().filter_map(|id| self.archive.layers.get(id));
            saved.push(serde_json::json!({
                "Config": blob(config),
                "RepoTags": null,
                "Layers": layers.map(|layer| blob(&layer.digest)).collect::<Vec<_>>(),
            }));
            texts.push((blob(config), image.config.clone()));
            texts.push((blob(manifest), image.manifest.clone()));
        }
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": index,
        });
        texts.push(("index.json".to_owned(), index.to_string().into_bytes()));
        texts.push(("manifest.json".to_owned(), serde_json::Value::from(saved).to_string().into_bytes()));
        texts
    }
}

impl PartialEq for Load {
    /// Streams of the same archive are the same where the same of it is sent.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.archive, &other.archive) && self.images == other.images && self.layers == other.layers
    }
}

fn bare(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// Where an archive has the blob of this digest.
fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;
    use crate::artifact::image_samples::{Form, Sample};

    fn received(load: Load) -> Vec<u8> {
        let mut body = load.start();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.blocking_recv() {
            bytes.extend_from_slice(&chunk.expect("a chunk"));
        }
        bytes
    }

    fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut text = Vec::new();
            entry.read_to_end(&mut text).expect("contents");
            (entry.path().expect("a name").display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn a_host_without_images_is_sent_everything_once() {
        let sample = Sample::new(&[b"one", b"two", b"one"]);
        let file = sample.archive(Form::Old);
        let archive = Arc::new(file.archive());
        let load = Load::new(&archive, vec![archive.image("app").expect("it").clone()], Some(&[]));
        assert_eq!(load.counts(), (2, 2));
        let total = load.total();
        let bytes = received(load);
        assert_eq!(bytes.len() as u64, total);
        let files = files(&bytes);
        assert_eq!(files[&blob(bare(&sample.layers()[1]))], b"two");
        let saved: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
        assert_eq!(saved[0]["RepoTags"], serde_json::Value::Null);
        assert_eq!(saved[0]["Layers"][2], blob(bare(&sample.layers()[0])).as_str());
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
        let manifest = index["manifests"][0]["digest"].as_str().expect("a digest");
        assert!(files.contains_key(&blob(bare(manifest))));
    }

    #[test]
    fn layers_are_left_out_up_to_the_first_that_differs() {
        let sample = Sample::new(&[b"one", b"two", b"three"]);
        let file = sample.archive(Form::Layout);
        let archive = Arc::new(file.archive());
        let image = archive.image("app").expect("it").clone();
        let layers = sample.layers();
        let other = vec![layers[1].clone(), layers[0].clone()];
        let count = |present: Option<&[&[String]]>| Load::new(&archive, vec![image.clone()], present).counts().0;
        assert_eq!(count(Some(&[&layers[..2], &layers[..1]])), 1);
        assert_eq!(count(Some(&[&layers])), 0);
        assert_eq!(count(Some(&[&other])), 3, "the same layers in another order are others");
        assert_eq!(count(None), 3);
        let load = Load::new(&archive, vec![image.clone()], Some(&[&layers[..2]]));
        let files = files(&received(load));
        assert!(!files.contains_key(&blob(bare(&layers[0]))) && files.contains_key(&blob(bare(&layers[2]))));
    }

    #[test]
    fn a_layer_that_is_not_what_its_name_says_ends_the_stream_in_an_error() {
        let sample = Sample::new(&[b"one"]);
        let file = sample.archive(Form::Old);
        let archive = Arc::new(file.archive());
        let load = Load::new(&archive, vec![archive.image("app").expect("it").clone()], Some(&[]));
        let mut bytes = std::fs::read(file.path()).expect("the archive");
        let at = bytes.windows(3).position(|three| three == b"one").expect("the layer");
        bytes[at] = b'O';
        std::fs::write(file.path(), bytes).expect("the archive");
        let mut body = load.start();
        let mut last = None;
        while let Some(chunk) = body.blocking_recv() {
            last = Some(chunk);
        }
        assert!(last.expect("a chunk").is_err());
    }
}
