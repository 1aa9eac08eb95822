//! An authority that the user brings: a certificate and its key, from files. All that could make
//! its certificates useless to clients is found here, before anything starts.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nono_credentials::{NotPrivate, read_private};
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::authority::Authority;
use super::leaves::RENEWED;
use crate::config::ConfigError;
use crate::route::show;
use crate::tls;

const CERTIFICATE: &str = "intercept_ca_cert";
const KEY: &str = "intercept_ca_key";

/// Reads the authority whose certificate is the first in the file `certificate`; those behind it
/// are of the authorities above it.
///
/// # Errors
/// It cannot be read, vouches for nothing, is not valid at `now` or soon will not be; or the key
/// is not its own, or others could read it.
pub(super) fn load(
    certificate: &Path,
    key: &Path,
    now: SystemTime,
) -> Result<Authority, ConfigError> {
    let wrong = |reason: String| ConfigError::new(CERTIFICATE, show(certificate), reason);
    let chain = tls::certificates(CERTIFICATE, certificate)?;
    let own = chain.first().ok_or_else(|| wrong("it holds no certificate".into()))?;
    let (_, parsed) = X509Certificate::from_der(own)
        .map_err(|error| wrong(format!("its first certificate cannot be read: {error}")))?;
    let expires = judge(&parsed, now).map_err(wrong)?;
    let pair = read_key(key)?;
    if pair.public_key_raw() != &*parsed.public_key().subject_public_key.data {
        let reason = format!("it is not the key of the certificate in {}", certificate.display());
        return Err(ConfigError::new(KEY, show(key), reason));
    }
    let issuer = Issuer::from_ca_cert_der(own, pair)
        .map_err(|error| wrong(format!("it cannot vouch for others: {error}")))?;
    Ok(Authority::preloaded(issuer, chain, expires))
}

/// Whether clients would believe what the authority vouches for, and until when.
fn judge(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<SystemTime, String> {
    let unclear = |error| format!("its extensions cannot be read: {error}");
    let constraints = certificate.basic_constraints().map_err(unclear)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err("it is no authority's: its basic constraints do not say CA:TRUE".into());
    }
    let usage = certificate.key_usage().map_err(unclear)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("it may not sign certificates: its key usage has no keyCertSign".into());
    }
    let validity = certificate.validity();
    let now = OffsetDateTime::from(now);
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    if now < from {
        return Err(format!("it is not valid before {from}"));
    }
    if now >= until {
        return Err(format!("it expired at {until}"));
    }
    if until - now <= RENEWED {
        return Err(format!("it expires at {until}, within a day; renew it"));
    }
    // What no clock of this system can say is as good as for ever.
    let left = Duration::try_from(until - now).unwrap_or(Duration::ZERO);
    Ok(SystemTime::from(now).checked_add(left).unwrap_or_else(|| now.into()))
}

fn read_key(path: &Path) -> Result<KeyPair, ConfigError> {
    let wrong = |reason: String| ConfigError::new(KEY, show(path), reason);
    let pem = read_private(path).map_err(|error| match error {
        NotPrivate::Unreadable(error) => wrong(format!("it cannot be read: {error}")),
        unfit => wrong(unfit.to_string()),
    })?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| wrong(format!("it holds no private key in PEM: {error}")))?;
    KeyPair::try_from(&key).map_err(|error| wrong(format!("its key cannot be used: {error}")))
}

/// Whether `certificate` vouches for itself, so that servers need not send it.
pub(super) fn is_root(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}
