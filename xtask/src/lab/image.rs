//! The images of the lab: Debian servers with a web stack or a Docker engine, and what that engine's own images start
//! from. Built once, then reused.

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

/// What an image for containers starts with.
const BARE_PACKAGES: &str = "ca-certificates";

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

/// What a Docker engine adds. Compose comes from the next release of Debian, whose own packages are taken from there
/// only where this one has none. What listens on ports 80 and 443 does not start by itself: the containers want them.
const DOCK_RECIPE: &str = r"
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 \
 && sed -n 's/^deb \([^ ]*\) [a-z]* .*/deb \1 trixie main/p;q' /etc/apt/sources.list > /etc/apt/sources.list.d/trixie.list \
 && printf '%s\n' 'Package: *' 'Pin: release n=trixie' 'Pin-Priority: 100' > /etc/apt/preferences.d/trixie \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install docker.io nginx caddy certbot zstd logrotate docker-compose/trixie \
 && rm -rf /usr/sbin/policy-rc.d /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /etc/apt/sources.list.d/trixie.list \
 && systemctl enable docker && systemctl disable nginx caddy certbot.timer
";

/// What an engine's own images start from: the servers, languages and databases of the systems that are deployed.
const INNER_RECIPE: &str = r"
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 \
 && apt-get -q update \
 && apt-get -q -y --no-install-recommends install curl git procps python3-venv python3-pip nginx-light caddy certbot \
    postgresql nodejs npm \
 && rm -rf /usr/sbin/policy-rc.d /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
";

/// The names of the images that the lab needs.
#[derive(Debug)]
pub struct Images {
    /// A server with nginx, PostgreSQL and Redis.
    pub web: String,
    /// A server with a Docker engine of its own.
    pub dock: String,
    /// What the images of those engines start from.
    pub inner: String,
}

/// Builds what is missing.
pub fn ensure(engine: &Engine, lab: &Path) -> Result<Images> {
    let machine = sources::read_machine()?;
    let root_recipe = format!("{}\n{BASE_PACKAGES}", machine.codename);
    let bare_recipe = format!("{}\n{BARE_PACKAGES}", machine.codename);
    let base_recipe = format!("{root_recipe}\n{BASE_RECIPE}");
    let root = named("ship-lab-root", &root_recipe);
    let bare = named("ship-lab-bare", &bare_recipe);
    let base = named("ship-lab-base", &base_recipe);
    let images = Images {
        web: named("ship-lab-web", &format!("{base_recipe}\n{WEB_RECIPE}")),
        dock: named("ship-lab-dock", &format!("{base_recipe}\n{DOCK_RECIPE}")),
        inner: named("ship-lab-inner", &format!("{bare_recipe}\n{INNER_RECIPE}")),
    };
    let builder = Builder { engine, lab, machine: &machine };
    let based_on_root = || {
        builder.unless_there(&base, || {
            builder.unless_there(&root, || builder.bootstrap(&root, BASE_PACKAGES))?;
            builder.build(&base, &root, BASE_RECIPE, "systemd, sshd and sudo")
        })
    };
    builder.unless_there(&images.web, || {
        based_on_root()?;
        builder.build(&images.web, &base, WEB_RECIPE, "nginx, PostgreSQL and Redis (about a minute)")
    })?;
    builder.unless_there(&images.dock, || {
        based_on_root()?;
        builder.build(&images.dock, &base, DOCK_RECIPE, "Docker, Compose, Caddy and certbot (about a minute)")
    })?;
    builder.unless_there(&images.inner, || {
        builder.unless_there(&bare, || builder.bootstrap(&bare, BARE_PACKAGES))?;
        builder.build(&images.inner, &bare, INNER_RECIPE, "what is inside of containers (about two minutes)")
    })?;
    Ok(images)
}

/// Makes images on one engine from the packages of one distribution.
struct Builder<'a> {
    engine: &'a Engine,
    lab: &'a Path,
    machine: &'a Distribution,
}

impl Builder<'_> {
    fn unless_there(&self, image: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.engine.docker(["image", "inspect", image]).succeeds() { Ok(()) } else { make() }
    }

    /// Makes a file system out of packages and imports it.
    fn bootstrap(&self, image: &str, packages: &str) -> Result<()> {
        packages::ensure(&[Tool { program: "debootstrap", package: "debootstrap" }])?;
        let Some(prefix) = Privilege::detect().prefix() else {
            return Err(Failure::new(
                "The base image is made with debootstrap, which needs root or sudo without a password, once.",
            ));
        };
        let debootstrap = packages::find("debootstrap").ok_or_else(|| Failure::new("There is no debootstrap."))?;
        let root = self.lab.join("root");
        let log = self.lab.join("debootstrap.log");
        remove(&root, &prefix)?;
        println!("Making the image {image} with debootstrap (about a minute; its log: {}).", log.display());
        let mut program = Program::new(debootstrap.display().to_string())
            .args(["--variant=minbase", &format!("--include={packages}")])
            .arg(format!("--components={}", self.machine.components.join(",")));
        if let Some(keyring) = &self.machine.keyring {
            program = program.arg(format!("--keyring={keyring}"));
        }
        let program = program.arg(&self.machine.codename).path(&root).arg(&self.machine.archive).behind(&prefix);
        let said = program.read();
        std::fs::write(&log, said.as_deref().unwrap_or_default()).during(format_args!("write {}", log.display()))?;
        said?;
        // An archive behind a proxy with a certificate of its own is reached with the machine's certificates only.
        let certificates = Path::new(super::provision::CERTIFICATES);
        if certificates.is_file() {
            let copy = Program::new("cp").path(certificates).path(&root.join("etc/ssl/certs"));
            copy.behind(&prefix).read()?;
        }
        let pack = Program::new("tar").arg("-C").path(&root).args(["-c", "."]).behind(&prefix);
        pack.pipe_into(&self.engine.docker(["import", "-", image]))?;
        remove(&root, &prefix)
    }

    fn build(&self, image: &str, from: &str, recipe: &str, what: &str) -> Result<()> {
        println!("Building the image {image}: {what}.");
        let sources: Vec<&str> = self.machine.sources_list.lines().collect();
        let sources = sources.join("' '");
        let dockerfile = format!("FROM {from}\nRUN printf '%s\\n' '{sources}' > /etc/apt/sources.list\n{recipe}");
        self.engine.docker(["build", "--quiet", "--force-rm", "--tag", image, "-"]).input(dockerfile).read().map(drop)
    }
}

fn remove(folder: &Path, prefix: &[String]) -> Result<()> {
    Program::new("rm").args(["-rf", "--one-file-system"]).path(folder).behind(prefix).read().map(drop)
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
