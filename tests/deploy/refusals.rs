//! What is refused before anything happens, and how it is told.

use std::fs;

use socket2::{Domain, Socket, Type};

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};
use crate::session::sshd::Options;

/// A port that nobody listens on, and nobody else is given, as long as the socket lives.
fn closed_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// A fleet whose hosts would refuse a connection: what exits 2 never tried one.
fn out_of_reach() -> (Fleet, Socket) {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    let (socket, port) = closed_port();
    fleet.write_ssh_config(&format!("Host *\n Port {port}\n"));
    (fleet, socket)
}

#[test]
fn what_is_wrong_in_the_command_line_is_told_before_any_connection() {
    let (fleet, _socket) = out_of_reach();
    fleet.ship(&["deploy", "prodd"]).exits(2).says("prodd").says("did you mean `prod`");
    fleet.ship(&["deploy", "--host", "web9"]).exits(2).says("web9");
    fleet.ship(&["deploy", "--role", "wep"]).exits(2).says("wep");
    fleet.ship(&["deploy", "--skip", "nothing-like-it"]).exits(2).says("nothing-like-it");
    fleet.ship(&["deploy", "--batch", "many"]).exits(2).says("many");
    fleet.ship(&["deploy", "--no-such-flag"]).exits(2).says("--no-such-flag");
    fleet.ship(&["rollback", "prodd"]).exits(2);
    fleet.ship(&["run", "--host", "web9", "--", "true"]).exits(2);
    fleet.ship(&["deploy"]).exits(3).says("web1").says("web2");
}

#[test]
fn what_is_wrong_in_the_inventory_is_told_with_its_place() {
    let (fleet, _socket) = out_of_reach();
    let cases = [
        ("colour = \"red\"\n", "inventory.toml:4:1", "colour"),
        ("keep_release = 5\n", "inventory.toml:4:1", "did you mean `keep_releases`"),
        ("keep_releases = \"many\"\n", "inventory.toml:4:17", "keep_releases"),
        ("default = \"prodd\"\n", "inventory.toml:4:11", "prodd"),
        ("[environments.prod]\nhosts = [\"web7\"]\n", "inventory.toml:6:10", "web7"),
        ("[hosts.gate]\njump = \"nobody\"\n", "inventory.toml:6:8", "nobody"),
        ("keep_releases = \n", "inventory.toml:4:", "keep_releases"),
    ];
    let mut fleet = fleet;
    for (text, place, word) in cases {
        fleet = fleet.inventory(text);
        fleet.ship(&["deploy"]).exits(2).says(place).says(word);
    }
}

#[test]
fn what_is_wrong_in_the_recipe_is_told_with_its_place() {
    let (fleet, _socket) = out_of_reach();
    let cases = [
        ("[[publish]]\nswpa = {}\n", "recipes/site.toml:2:1", "did you mean `swap`"),
        ("[[publsh]]\nswap = {}\n", "recipes/site.toml:1:3", "did you mean `publish`"),
        ("[[publish]]\nswap = {}\nrun = \"true\"\n", "recipes/site.toml:3:1", "two actions"),
        ("[[prepare]]\nrun = \"echo {{ nothing }}\"\n", "recipes/site.toml:2:", "nothing"),
        ("[[prepare]]\nrun = \"true\"\ntimeout = \"soon\"\n", "recipes/site.toml:3:11", "soon"),
        ("[[prepare]]\nrun = \"echo {{ secrets.nobody }}\"\n", "recipes/site.toml:2:", "nobody"),
    ];
    let mut fleet = fleet;
    for (text, place, word) in cases {
        fleet = fleet.recipe(&[UPLOAD, SWAP].concat()).recipe(text);
        fleet.ship(&["deploy"]).exits(2).says(place).says(word);
    }
    // All at once, not one after the other.
    let both = "[[publish]]\nswpa = {}\n[[prepare]]\nrnu = \"true\"\n";
    fleet.recipe(both).ship(&["deploy"]).exits(2).says("did you mean `swap`").says("did you mean `run`");
}

