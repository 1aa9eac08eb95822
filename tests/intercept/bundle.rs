//! The files that clients trust the proxy by.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nono_proxy::{InterceptConfig, ProxyConfig, ProxyHandle, StartError};
use support::TestProxy;

use super::Setting;

fn config(dir: &Path) -> ProxyConfig {
    let intercept = InterceptConfig { ca_dir: dir.into(), ..InterceptConfig::default() };
    ProxyConfig { intercept: Some(intercept), ..ProxyConfig::default() }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Why a proxy with its files in `dir` does not start.
async fn refusal(dir: &Path) -> String {
    match ProxyHandle::start(config(dir)).await {
        Err(StartError::Config(error)) => {
            assert_eq!(error.field(), "intercept_ca_dir");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_files_hold_certificates_and_no_key_and_all_may_read_them() {
    let setting = Setting::new().await;
    let found = files(setting.dir.path());
    assert_eq!(found.len(), 3, "{found:?}");
    for path in &found {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o444, "{path:?}");
        let content = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert!(!text.contains("PRIVATE"), "{path:?}");
        // A key in DER: the identifier of elliptic-curve keys, then of the curve, then no public
        // key, which a certificate has there (RFC 5915), but an octet string.
        let private = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04";
        assert!(!content.windows(private.len()).any(|window| window == private), "{path:?}");
    }
    let mut listed = setting.proxy.certificate_files();
    listed.sort();
    let mut found: Vec<_> = found.iter().map(|path| path.canonicalize().unwrap()).collect();
    found.sort();
    assert_eq!(listed, found);
}

#[tokio::test]
async fn variables_that_replace_name_all_roots_and_those_that_add_the_proxys_alone() {
    let setting = Setting::new().await;
    let [whole, alone] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"]
        .map(|name| fs::read_to_string(setting.proxy.file(name)).unwrap());
    let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
    assert_eq!(count(&alone), 1);
    // The parent's is in it, and those of the system, if there are any.
    let system = rustls_native_certs::load_native_certs().certs.len();
    assert_eq!(count(&whole), system + 2);
    assert!(whole.contains(alone.trim()));
    for name in [
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "CARGO_HTTP_CAINFO",
        "AWS_CA_BUNDLE",
        "npm_config_cafile",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ] {
        assert_eq!(setting.proxy.file(name), setting.proxy.file("SSL_CERT_FILE"), "{name}");
    }
    assert_eq!(setting.proxy.file("DENO_CERT"), setting.proxy.file("NODE_EXTRA_CA_CERTS"));
    let java = setting.proxy.file("JAVA_TOOL_OPTIONS").display().to_string();
    assert!(java.contains("-Djavax.net.ssl.trustStore=/"), "{java}");
}

#[tokio::test]
async fn each_proxy_removes_its_own_files_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "").unwrap();
    let first = TestProxy::start(config(dir.path())).await;
    let second = TestProxy::start(config(dir.path())).await;
    assert_eq!(files(dir.path()).len(), 7);
    first.shutdown(Duration::ZERO).await;
    assert_eq!(files(dir.path()).len(), 4);
    let taken = second.file("SSL_CERT_FILE");
    assert!(taken.exists());
    // Somebody put another file there.
    fs::remove_file(&taken).unwrap();
    fs::write(&taken, "another").unwrap();
    drop(second);
    let mut left = files(dir.path());
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(fs::read(&taken).unwrap(), b"another");
}

/// Names as those of a bundle.
fn named(mark: &str) -> [String; 3] {
    ["ca.pem", "bundle.pem", "store.p12"].map(|name| format!("nono-{mark}-{name}"))
}

#[tokio::test]
async fn what_a_killed_proxy_left_is_removed_at_the_next_start_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let running = TestProxy::start(config(dir.path())).await;
    for name in named("0123456789abcdef") {
        fs::write(path(&name), "").unwrap();
    }
    let others = [
        "mine",
        "nono-0123456789abcdef-ca.pem.mine",
        "nono-0123-ca.pem",
        "nono-x123456789abcdef-ca.pem",
    ];
    for name in others {
        fs::write(path(name), "").unwrap();
    }
    let [link, directory, held] = named("fedcba9876543210");
    std::os::unix::fs::symlink(path("mine"), path(&link)).unwrap();
    fs::create_dir(path(&directory)).unwrap();
    let holder = fs::File::create(path(&held)).unwrap();
    holder.lock().unwrap();
    let proxy = TestProxy::start(config(dir.path())).await;
    let own = [&running, &proxy].map(|proxy| proxy.certificate_files().len());
    assert_eq!(own, [3, 3]);
    let expected = others.len() + 3 + 6;
    let left = files(dir.path());
    assert_eq!(left.len(), expected, "{left:?}");
    assert!(named("0123456789abcdef").iter().all(|name| !path(name).exists()));
    assert!(running.certificate_files().iter().all(|file| file.exists()));
}

