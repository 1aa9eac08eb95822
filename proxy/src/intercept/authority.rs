//! The certificate authority of one proxy. The key of one that is made here lives and dies in this
//! process.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, Error, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use url::Host;

use super::preloaded::is_root;

/// How long the authority is valid: longer than any proxy runs, since its clients read it once.
const LIFETIME: Duration = Duration::from_hours(24 * 365 * 5);

/// How long before it was made a certificate is valid: clocks differ between containers.
const BACKDATED: Duration = Duration::from_hours(1);

/// The longest common name (RFC 5280, appendix A.1).
const LONGEST_NAME: usize = 64;

/// See the module.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, and those of the authorities above it.
    certificates: Vec<CertificateDer<'static>>,
    expires: SystemTime,
}

/// A server's certificate with its private key.
pub(super) struct Minted {
    /// The certificate, and those that lead from it to a root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) expires: SystemTime,
}

impl Authority {
    /// Makes an authority. With `hosts` it can vouch for those alone: for each of the names and
    /// what is below it, and for each of the addresses.
    pub(super) fn new(now: SystemTime, hosts: Option<&[Host<String>]>) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let expires = now + LIFETIME;
        let mut params = CertificateParams::default();
        // Of its own for each proxy: two authorities of one name would be taken for each other.
        let mark = getrandom::u64().map_err(|_| Error::RingUnspecified)?;
        params.distinguished_name.push(DnType::CommonName, format!("nono proxy CA {mark:016x}"));
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(expires);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params.name_constraints = hosts.map(constraints);
        let certificates = vec![params.self_signed(&key)?.der().clone()];
        Ok(Self { issuer: Issuer::new(params, key), certificates, expires })
    }

    /// An authority that was made elsewhere; the first of `certificates` is its own.
    pub(super) fn preloaded(
        issuer: Issuer<'static, KeyPair>,
        certificates: Vec<CertificateDer<'static>>,
        expires: SystemTime,
    ) -> Self {
        Self { issuer, certificates, expires }
    }

    /// The same, which nobody believes after `end`: one of those above it is no longer valid then.
    pub(super) fn until(self, end: SystemTime) -> Self {
        Self { expires: end, ..self }
    }

    /// When nobody believes it any more.
    pub(super) fn expires(&self) -> SystemTime {
        self.expires
    }

    /// What clients are to trust: its certificate, and those of the authorities above it.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Makes a certificate for `host` that is valid for `lifetime`, and not longer than its issuer.
    pub(super) fn mint(
        &self,
        host: &Host<String>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Minted, Error> {
        let key = KeyPair::generate()?;
        let expires = self.expires.min(now + lifetime);
        let common = match host {
            Host::Domain(name) if name.len() <= LONGEST_NAME => name,
            // Not an address: constraints on names would be taken to speak of it too.
            _ => "nono proxy",
        };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = vec![match host {
            Host::Domain(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Ipv4(ip) => SanType::IpAddress((*ip).into()),
            Host::Ipv6(ip) => SanType::IpAddress((*ip).into()),
        }];
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(expires);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let above = self.certificates.iter().filter(|above| !is_root(above));
        Ok(Minted {
            chain: [certificate.der()].into_iter().chain(above).cloned().collect(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            expires,
        })
    }
}

/// Constraints to `hosts` (RFC 5280 §4.2.1.10). A kind of name that none of them is, is excluded
/// as a whole, since what no subtree speaks of is permitted.
fn constraints(hosts: &[Host<String>]) -> NameConstraints {
    let subtree = |host: &Host<String>| match host {
        Host::Domain(name) => GeneralSubtree::DnsName(name.clone()),
        Host::Ipv4(ip) => address((*ip).into(), 32),
        Host::Ipv6(ip) => address((*ip).into(), 128),
    };
    let mut excluded = Vec::new();
    if !hosts.iter().any(|host| matches!(host, Host::Domain(_))) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if hosts.iter().all(|host| matches!(host, Host::Domain(_))) {
        excluded.push(address(IpAddr::from([0; 4]), 0));
        excluded.push(address(IpAddr::from([0; 16]), 0));
    }
    NameConstraints {
        permitted_subtrees: hosts.iter().map(subtree).collect(),
        excluded_subtrees: excluded,
    }
}

fn address(ip: IpAddr, prefix: u8) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, prefix))
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("expires", &self.expires).finish_non_exhaustive()
    }
}
