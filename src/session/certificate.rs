//! Whether a host's certificate is valid (OpenSSH's PROTOCOL.certkeys), apart from who signed it.

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg};

use super::known_hosts::wildcard_matches;
use crate::output::visible;

/// Whether `certificate`, signed by a trusted authority, is valid now and for the host `principal`
/// (OpenSSH's PROTOCOL.certkeys). Names no principal: not valid, as in OpenSSH 10.
pub(super) fn check(certificate: &Certificate, principal: &str) -> Result<(), String> {
    if certificate.cert_type() != CertType::Host {
        return Err("it is for users, not hosts".to_owned());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
        return Err("it is signed with SHA-1".to_owned());
    }
    let for_host = |pattern: &String| wildcard_matches(pattern.as_bytes(), principal.as_bytes());
    if !certificate.valid_principals().iter().any(for_host) {
        let names = certificate.valid_principals().join(", ");
        return Err(format!("it is for `{}`, not for {principal}", visible(names.as_bytes())));
    }
    if let Some((name, _)) = certificate.critical_options().iter().next() {
        return Err(format!("it demands `{}`, which is not known", visible(name.as_bytes())));
    }
    certificate
        .validate([&certificate.signature_key().fingerprint(HashAlg::Sha256)])
        .map_err(|_| "its signature is wrong, it has expired, or it is not valid yet".to_owned())
}
