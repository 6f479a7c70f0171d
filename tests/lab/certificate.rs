//! A Django server gets a certificate from a real ACME server, and nginx speaks TLS with it from then on.

use crate::hosts::{Host, Lab, Project};

const INVENTORY: &str = r#"
recipe    = "django"
app       = "cert-site"
deploy_to = "/var/www/cert-site"

[vars]
frontend    = ""
server_name = "cert.lab"
domain      = "cert.lab"
acme_server = "https://acme.lab:14001/acme/local/directory"
acme_ca     = "/srv/cert-acme.crt"

[hosts.web3]
user  = "deployer"
roles = ["web"]

[environments.prod]
hosts = ["web3"]
"#;

/// Caddy as a certificate authority that speaks ACME.
const ACME: &str = "{
  skip_install_trust
  admin off
  auto_https disable_redirects
  storage file_system /srv/cert-acme/data
}
https://acme.lab:14001 {
  tls internal
  acme_server
}
";

const CLEAN: &str = "systemctl disable --now --quiet cert-site_gunicorn.socket cert-site_gunicorn 2>/dev/null
    rm -rf /var/www/cert-site /var/log/cert-site /etc/systemd/system/cert-site* /etc/sudoers.d/ship-cert-site /etc/logrotate.d/cert-site
    rm -rf /etc/nginx/sites-*/cert-site /etc/nginx/cert-site* /srv/cert-acme.crt
    rm -rf /etc/letsencrypt/*/cert.lab /etc/letsencrypt/renewal/cert.lab.conf /etc/letsencrypt/accounts/acme.lab*
    sed '/cert.lab/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts
    systemctl daemon-reload; systemctl reload nginx || systemctl restart nginx";

const CLEAN_AUTHORITY: &str = "systemctl stop cert-acme 2>/dev/null; rm -rf /srv/cert-acme
    sed '/cert.lab/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts";

/// The authority on one host, and each of the two knows the other by name.
fn authority(lab: &Lab, host: &Host, site: &Host) {
    let address = |host: &Host| lab.root(host, "hostname -i").split_whitespace().next().expect("an address").to_owned();
    let known = |host: &Host, name: &str, address: &str| {
        lab.root(host, &format!("echo '{address} {name} # cert.lab' >>/etc/hosts"));
    };
    known(host, "cert.lab", &address(site));
    known(host, "acme.lab", "127.0.0.1");
    known(site, "acme.lab", &address(host));
    known(site, "cert.lab", "127.0.0.1");
    lab.root_fed(host, "mkdir -p /srv/cert-acme && cat >/srv/cert-acme/Caddyfile", ACME);
    lab.root(
        host,
        "systemd-run --quiet --unit=cert-acme --setenv=HOME=/srv/cert-acme caddy run --config /srv/cert-acme/Caddyfile --adapter caddyfile
         until [ -s /srv/cert-acme/data/pki/authorities/local/root.crt ]; do sleep 0.1; done",
    );
    let root = lab.root(host, "cat /srv/cert-acme/data/pki/authorities/local/root.crt");
    lab.root_fed(site, "cat >/srv/cert-acme.crt", &root);
    lab.root(
        site,
        "curl --silent --fail --retry 50 --retry-delay 1 --retry-connrefused --cacert /srv/cert-acme.crt https://acme.lab:14001/acme/local/directory >/dev/null",
    );
}

#[test]
fn nginx_speaks_tls_with_a_certificate_that_is_renewed() {
    let lab = Lab::new();
    let (site, other) = (lab.host("web3"), lab.host("dock1"));
    lab.root(&site, CLEAN);
    lab.root(&other, CLEAN_AUTHORITY);
    lab.admin(&site);
    authority(&lab, &other, &site);
    let project = Project::new(&lab);
    project.write("inventory.toml", INVENTORY);
    project.commit("A site");

    let setup = ["setup", "prod", "--user", "admin", "--skip", "sudoers", "--yes"];
    project.ship(&setup).exits(0).says("certbot certonly");
    project.ship(&setup).exits(0).says("Nothing to do");

    // TLS for all, and plain HTTP for the health checks of the host itself. Nothing is deployed: no file is there.
    let code = |from: &Host, words: &str| {
        let curl = "curl --silent --output /dev/null --write-out '%{http_code} %{redirect_url}'";
        lab.root(from, &format!("{curl} {words} || true")).trim().to_owned()
    };
    assert_eq!(code(&site, "--cacert /srv/cert-acme.crt https://cert.lab/static/x"), "404");
    assert_eq!(code(&other, "http://cert.lab/page?a=b"), "301 https://cert.lab/page?a=b");
    assert_eq!(code(&site, "http://cert.lab/static/x"), "404", "no redirect for the host itself");

    // What Debian's timer runs: the proof goes through nginx, which takes the new certificate up.
    let serial = "openssl s_client -connect 127.0.0.1:443 -servername cert.lab </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let before = lab.root(&site, serial);
    assert_eq!(lab.root(&site, "systemctl is-enabled certbot.timer").trim(), "enabled");
    lab.root(
        &site,
        "REQUESTS_CA_BUNDLE=/srv/cert-acme.crt certbot renew --quiet --no-random-sleep-on-renew --cert-name cert.lab",
    );
    let renewed = lab.root(&site, "openssl x509 -noout -serial -in /etc/letsencrypt/live/cert.lab/cert.pem");
    assert_ne!(renewed, before, "a new certificate");
    let taken =
        format!("for i in $(seq 50); do [ \"$({serial})\" = {} ] && exit 0; sleep 0.1; done; exit 1", renewed.trim());
    lab.root(&site, &taken);
    lab.root(&site, CLEAN);
    lab.root(&other, CLEAN_AUTHORITY);
}
