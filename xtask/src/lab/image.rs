//! The images of the lab's hosts: a bare Debian server, and the same with a web stack. Built once, then reused.

use std::path::Path;

use crate::failure::{During as _, Failure, Result};
use crate::lab::engine::Engine;
use crate::lab::sources::{self, Distribution};
use crate::packages::{self, Tool};
use crate::privilege::Privilege;
use crate::process::Program;

/// What a bare server has.
const BASE_PACKAGES: &str = "systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,iproute2,procps,curl,\
                             ca-certificates,python3,python3-venv,git,rsync";

/// What makes a file system of Debian packages a server of which many can run side by side.
///
/// Each host makes host keys and a machine id of its own at its first start, and no timer takes the lock of the
/// package manager in the middle of a test.
const BASE_RECIPE: &str = r"
RUN rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id && : > /etc/machine-id
RUN mkdir -p /etc/systemd/system/ssh.service.d && printf '%s\n' '[Service]' 'ExecStartPre=' \
    'ExecStartPre=/usr/bin/ssh-keygen -A' 'ExecStartPre=/usr/sbin/sshd -t' > /etc/systemd/system/ssh.service.d/keys.conf
RUN systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
";

/// What the web stack adds. The services start with the host, not while the image is built.
const WEB_RECIPE: &str = r"
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install nginx postgresql redis-server zstd logrotate \
 && rm -rf /usr/sbin/policy-rc.d /var/cache/apt/archives/*.deb /var/lib/apt/lists/* \
 && systemctl enable nginx postgresql redis-server
";

/// Builds what is missing and returns the name of the image for the hosts.
pub fn ensure(engine: &Engine, lab: &Path) -> Result<String> {
    let machine = sources::read_machine()?;
    let root_recipe = format!("{}\n{BASE_PACKAGES}", machine.codename);
    let base_recipe = format!("{root_recipe}\n{BASE_RECIPE}");
    let root = named("ship-lab-root", &root_recipe);
    let base = named("ship-lab-base", &base_recipe);
    let web = named("ship-lab-web", &format!("{base_recipe}\n{WEB_RECIPE}"));
    if exists(engine, &web) {
        return Ok(web);
    }
    if !exists(engine, &base) {
        if !exists(engine, &root) {
            bootstrap(engine, lab, &machine, &root)?;
        }
        println!("Building the image {base}.");
        build(engine, &base, &root, BASE_RECIPE, &machine)?;
    }
    println!("Building the image {web}: nginx, PostgreSQL and Redis (about a minute).");
    build(engine, &web, &base, WEB_RECIPE, &machine)?;
    Ok(web)
}

fn exists(engine: &Engine, image: &str) -> bool {
    engine.docker(["image", "inspect", image]).succeeds()
}

/// Makes a file system out of packages and imports it.
fn bootstrap(engine: &Engine, lab: &Path, machine: &Distribution, image: &str) -> Result<()> {
    packages::ensure(&[Tool { program: "debootstrap", package: "debootstrap" }])?;
    let Some(prefix) = Privilege::detect().prefix() else {
        return Err(Failure::new(
            "The base image is made with debootstrap, which needs root or sudo without a password, once.",
        ));
    };
    let debootstrap = packages::find("debootstrap").ok_or_else(|| Failure::new("There is no debootstrap."))?;
    let root = lab.join("root");
    let log = lab.join("debootstrap.log");
    remove(&root, &prefix)?;
    println!("Making the base system with debootstrap (about a minute; its log: {}).", log.display());
    let mut program = Program::new(debootstrap.display().to_string())
        .args(["--variant=minbase", &format!("--include={BASE_PACKAGES}")])
        .arg(format!("--components={}", machine.components.join(",")));
    if let Some(keyring) = &machine.keyring {
        program = program.arg(format!("--keyring={keyring}"));
    }
    let program = program.arg(&machine.codename).path(&root).arg(&machine.archive).behind(&prefix);
    let said = program.read();
    std::fs::write(&log, said.as_deref().unwrap_or_default()).during(format_args!("write {}", log.display()))?;
    said?;
    // An archive behind a proxy with a certificate of its own is reached with the machine's certificates only.
    let certificates = Path::new(super::provision::CERTIFICATES);
    if certificates.is_file() {
        let copy = Program::new("cp").path(certificates).path(&root.join("etc/ssl/certs"));
        copy.behind(&prefix).read()?;
    }
    println!("Importing it as the image {image}.");
    let pack = Program::new("tar").arg("-C").path(&root).args(["-c", "."]).behind(&prefix);
    pack.pipe_into(&engine.docker(["import", "-", image]))?;
    remove(&root, &prefix)
}

fn remove(folder: &Path, prefix: &[String]) -> Result<()> {
    Program::new("rm").args(["-rf", "--one-file-system"]).path(folder).behind(prefix).read().map(drop)
}

fn build(engine: &Engine, image: &str, from: &str, recipe: &str, machine: &Distribution) -> Result<()> {
    let sources: Vec<&str> = machine.sources_list.lines().collect();
    let sources = sources.join("' '");
    let dockerfile = format!("FROM {from}\nRUN printf '%s\\n' '{sources}' > /etc/apt/sources.list\n{recipe}");
    engine.docker(["build", "--quiet", "--force-rm", "--tag", image, "-"]).input(dockerfile).read().map(drop)
}

/// The image's name ends with a hash of its recipe, so a changed recipe is a new image.
fn named(name: &str, recipe: &str) -> String {
    format!("{name}:{:016x}", hash(recipe))
}

/// FNV-1a: the same in every build of this program, which the standard library's hasher does not promise.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{hash, named};

    #[test]
    fn the_name_of_an_image_follows_its_recipe() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(named("x", "RUN true"), named("x", "RUN false"));
    }
}
