//! Samples for the benches: a project's tree, and what a chatty command prints.

use std::io;
use std::path::Path;

use ship::artifact::{Part, ScanOptions, Tree, scan};
use tempfile::TempDir;

/// A folder of 1,400 files of 4 to 40 KB.
///
/// # Errors
///
/// When the folder cannot be made or written.
pub fn project() -> io::Result<TempDir> {
    let folder = TempDir::new()?;
    for index in 0..1400_usize {
        let inner = folder.path().join(format!("app/part{:02}", index % 40));
        std::fs::create_dir_all(&inner)?;
        std::fs::write(inner.join(format!("file{index:04}.js")), words(4_000 + index * 26))?;
    }
    Ok(folder)
}

/// Reads a folder as a release of its own. With an index, what has not changed is not hashed again.
///
/// # Errors
///
/// With everything that is wrong with the folder.
pub fn read(folder: &Path, index: Option<&Path>) -> Result<Tree, String> {
    let part = Part { from: folder.to_path_buf(), to: String::new(), exclude: Vec::new() };
    let options = ScanOptions { index: index.map(Path::to_path_buf), ..ScanOptions::default() };
    scan(&[part], &options).map_err(|problems| format!("{problems:?}"))
}

/// So many bytes of lines with colours and the odd byte that is no text.
pub fn chatter(bytes: usize) -> Vec<u8> {
    let line = b"\x1b[32mINFO\x1b[0m  app.module: handled request 4711 in 12 ms \xff token=hunter2hunter2\r\n";
    line.iter().copied().cycle().take(bytes).collect()
}

fn words(bytes: usize) -> Vec<u8> {
    b"export function render() { return this.state.items; }\n".iter().copied().cycle().take(bytes).collect()
}
