//! `cargo xtask bench`: the same job with ship and with the tools that its users would take instead, in turn.

mod delay;
mod hosts;
mod measure;
mod memory;
mod options;
mod row;
mod table;
mod tool;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::bench::hosts::Hosts;
use crate::bench::measure::{Sample, measure};
use crate::bench::options::Options;
use crate::bench::row::{Job, ROWS, Row};
use crate::bench::tool::{Setting, Tool};
use crate::bench::tree::{Tree, VERSION};
use crate::cargo::cargo;
use crate::failure::{During as _, Failure, Result};
use crate::packages::{self, Tool as Package};
use crate::process::Program;
use crate::workspace;

/// What came out of one row.
#[derive(Debug)]
pub struct Outcome {
    /// The row.
    pub row: Row,
    /// What each tool's runs took.
    pub samples: BTreeMap<Tool, Vec<Sample>>,
    /// The tools that failed, or could not take part, and why.
    pub failures: Vec<(Tool, String)>,
}

/// Runs what the options ask for, prints the table, and writes it into the README.
pub fn run(words: &[&str]) -> Result<()> {
    let options = Options::read(words)?;
    let readme = workspace::root()?.join("README.md");
    // Not after twenty minutes.
    table::check_place(&readme)?;
    let started = Instant::now();
    if options.ship.is_none() {
        cargo(["build", "--release", "--package", "ship", "--bin", "ship"]).show()?;
    }
    packages::ensure(&[Package { program: "ssh", package: "openssh-client" }])?;
    let hosts = Hosts::up()?;
    println!("The hosts are up after {:.0} s.", started.elapsed().as_secs_f64());
    let bench = Bench::prepare(&hosts, &options);
    let outcomes = bench.and_then(|bench| bench.rows(&options));
    if options.keep {
        println!("The hosts stay up, as asked for. To remove them: cargo xtask bench down");
    } else {
        Hosts::remove()?;
    }
    let outcomes = outcomes?;
    let table = table::render(&outcomes);
    println!("\n{table}\nThis took {:.0} s.", started.elapsed().as_secs_f64());
    if options.is_complete() {
        table::write_into(&readme, &table)?;
    } else {
        println!("The README stays as it is: not all rows were run with all tools and the ship of this checkout.");
    }
    Ok(())
}

/// Removes the hosts that `--keep`, or a run that was cut, left up.
pub fn down() -> Result<()> {
    Hosts::remove()
}

/// What all rows share.
struct Bench<'a> {
    hosts: &'a Hosts,
    workspace: PathBuf,
    work: PathBuf,
    ship: PathBuf,
    /// Why a tool cannot take part.
    missing: BTreeMap<Tool, String>,
}

impl<'a> Bench<'a> {
    /// Makes the trees and ship's inventory, and installs the tools that take part.
    fn prepare(hosts: &'a Hosts, options: &Options) -> Result<Self> {
        let workspace = workspace::root()?;
        let work = workspace.join("target/bench");
        for folder in ["trees", "log", "ship/recipes"] {
            fs::create_dir_all(work.join(folder)).during(format_args!("make {}", work.join(folder).display()))?;
        }
        let ship = options.ship.clone().unwrap_or_else(|| workspace.join("target/release/ship"));
        let mut bench = Self { hosts, workspace, work, ship, missing: BTreeMap::new() };
        let recipe = fs::read_to_string(bench.workspace.join("xtask/bench/ship/bench.toml"));
        let mut recipe = recipe.during("read the recipe")?;
        if options.copies {
            recipe = recipe.replace("read_only = true", "read_only = false");
        }
        fs::write(bench.work.join("ship/recipes/bench.toml"), recipe).during("write the recipe")?;
        fs::write(bench.work.join("ship/inventory.toml"), inventory()).during("write the inventory")?;
        let rows: Vec<&Row> = options.rows().collect();
        let takes_part = |tool: &Tool| rows.iter().any(|row| options.tools(row).contains(tool));
        for tool in Tool::ALL.into_iter().filter(takes_part) {
            if let Err(failure) = tool.ensure(&bench.workspace, &bench.work) {
                println!("{tool} cannot take part. {failure}");
                bench.missing.insert(tool, failure.to_string());
            }
        }
        for tree in [Tree::Site, Tree::Many, Tree::Large] {
            if rows.iter().any(|row| row.tree() == Some(tree)) {
                tree.ensure(&bench.work.join("trees"))?;
            }
        }
        Ok(bench)
    }

