//! A place in a recipe where hosts wait until the test lets them go on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Two named pipes: those who arrive write to one and read from the other.
///
/// Both stay open for reading and writing here, so neither the test nor a host ever waits for a partner.
pub struct Gate {
    arrivals: Mutex<Receiver<()>>,
    opening: Mutex<File>,
    folder: PathBuf,
}

impl Gate {
    /// A closed gate in `folder`, which must not exist yet.
    pub fn new(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let mut arriving = pipe(&folder.join("arrived"));
        let (sender, arrivals) = channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while arriving.read_exact(&mut byte).is_ok() && byte != [b'q'] {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        let opening = Mutex::new(pipe(&folder.join("opened")));
        Self { arrivals: Mutex::new(arrivals), opening, folder }
    }

    /// Shell text that arrives and waits.
    pub fn wait(&self) -> String {
        format!("{{ {}; read -r _ <'{}'; }}", self.pass(), self.folder.join("opened").display())
    }

    /// Shell text that arrives and goes on.
    pub fn pass(&self) -> String {
        format!("printf . >'{}'", self.folder.join("arrived").display())
    }

    /// Returns once one more of them has arrived.
    #[track_caller]
    pub fn arrived(&self) {
        let arrived = self.arrivals.lock().unwrap().recv_timeout(Duration::from_secs(30));
        assert!(arrived.is_ok(), "nobody arrived at the gate {}", self.folder.display());
    }

    /// Lets one of them go on, also one that arrives later.
    pub fn open(&self) {
        self.opening.lock().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Ends the thread; who still waits at the gate reads the end of the file.
        let _ =
            OpenOptions::new().write(true).open(self.folder.join("arrived")).and_then(|mut file| file.write_all(b"q"));
    }
}

fn pipe(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}
