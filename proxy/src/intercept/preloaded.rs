//! An authority that the user brings: a certificate and its key, from files. All that could make
//! its certificates useless to clients is found here, before anything starts.

use std::net::IpAddr;
use std::path::Path;
use std::slice;
use std::time::{Duration, SystemTime};

use nono_credentials::{NotPrivate, read_private};
use rcgen::{Issuer, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use url::Host;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;

use super::authority::Authority;
use super::leaves::RENEWED;
use crate::config::ConfigError;
use crate::route::show;
use crate::tls;

const CERTIFICATE: &str = "intercept_ca_cert";
const KEY: &str = "intercept_ca_key";

/// How long what is made to try it out would be valid.
const TRIED: Duration = Duration::from_hours(1);

/// Reads the authority whose certificate is the first in the file `certificate`; those behind it
/// are of the authorities above it.
///
/// # Errors
/// It cannot be read, vouches for nothing, is not valid at `now` or soon will not be; clients that
/// trust the file's roots would not believe what it says of one of `hosts`; or the key is not its
/// own, or others could read it.
pub(super) fn load(
    certificate: &Path,
    key: &Path,
    hosts: &[Host<String>],
    now: SystemTime,
) -> Result<Authority, ConfigError> {
    let wrong = |reason: String| ConfigError::new(CERTIFICATE, show(certificate), reason);
    let chain = tls::certificates(CERTIFICATE, certificate)?;
    let own = chain.first().ok_or_else(|| wrong("it holds no certificate".into()))?;
    let (_, parsed) = X509Certificate::from_der(own)
        .map_err(|error| wrong(format!("its first certificate cannot be read: {error}")))?;
    judge(&parsed, now).map_err(wrong)?;
    let pair = read_key(key)?;
    if pair.public_key_raw() != &*parsed.public_key().subject_public_key.data {
        let reason = format!("it is not the key of the certificate in {}", certificate.display());
        return Err(ConfigError::new(KEY, show(key), reason));
    }
    let issuer = Issuer::from_ca_cert_der(own, pair)
        .map_err(|error| wrong(format!("it cannot vouch for others: {error}")))?;
    let own = end(&parsed);
    let authority = Authority::preloaded(issuer, chain, own);
    try_out(&authority, hosts, now).map_err(wrong)?;
    let end = last(&authority, hosts, now).unwrap_or(own);
    if end <= now + RENEWED {
        let what = if end == own { "it" } else { "an authority above it" };
        let when = OffsetDateTime::from(end);
        return Err(wrong(format!("{what} expires at {when}, within a day; renew it")));
    }
    Ok(authority.until(end))
}

/// When clients stop believing it: the first of its certificates to end without which none of their
/// ways leads to a root.
fn last(authority: &Authority, hosts: &[Host<String>], now: SystemTime) -> Option<SystemTime> {
    let parsed =
        authority.certificates().iter().filter_map(|it| X509Certificate::from_der(it).ok());
    let mut ends: Vec<_> =
        parsed.map(|(_, parsed)| end(&parsed)).filter(|end| *end > now).collect();
    ends.sort_unstable();
    ends.into_iter().find(|end| try_out(authority, hosts, *end + Duration::from_secs(1)).is_err())
}

/// Has the authority vouch for `hosts`, and judges that as a client does who trusts the roots that
/// stand with it. Where no constraints are that could tell hosts apart, one stands for all.
fn try_out(authority: &Authority, hosts: &[Host<String>], now: SystemTime) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let mut is_constrained = false;
    for certificate in authority.certificates() {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { continue };
        is_constrained |= !matches!(parsed.name_constraints(), Ok(None));
        // Clients do not look at the validity of what they trust.
        let is_fit = usage(&parsed).is_ok() && validity(&parsed, now).is_ok();
        if is_fit && is_root(certificate) {
            // One that cannot be read is no client's root either.
            let _ = roots.add(certificate.clone());
        }
    }
    let no_root = "no root vouches for it: behind it in the file must stand those of the \
                   authorities above it, up to a root that is valid now and may vouch for servers";
    let client = WebPkiServerVerifier::builder_with_provider(roots.into(), tls::provider())
        .build()
        .map_err(|_| no_root)?;
    let any = [Host::Domain("localhost".to_owned())];
    let hosts = match hosts {
        hosts if is_constrained => hosts,
        [first, ..] => slice::from_ref(first),
        [] => &any,
    };
    for host in hosts {
        believe(&client, authority, host, now).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => no_root.to_owned(),
            error => format!("no client would believe what it says of {host}: {error}"),
        })?;
    }
    Ok(())
}

/// Whether a `client` believes what the authority says of `host`.
fn believe(
    client: &WebPkiServerVerifier,
    authority: &Authority,
    host: &Host<String>,
    now: SystemTime,
) -> Result<(), Error> {
    let general = |error: rcgen::Error| Error::General(error.to_string());
    let minted = authority.mint(host, now, TRIED).map_err(general)?;
    let (own, above) = minted.chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.as_str())
            .map_err(|error| Error::General(error.to_string()))?,
        Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::from(*ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::from(*ip).into()),
    };
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(since);
    client.verify_server_cert(own, above, &name, &[], now).map(drop)
}

/// Whether clients would believe what the authority vouches for at `now`.
fn judge(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<(), String> {
    let constraints = certificate.basic_constraints().map_err(unclear)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err("it is no authority's: its basic constraints do not say CA:TRUE".into());
    }
    usage(certificate)?;
    validity(certificate, now)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn unclear(error: X509Error) -> String {
    format!("its extensions cannot be read: {error}")
}

/// Whether the certificate may be used to vouch for servers.
fn usage(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let usage = certificate.key_usage().map_err(unclear)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("it may not sign certificates: its key usage has no keyCertSign".into());
    }
    let extended = certificate.extended_key_usage().map_err(unclear)?;
    if extended.is_some_and(|usage| !usage.value.any && !usage.value.server_auth) {
        return Err("it may not vouch for servers: its extended key usage has no serverAuth".into());
    }
    Ok(())
}

/// Whether the certificate is valid at `now`.
fn validity(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<(), String> {
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    if now < SystemTime::from(from) {
        return Err(format!("it is not valid before {from}"));
    }
    if now >= SystemTime::from(until) {
        return Err(format!("it expired at {until}"));
    }
    Ok(())
}

/// Until when the certificate is valid.
fn end(certificate: &X509Certificate<'_>) -> SystemTime {
    certificate.validity().not_after.to_datetime().into()
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