    fn rows(&self, options: &Options) -> Result<Vec<Outcome>> {
        options.rows().map(|row| self.row(row, options)).collect()
    }

    /// Runs one row: every tool once in each round. The tools beyond ship and what it is held against take far longer,
    /// so they leave out the later rounds.
    fn row(&self, row: &Row, options: &Options) -> Result<Outcome> {
        println!("\n== {} ==", row.title);
        let started = Instant::now();
        let mut outcome = Outcome { row: *row, samples: BTreeMap::new(), failures: Vec::new() };
        let tools = options.tools(row);
        let mut able = Vec::new();
        for tool in tools {
            let ready = match self.missing.get(&tool) {
                Some(why) => Err(Failure::new(why.clone())),
                None => self.begin(tool, row),
            };
            match ready {
                Ok(()) => able.push(tool),
                Err(failure) => outcome.fail(tool, &failure),
            }
        }
        let (rounds, other_rounds) = options.rounds(row);
        for round in 0..rounds {
            if let (Job::Changed(_), Some(tree)) = (row.job, row.tree()) {
                self.change(tree)?;
            }
            for tool in able.clone() {
                if row.others.contains(&tool) && round >= other_rounds {
                    continue;
                }
                match self.once(tool, row, round) {
                    Ok(sample) => {
                        println!(
                            "{:12} {:7.2} s {:5.0} MiB of memory {:10.3} MB on the wire",
                            tool.to_string(),
                            sample.seconds,
                            sample.memory as f64 / 1024.0 / 1024.0,
                            sample.bytes as f64 / 1e6
                        );
                        outcome.samples.entry(tool).or_default().push(sample);
                    }
                    Err(failure) => {
                        outcome.fail(tool, &failure);
                        able.retain(|other| *other != tool);
                    }
                }
            }
        }
        for tool in Tool::ALL {
            // The next row has other trees; a gigabyte in three releases of each tool would fill a disk.
            self.hosts.reset(tool.name(), row.hosts)?;
        }
        println!("This row took {:.0} s.", started.elapsed().as_secs_f64());
        Ok(outcome)
    }

    /// Brings a tool's place on the hosts into the state in which the row begins.
    fn begin(&self, tool: Tool, row: &Row) -> Result<()> {
        self.hosts.reset(tool.name(), row.hosts)?;
        match row.job {
            Job::Changed(_) | Job::Rollback if tool.deploys() => self.deploy_untimed(tool, row),
            _ => Ok(()),
        }
    }

    /// One timed run, with what must come before it, and a look at whether it did what it should.
    fn once(&self, tool: Tool, row: &Row, round: usize) -> Result<Sample> {
        match row.job {
            Job::First(_) => {
                self.hosts.reset(tool.name(), row.hosts)?;
                self.forget()?;
            }
            Job::Rollback if tool.deploys() => {
                self.change(Tree::Site)?;
                self.deploy_untimed(tool, row)?;
            }
            _ => {}
        }
        let sockets = Sockets::make()?;
        let setting = self.setting(row, row.distant, &sockets.folder);
        let log = self.work.join("log").join(format!("{}-{}-{round}.log", row.name, tool.name()));
        let sample = measure(tool.command(row.job, &setting), self.hosts, row.hosts, &log, &mark(row, tool, round))?;
        self.verify(tool, row)?;
        Ok(sample)
    }

    fn deploy_untimed(&self, tool: Tool, row: &Row) -> Result<()> {
        let sockets = Sockets::make()?;
        let setting = self.setting(row, false, &sockets.folder);
        let log = self.work.join("log").join(format!("{}-{}-before.log", row.name, tool.name()));
        let job = Job::First(row.tree().unwrap_or(Tree::Site));
        measure(tool.command(job, &setting), self.hosts, row.hosts, &log, &mark(row, tool, usize::MAX)).map(drop)
    }