#[test]
fn a_recipe_that_publishes_nothing_is_refused() {
    let fleet = Fleet::of(&["web1"]).recipe(UPLOAD);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(3).says("`swap`");
    assert!(fleet.host("web1").current().is_none());
}

#[test]
fn a_host_that_cannot_be_reached_is_named_and_the_others_are_not_changed() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let before: Vec<_> = fleet.hosts().iter().map(|host| host.everything()).collect();
    let (_socket, port) = closed_port();
    fleet.write_ssh_config(&format!("Host web2\n Port {port}\n"));
    fleet.commit("v2", &[]);
    for words in [["deploy"].as_slice(), &["rollback"], &["run", "--", "touch $HOME/never"]] {
        fleet.ship(words).exits(3).says("web2").says(&port.to_string()).says("refused");
    }
    let after: Vec<_> = fleet.hosts().iter().map(|host| host.everything()).collect();
    assert!(before == after);
    assert!(!fleet.host("web1").server.home.join("never").exists());
    // The hosts that answer are told about all the same.
    fleet.ship(&["status"]).exits(3).says("web1").says("live").says("web2");
    fleet.ship(&["deploy", "--host", "web1"]).exits(0);
    fleet.host_serves("web1", "v2");
}

#[test]
fn a_login_that_is_refused_is_named() {
    let fleet = Fleet::own(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fs::write(fleet.host("web2").server.folder().join("authorized_keys"), "").unwrap();
    fleet.ship(&["deploy"]).exits(3).says("web2").never_says("web1: ");
    assert!(!fleet.host("web1").root.exists());
}

#[test]
fn a_tool_that_a_host_lacks_is_named_and_the_others_are_not_changed() {
    // The second host's programs are what stands in its own folder.
    let poor = "cd .. && exec env -i HOME=\"$PWD/home\" PATH=\"$PWD/bin\" SSH_CONNECTION=\"$SSH_CONNECTION\" \
                /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let fleet = Fleet::with(&["web1", "web2"], |name| Options {
        noise: (name == "web2").then_some(poor),
        ..Options::default()
    });
    let bin = &fleet.host("web2").server.bin;
    for tool in [
        "awk",
        "cat",
        "cut",
        "dd",
        "df",
        "dirname",
        "env",
        "find",
        "id",
        "mkdir",
        "mktemp",
        "mv",
        "readlink",
        "rm",
        "sed",
        "sh",
        "sha256sum",
        "sync",
        "tail",
        "tar",
        "timeout",
        "uname",
        "xargs",
    ] {
        let path =
            ["/usr/bin", "/bin"].iter().map(|folder| format!("{folder}/{tool}")).find(|path| fs::exists(path).unwrap());
        std::os::unix::fs::symlink(path.unwrap(), bin.join(tool)).unwrap();
    }
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(3).says("web2").says("flock").never_says("sha256sum");
    assert!(fleet.host("web1").releases().is_empty() && fleet.host("web1").unlocked());
}

#[test]
fn a_program_that_a_step_needs_is_looked_for_before_anything_happens() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let before = fleet.host("web1").releases();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, "[[publish]]\nsudo = \"no-such-program restart\"\n"].concat());
    fleet.ship(&["deploy"]).exits(3).says("web1").says("no-such-program");
    fleet.ship(&["check"]).exits(3).says("no-such-program");
    assert_eq!(fleet.host("web1").releases(), before);
    fleet.serves("v1");
}

#[test]
fn somebody_else_who_switches_meanwhile_is_not_overruled() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let first = fleet.release();
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let by_hand = format!("ln -sfn releases/{first} ../../current");
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &by_hand), SWAP].concat());
    fleet.commit("v3", &[]);
    let ran = fleet.ship(&["deploy"]);
    assert!(!ran.succeeded(), "{ran}");
    ran.says("somebody else changed it");
    fleet.host_serves("web1", "v1");
}
