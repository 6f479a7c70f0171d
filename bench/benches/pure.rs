//! `cargo bench -p ship-bench`: what every deploy runs through on this machine, without a network.

#![allow(clippy::expect_used, reason = "a bench without its sample cannot go on")]

use std::sync::Arc;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ship::artifact::{Manifest, Packing, difference};
use ship::command::{Command, quote};
use ship::output::Lines;
use ship::secret::{Masker, Secret};
use ship_bench::{chatter, project, read};

const SAMPLE: &str = "the sample can be made";

fn main() {
    divan::main();
}

/// Walks and hashes 1,400 files, 31 MB.
#[divan::bench(sample_count = 20)]
fn manifest_of_a_new_project(bencher: Bencher<'_, '_>) {
    let folder = project().expect(SAMPLE);
    bencher.bench(|| read(black_box(folder.path()), None));
}

/// The same when the index knows every file.
#[divan::bench(sample_count = 50)]
fn manifest_of_a_known_project(bencher: Bencher<'_, '_>) {
    let (folder, beside) = (project().expect(SAMPLE), tempfile::tempdir().expect(SAMPLE));
    let index = beside.path().join("index");
    read(folder.path(), Some(&index)).expect(SAMPLE);
    bencher.bench(|| read(black_box(folder.path()), Some(&index)));
}

/// Writes the list as a host keeps it, and reads it again.
#[divan::bench]
fn manifest_as_text_and_back(bencher: Bencher<'_, '_>) {
    let folder = project().expect(SAMPLE);
    let tree = read(folder.path(), None).expect(SAMPLE);
    bencher.bench(|| Manifest::parse(&black_box(tree.manifest()).to_bytes()).is_ok());
}

/// What of a project has to be sent to a host that has all of it but fourteen files.
#[divan::bench]
fn difference_of_one_in_a_hundred(bencher: Bencher<'_, '_>) {
    let folder = project().expect(SAMPLE);
    let tree = read(folder.path(), None).expect(SAMPLE);
    let old = tree.manifest().clone().without(|path| path.ends_with(b"00.js"));
    bencher.bench(|| difference(black_box(tree.manifest()), black_box(&old)).send_list(tree.manifest()));
}

/// Makes the whole stream and throws it away.
#[divan::bench(sample_count = 20)]
fn pack(bencher: Bencher<'_, '_>) {
    let folder = project().expect(SAMPLE);
    let tree = Arc::new(read(folder.path(), None).expect(SAMPLE));
    let packing = Packing {
        entries: (0..tree.manifest().entries().len()).collect(),
        tree,
        prefix: "releases/bench".to_owned(),
        extra: Vec::new(),
        parts: Vec::new(),
        chunks: None,
        time: 1_700_000_000,
    };
    bencher.counter(BytesCount::from(packing.total())).with_inputs(|| packing.clone()).bench_values(|packing| {
        let mut body = packing.start(ship::artifact::Coding::Plain, &ship::artifact::Tally::default());
        let mut bytes = 0;
        while let Some(Ok(piece)) = body.blocking_recv() {
            bytes += piece.len();
        }
        bytes
    });
}

/// Quotes a word that needs it.
#[divan::bench]
fn quote_a_word() -> usize {
    quote(black_box("it's a word; $(with) everything `in` it")).len()
}

/// Makes the shell text of a command with a folder and sudo.
#[divan::bench]
fn command_as_shell_text() -> String {
    Command::argv(["systemctl", "restart", black_box("app@blue green.service")]).sudo().to_shell()
}

/// Splits a megabyte of output into lines that are safe to show, in pieces of 32 KiB, and masks a secret in each.
#[divan::bench(sample_count = 50)]
fn output_filter(bencher: Bencher<'_, '_>) {
    let pieces: Vec<_> = chatter(1 << 20).chunks(32 * 1024).map(<[u8]>::to_vec).map(Into::into).collect();
    let secret = Secret::new("hunter2hunter2".to_owned());
    let masker = Masker::new([&secret]);
    bencher.counter(BytesCount::new(1_u32 << 20)).bench(|| {
        let mut lines = Lines::default();
        let shown = pieces.iter().flat_map(|piece| lines.push(piece)).map(|line| masker.mask(&line).len());
        shown.sum::<usize>()
    });
}
