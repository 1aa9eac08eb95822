//! An authority that the user brings.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nono_proxy::{ConfigError, InterceptConfig, ProxyConfig, RouteConfig};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use support::route;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::{Setting, intercept};

/// The files of an authority, and where they are.
struct Brought {
    cert: PathBuf,
    key: PathBuf,
    _dir: TempDir,
}

impl Brought {
    fn new(certificates: &str, key: &KeyPair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key_file] = ["ca.pem", "ca.key"].map(|name| dir.path().join(name));
        fs::write(&cert, certificates).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        Self { cert, key: key_file, _dir: dir }
    }

    /// One that vouches for itself, with `edit`ed properties.
    fn root(edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority("brought");
        edit(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self::new(&certificate.pem(), &key)
    }

    fn config(&self) -> InterceptConfig {
        InterceptConfig {
            ca_dir: "/unused".into(),
            ca_cert: Some(self.cert.clone()),
            ca_key: Some(self.key.clone()),
            ..InterceptConfig::default()
        }
    }

    /// An upstream behind a proxy that has it.
    async fn setting(&self) -> Setting {
        Setting::with(intercept(|it| {
            it.ca_cert = Some(self.cert.clone());
            it.ca_key = Some(self.key.clone());
        }))
        .await
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn check(config: InterceptConfig) -> Result<(), ConfigError> {
    ProxyConfig { intercept: Some(config), ..ProxyConfig::default() }.check()
}

fn mistake(config: InterceptConfig) -> ConfigError {
    check(config).unwrap_err()
}

/// A client inside gets an answer, by trusting the bundle alone.
async fn is_served(setting: &Setting) {
    let mut client = setting.proxy.inside(setting.port()).await;
    client.send(setting.get("/") + "\r\n").await;
    assert_eq!(client.reply().await.status, 200);
}

fn contents(dir: &Path) -> Vec<Vec<u8>> {
    fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[tokio::test]
async fn its_certificate_is_what_clients_trust_and_its_key_goes_nowhere() {
    let brought = Brought::root(|_| {});
    let setting = brought.setting().await;
    is_served(&setting).await;
    let own = fs::read_to_string(&brought.cert).unwrap().replace('\r', "");
    let alone = fs::read_to_string(setting.proxy.file("NODE_EXTRA_CA_CERTS")).unwrap();
    assert_eq!(alone, own);
    let pair = KeyPair::from_pem(&fs::read_to_string(&brought.key).unwrap()).unwrap();
    let der = pair.serialize_der();
    // Its number, which the public key behind it is not (RFC 5915 §3).
    let before = b"\x02\x01\x01\x04\x20";
    let at = der.windows(before.len()).position(|window| window == before).unwrap();
    let private = &der[at + before.len()..][..32];
    for content in contents(setting.dir.path()) {
        assert!(!String::from_utf8_lossy(&content).contains("PRIVATE"));
        assert!(!content.windows(private.len()).any(|window| window == private));
    }
}

/// An authority that vouches for itself, with `edit`ed properties.
fn root(edit: impl FnOnce(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = authority("root");
    edit(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// One that `root` vouches for, with `behind` behind its certificate.
fn vouched_for(root: &CertifiedIssuer<'static, KeyPair>, behind: &str) -> Brought {
    let key = KeyPair::generate().unwrap();
    let issuer: &Issuer<'_, KeyPair> = root;
    let middle = authority("middle").signed_by(&key, issuer).unwrap();
    Brought::new(&(middle.pem() + behind), &key)
}

#[tokio::test]
async fn one_that_another_vouches_for_is_shown_with_its_chain() {
    let root = root(|_| {});
    let brought = vouched_for(&root, &root.pem());
    let setting = brought.setting().await;
    is_served(&setting).await;
}

#[tokio::test]
async fn one_that_ends_soon_is_told_of_and_serves_until_then() {
    let brought = Brought::root(|params| {
        params.not_after = OffsetDateTime::now_utc() + Duration::days(3);
    });
    let setting = brought.setting().await;
    is_served(&setting).await;
    let found = setting.proxy.diagnostics();
    let [told] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((told.code, &*told.route_prefix), ("authority_expiring", "intercept"));
    assert_eq!(told.credential_ref, brought.cert.display().to_string());
    assert!(told.hint.as_ref().unwrap().contains("renew its certificate"), "{told:?}");
    let lasting = Setting::new().await;
    assert!(lasting.proxy.diagnostics().is_empty());
}

/// The chain of an authority whose root ends in `days`.
fn below_one_of(days: i64) -> Brought {
    let root = root(|params| params.not_after = OffsetDateTime::now_utc() + Duration::days(days));
    vouched_for(&root, &root.pem())
}

#[tokio::test]
async fn one_above_it_that_ends_soon_is_told_of() {
    for (days, is_told) in [(3, true), (30, false)] {
        let brought = below_one_of(days);
        let setting = brought.setting().await;
        is_served(&setting).await;
        let found = setting.proxy.diagnostics();
        let told = found.iter().any(|it| it.code == "authority_expiring");
        assert_eq!(told, is_told, "{found:#?}");
    }
}

#[test]
fn one_above_it_that_is_not_needed_may_end() {
    let root = root(|_| {});
    // Clients find the other way.
    let twin = KeyPair::from_pem(&root.key().serialize_pem()).unwrap();
    let mut params = authority("root");
    params.not_after = OffsetDateTime::now_utc() + Duration::hours(20);
    let ending = params.self_signed(&twin).unwrap();
    let both = vouched_for(&root, &(ending.pem() + &root.pem()));
    assert_eq!(check(both.config()), Ok(()));
    let only = vouched_for(&root, &ending.pem());
    let told = mistake(only.config()).to_string();
    assert!(
        told.contains("an authority above it expires") && told.contains("within a day"),
        "{told}"
    );
}

#[test]
fn what_clients_would_not_believe_is_a_mistake_of_the_configuration() {
    let now = OffsetDateTime::now_utc();
    for (brought, reason) in [
        (Brought::root(|params| params.is_ca = IsCa::ExplicitNoCa), "CA:TRUE"),
        (Brought::root(|params| params.is_ca = IsCa::NoCa), "CA:TRUE"),
        (
            Brought::root(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "no keyCertSign",
        ),
        (
            Brought::root(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "no serverAuth",
        ),
        (Brought::root(|params| params.not_after = now - Duration::hours(1)), "it expired at"),
        (Brought::root(|params| params.not_after = now + Duration::hours(20)), "within a day"),
        (Brought::root(|params| params.not_before = now + Duration::hours(1)), "not valid before"),
    ] {
        let told = mistake(brought.config());
        assert_eq!(told.field(), "intercept_ca_cert", "{reason}");
        assert!(told.to_string().contains(reason), "{told}");
    }
    let brought = Brought::root(|_| {});
    let constrained = InterceptConfig { name_constraints: true, ..brought.config() };
    assert!(mistake(constrained).to_string().contains("intercept_name_constraints"));
    let alone = InterceptConfig { ca_key: None, ..brought.config() };
    assert!(mistake(alone).to_string().contains("needs `intercept_ca_key`"));
    let alone = InterceptConfig { ca_cert: None, ..brought.config() };
    assert!(mistake(alone).to_string().contains("needs `intercept_ca_cert`"));
}

#[test]
fn one_that_no_root_in_its_file_vouches_for_is_a_mistake_of_the_configuration() {
    let now = OffsetDateTime::now_utc();
    let good = root(|_| {});
    assert_eq!(check(vouched_for(&good, &good.pem()).config()), Ok(()));
    let expired = root(|params| params.not_after = now - Duration::hours(1));
    let for_clients =
        root(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let other = root(|_| {});
    for (brought, reason) in [
        (vouched_for(&good, ""), "no root vouches for it"),
        (vouched_for(&expired, &expired.pem()), "no root vouches for it"),
        (vouched_for(&for_clients, &for_clients.pem()), "no root vouches for it"),
        // Of the same name, and with another key.
        (vouched_for(&good, &other.pem()), "no client would believe what it says"),
    ] {
        let told = mistake(brought.config());
        assert_eq!(told.field(), "intercept_ca_cert");
        assert!(told.to_string().contains(reason), "{told}");
    }
}

#[test]
fn one_whose_constraints_leave_out_what_is_intercepted_is_a_mistake_of_the_configuration() {
    let brought = Brought::root(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("corp.example".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let with_hosts = |hosts: &[&str]| InterceptConfig {
        hosts: hosts.iter().copied().map(Into::into).collect(),
        ..brought.config()
    };
    assert_eq!(check(with_hosts(&["corp.example", "a.corp.example", "*.corp.example"])), Ok(()));
    for host in ["api.example", "*.example"] {
        let told = mistake(with_hosts(&["a.corp.example", host]));
        assert_eq!(told.field(), "intercept_ca_cert");
        let host = host.replace('*', "any");
        assert!(told.to_string().contains(&format!("what it says of {host}")), "{told}");
    }
    // A route's host is intercepted too, if it is not left out.
    let config = |exclude: &[&str]| ProxyConfig {
        routes: vec![RouteConfig {
            upstream: "https://api.example".into(),
            ..route("/api", "127.0.0.1:9".parse().unwrap())
        }],
        intercept: Some(InterceptConfig {
            exclude: exclude.iter().copied().map(Into::into).collect(),
            ..brought.config()
        }),
        ..ProxyConfig::default()
    };
    assert!(config(&[]).check().unwrap_err().to_string().contains("says of api.example"));
    assert_eq!(config(&["api.example"]).check(), Ok(()));
}

#[test]
fn a_key_that_is_not_its_own_or_not_kept_is_a_mistake_of_the_configuration() {
    let (brought, other) = (Brought::root(|_| {}), Brought::root(|_| {}));
    let key = |file: &Path| InterceptConfig { ca_key: Some(file.into()), ..brought.config() };
    assert!(mistake(key(&other.key)).to_string().contains("not the key of the certificate"));
    assert!(mistake(key(&brought.cert)).to_string().contains("others may access it"));
    assert!(mistake(key(Path::new("/nonexistent"))).to_string().contains("cannot be read"));
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&brought.key, Permissions::from_mode(mode)).unwrap();
        let told = mistake(brought.config());
        assert_eq!(told.field(), "intercept_ca_key");
        assert!(told.to_string().contains("chmod 600"), "{told}");
    }
    fs::set_permissions(&brought.key, Permissions::from_mode(0o600)).unwrap();
    fs::write(&brought.key, "nonsense").unwrap();
    let told = mistake(brought.config()).to_string();
    assert!(told.contains("no private key in PEM") && !told.contains("nonsense"), "{told}");
}