    /// A tool that says it is done must have done it: what is live is looked at on every host.
    fn verify(&self, tool: Tool, row: &Row) -> Result<()> {
        if !tool.deploys() || row.job == Job::Run {
            return Ok(());
        }
        let tree = row.tree().unwrap_or(Tree::Site).folder(&self.work.join("trees"));
        let here = fs::read_to_string(tree.join(VERSION)).during("read the version of the tree")?;
        let place = format!("/srv/{}", tool.name());
        let script = "cd \"$1/current\" && test -L media && test -L .env && test -s built.txt && cat public/version.txt \
                      && test ! -e \"$1/.lock\"";
        for live in self.hosts.inside(row.hosts, &["sh", "-euc", script, "sh", &place])? {
            if (live == here) == (row.job == Job::Rollback) {
                return Err(Failure::new(format!("What is live is version {}.", live.trim())));
            }
        }
        Ok(())
    }

    /// Gives a tree a version that it never had.
    fn change(&self, tree: Tree) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let round = u64::try_from(now.as_millis()).unwrap_or_default();
        tree.change(&self.work.join("trees"), round).map(drop)
    }

    /// What ship remembers of earlier deploys here goes, as on a machine that never deployed.
    fn forget(&self) -> Result<()> {
        let memory = self.work.join("ship/.ship");
        if memory.exists() {
            fs::remove_dir_all(&memory).during(format_args!("remove {}", memory.display()))?;
        }
        Ok(())
    }

    fn setting(&self, row: &Row, distant: bool, sockets: &Path) -> Setting {
        Setting {
            workspace: self.workspace.clone(),
            work: self.work.clone(),
            ship: self.ship.clone(),
            hosts: Hosts::names(row.hosts),
            ssh_config: self.hosts.ssh_config(distant),
            tree: row.tree().unwrap_or(Tree::Site).folder(&self.work.join("trees")),
            sockets: sockets.to_path_buf(),
        }
    }
}

impl Outcome {
    fn fail(&mut self, tool: Tool, failure: &Failure) {
        println!("{tool} FAILED. {failure}");
        self.failures.push((tool, failure.to_string()));
    }
}

/// A folder for the sockets of shared connections. Afterwards those connections are closed, for what one run left open
/// would make the next one of the same tool faster.
struct Sockets {
    folder: PathBuf,
}

impl Sockets {
    fn make() -> Result<Self> {
        // A socket's path may have a hundred bytes, and a checkout's alone may have more.
        let folder = std::env::temp_dir().join(format!("ship-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).during(format_args!("make {}", folder.display()))?;
        Ok(Self { folder })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // One that has ended by itself needs no asking.
            Program::new("ssh").args(["-O", "exit", "-S"]).path(&socket.path()).arg("host").succeeds();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn mark(row: &Row, tool: Tool, round: usize) -> String {
    format!("{}-{}-{}-{round}", std::process::id(), row.name, tool.name())
}

/// ship's inventory: fifty hosts, and an environment for each number of them that a row asks for.
fn inventory() -> String {
    let mut text = String::from(
        "recipe = \"bench\"\napp = \"bench\"\ndeploy_to = \"/srv/ship\"\nkeep_releases = 3\n\n[vars]\n\
         url = \"http://127.0.0.1/ship/version.txt\"\n\n[hosts]\n",
    );
    let names = Hosts::names(Hosts::COUNT);
    text.extend(names.iter().map(|name| format!("{name} = {{}}\n")));
    let mut sizes: Vec<usize> = ROWS.iter().map(|row| row.hosts).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let hosts: Vec<String> = names.iter().take(size).map(|name| format!("\"{name}\"")).collect();
        text.push_str(&format!("\n[environments.hosts{size}]\nhosts = [{}]\n", hosts.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::inventory;

    #[test]
    fn the_inventory_has_an_environment_of_each_size() {
        let text = inventory();
        assert!(text.contains("[environments.hosts1]\nhosts = [\"h01\"]\n"), "{text}");
        assert!(text.contains("[environments.hosts10]") && text.contains("[environments.hosts50]"), "{text}");
    }
}
