//! The files of an engine that already holds the inner image: made once, and shared by every host for containers.
//!
//! Loading a gigabyte of small files takes each new host half a minute. An engine never writes to the files of a layer,
//! so a new host gets them as hard links, and its own copy of the few files that say which layers there are.

use crate::failure::Result;
use crate::lab::engine::Engine;
use crate::lab::image::{Images, hash};

/// Fills a volume: an engine without a network loads the image that comes on standard input, and ends.
const FILL: &str = r"
dockerd --bridge=none --iptables=false --exec-root=/run/seed --pidfile=/run/seed.pid >/tmp/log 2>&1 & engine=$!
tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { tail -n 5 /tmp/log; exit 1; }
    sleep 0.2
done
docker load --quiet
kill $engine; wait $engine || true
touch /var/lib/docker/seed-is-complete
";

/// Links a filled volume into an empty one. Both are below one mount, without which there are no links between them.
const LINK: &str = r#"
cd "/volumes/$1/_data" && cp -al overlay2 "$2/" && cp -a image "$2/"
"#;

/// The volume of the seed for these images, which is filled now if it is not yet.
pub fn ensure(engine: &Engine, images: &Images) -> Result<String> {
    let volume = format!("ship-lab-seed-{:016x}", hash(&format!("{} {}", images.dock, images.inner)));
    let mount = format!("{volume}:/var/lib/docker");
    let complete = ["run", "--rm", "--volume", &mount, &images.dock, "test", "-e", "/var/lib/docker/seed-is-complete"];
    if engine.docker(complete).succeeds() {
        return Ok(volume);
    }
    println!("Loading {} into an engine, once for all hosts (half a minute).", images.inner);
    // What an interrupted run left is of no use.
    engine.docker(["volume", "rm", "--force", &volume]).read()?;
    let fill = engine
        .docker(["run", "--rm", "--interactive", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"])
        .args(["--security-opt", "seccomp=unconfined", "--tmpfs", "/run", "--network", "none"])
        .args(["--volume", &mount, &images.dock, "sh", "-euc", FILL]);
    engine.docker(["save", &images.inner]).pipe_into(&fill)?;
    Ok(volume)
}

/// Gives a container that was made and not yet started the files of the seed.
pub fn plant(engine: &Engine, images: &Images, seed: &str, container: &str) -> Result<()> {
    let root = engine.docker(["info", "--format", "{{.DockerRootDir}}"]).read()?;
    let format = "{{range .Mounts}}{{if eq .Destination \"/var/lib/docker\"}}{{.Name}}{{end}}{{end}}";
    let volume = engine.docker(["inspect", "--format", format, container]).read()?;
    let target = format!("/volumes/{}/_data", volume.trim());
    engine
        .docker(["run", "--rm", "--network", "none", "--volume", &format!("{}/volumes:/volumes", root.trim())])
        .args([&images.dock, "sh", "-euc", LINK, "sh", seed, &target])
        .read()
        .map(drop)
}