#[tokio::test]
async fn a_directory_that_cannot_be_trusted_is_an_error_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert!(refusal(&missing).await.contains("No such file"), "{}", refusal(&missing).await);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).await.contains("not a directory"));
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    for mode in [0o777, 0o775, 0o1777, 0o702] {
        fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        assert!(refusal(&open).await.contains("others can write"), "{mode:o}");
    }
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    assert!(ProxyHandle::start(config(&open)).await.is_ok());
    assert!(files(&open).is_empty());
}

#[tokio::test]
async fn a_directory_of_another_users_is_an_error_at_start() {
    let dir = tempfile::tempdir().unwrap();
    // Only root can give it away.
    if std::os::unix::fs::chown(dir.path(), Some(12345), None).is_ok() {
        assert!(refusal(dir.path()).await.contains("belongs to user 12345"));
    }
}

#[tokio::test]
async fn a_directory_below_one_that_others_can_write_to_is_refused() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("of/the/proxy");
    fs::create_dir_all(&dir).unwrap();
    // The last is of the process's own group.
    for (mode, is_refused) in [(0o777, true), (0o1777, false), (0o755, false), (0o775, false)] {
        fs::set_permissions(above.path(), Permissions::from_mode(mode)).unwrap();
        if is_refused {
            let told = refusal(&dir).await;
            let place = above.path().canonicalize().unwrap();
            assert!(told.contains(&format!("others can write to {}", place.display())), "{told}");
        } else {
            TestProxy::start(config(&dir)).await;
        }
    }
    // Only root can give it away.
    if std::os::unix::fs::chown(above.path(), None, Some(12345)).is_ok() {
        assert!(refusal(&dir).await.contains("others can write to"));
    }
    if std::os::unix::fs::chown(above.path(), Some(12345), None).is_ok() {
        assert!(refusal(&dir).await.contains("above it belongs to user 12345"));
    }
}

#[tokio::test]
async fn a_directory_that_no_variable_can_name_is_refused() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join(OsStr::from_bytes(b"not \xff UTF-8"));
    fs::create_dir(&dir).unwrap();
    assert!(refusal(&dir).await.contains("not UTF-8"));
    assert!(files(&dir).is_empty());
}

#[tokio::test]
async fn java_reads_its_options_whatever_the_directory_is_called() {
    let above = tempfile::tempdir().unwrap();
    for name in ["plain", "a blank", "a \"quote\"", "it's", "\"'", "'\" \"'"] {
        let dir = above.path().join(name);
        fs::create_dir(&dir).unwrap();
        let proxy = TestProxy::start(config(&dir)).await;
        let variables = proxy.env_vars();
        let (_, options) = variables.iter().find(|(name, _)| name == "JAVA_TOOL_OPTIONS").unwrap();
        let store = java_words(options)
            .into_iter()
            .find_map(|word| word.strip_prefix("-Djavax.net.ssl.trustStore=").map(PathBuf::from));
        assert!(proxy.certificate_files().contains(&store.unwrap()), "{options}");
    }
}

/// The words of `text`, as the virtual machine parts them.
fn java_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            Some(_) => word.push(c),
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            None => word.push(c),
        }
    }
    assert_eq!(quote, None, "{text}");
    words.push(word);
    words
}

#[tokio::test]
async fn what_a_proxy_had_not_finished_when_it_was_killed_is_removed_once_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_hours(1);
    let write = |mark: &str, written: SystemTime| {
        named(mark).map(|name| {
            let path = dir.path().join(name + ".new");
            fs::File::create(&path).unwrap().set_modified(written).unwrap();
            path
        })
    };
    let now = SystemTime::now();
    let (old, fresh) = (write("0123456789abcdef", now - 2 * hour), write("fedcba9876543210", now));
    let others = ["mine.new", "nono-0123-ca.pem.new", "nono-0123456789abcdef-ca.pem.new.new"];
    for name in others {
        fs::File::create(dir.path().join(name)).unwrap().set_modified(now - 2 * hour).unwrap();
    }
    let proxy = TestProxy::start(config(dir.path())).await;
    assert!(!old.iter().any(|path| path.exists()));
    assert!(fresh.iter().all(|path| path.exists()));
    let expected = fresh.len() + others.len() + proxy.certificate_files().len();
    assert_eq!(files(dir.path()).len(), expected);
}

#[tokio::test]
async fn a_proxy_that_does_not_start_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap();
    assert!(ProxyHandle::start(ProxyConfig { bind, ..config(dir.path()) }).await.is_err());
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_is_no_certificate_is_a_mistake_of_the_configuration() {
    for pem in ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut config = config(Path::new("/nowhere"));
        config.intercept.as_mut().unwrap().parent_ca_pems = pem.into();
        assert_eq!(config.check().unwrap_err().field(), "intercept_parent_ca_pems", "{pem}");
    }
    let mut config = config(Path::new("/nowhere"));
    config.intercept.as_mut().unwrap().hosts = vec!["https://a.example".into()];
    assert_eq!(config.check().unwrap_err().field(), "intercept_hosts");
}
