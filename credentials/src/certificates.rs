//! Whom to trust: the system's authorities, read once per process, and those in the PEM files that a
//! configuration names.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use rustls::RootCertStore;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::environment::with_environment;

/// Larger than the authorities of any system; a bound, so that a wrong path cannot fill memory.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// The variables that name roots in place of the system's.
const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// What is trusted where nothing else is said.
struct Roots {
    certificates: Cow<'static, [CertificateDer<'static>]>,
    store: RootCertStore,
    /// What could not be read of what the environment names.
    fault: Option<String>,
}

static ROOTS: OnceLock<Roots> = OnceLock::new();

/// The system's roots, or Mozilla's where the system has none. Parsing them takes tens of
/// milliseconds, so it is done once.
fn roots() -> &'static Roots {
    if let Some(roots) = ROOTS.get() {
        return roots;
    }
    // Before: who waits for another to set them may be who holds up the environment.
    let found = Found::read();
    ROOTS.get_or_init(|| found.into())
}

impl From<Found> for Roots {
    fn from(Found { certificates, is_named, fault }: Found) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        let is_nothing = is_named && store.is_empty();
        let fault = fault.or_else(|| is_nothing.then(|| "they hold no certificate".to_owned()));
        // A mistake in what is to be trusted is no reason to trust others.
        if is_named || !store.is_empty() {
            return Self { certificates: certificates.into(), store, fault };
        }
        // Not made of the certificates: what Mozilla limits some of them to stands here alone.
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Self { certificates: webpki_root_certs::TLS_SERVER_ROOT_CERTS.into(), store, fault }
    }
}

/// The roots that the environment names, or else the system's own.
#[derive(Default)]
struct Found {
    certificates: Vec<CertificateDer<'static>>,
    /// Whether the environment says whom to trust, be it that it names an empty path.
    is_named: bool,
    fault: Option<String>,
}

impl Found {
    fn read() -> Self {
        let variables = || [FILE, DIRECTORIES].map(std::env::var_os);
        Self::named(with_environment(variables).unwrap_or_default())
    }

    /// What these variables name, or else the system's own.
    fn named([file, directories]: [Option<OsString>; 2]) -> Self {
        let is_named = file.is_some() || directories.is_some();
        let file = file.filter(|file| !file.is_empty()).map(PathBuf::from);
        let directories = directories.iter().flat_map(std::env::split_paths);
        let directories = directories.filter(|path| !path.as_os_str().is_empty());
        let directories: Vec<_> = directories.collect();
        if !is_named {
            // Looks for the same variables once more. The system's own files keep nobody waiting.
            let native = with_environment(load_native_certs).map(|native| native.certs);
            return Self { certificates: native.unwrap_or_default(), ..Self::default() };
        }
        let mut found = Self { is_named, ..Self::default() };
        // What is named may be in a file system that hangs: nothing is held up for it.
        let files = file.into_iter().map(|file| (Some(file), None));
        let directories = directories.into_iter().map(|directory| (None, Some(directory)));
        for (file, directory) in files.chain(directories) {
            let CertificateResult { certs, errors, .. } =
                load_certs_from_paths(file.as_deref(), directory.as_deref());
            found.certificates.extend(certs);
            found.fault = found.fault.or_else(|| errors.first().map(ToString::to_string));
        }
        found.certificates.sort_unstable_by(|a, b| (**a).cmp(b));
        found.certificates.dedup();
        found
    }
}

/// What is wrong with the roots that `SSL_CERT_FILE` or `SSL_CERT_DIR` name, if they have been read:
/// then no others are trusted in their place.
pub fn fault_of_roots() -> Option<&'static str> {
    ROOTS.get()?.fault.as_deref()
}

/// Whom to trust where nothing else is said: the system's roots, or Mozilla's where it has none.
pub fn system_roots() -> &'static RootCertStore {
    &roots().store
}

/// The certificates of these roots, for programs that are to trust the same.
pub fn root_certificates() -> &'static [CertificateDer<'static>] {
    &roots().certificates
}

/// The certificates in `file`, at least one.
///
/// # Errors
/// In words: the file cannot be read, is no PEM, or holds none.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn Display| format!("it cannot be read as PEM: {error}");
    let text = open_pem(file).map_err(|error| wrong(&error))?;
    let found = CertificateDer::pem_reader_iter(text).collect::<Result<Vec<_>, _>>();
    match found.map_err(|error| wrong(&error))? {
        none if none.is_empty() => Err("it holds no certificate".into()),
        found => Ok(found),
    }
}

/// Opens a regular file of a size that PEM may have: what else there may be at a path could keep its
/// reader waiting, or never end.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::InvalidInput`] for any other file.
pub fn open_pem(file: &Path) -> io::Result<impl BufRead> {
    // The open of a FIFO would wait for a writer, and that of a terminal could take it over.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = File::options().read(true).custom_flags(flags).open(file)?;
    let metadata = file.metadata()?;
    let unfit = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return unfit("it is no regular file".into());
    }
    if metadata.len() > SIZE_LIMIT {
        return unfit(format!("it is larger than {SIZE_LIMIT} bytes"));
    }
    Ok(BufReader::new(file.take(SIZE_LIMIT)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn the_environment_is_held_still_while_roots_are_looked_for_in_it() {
        static HELD: AtomicUsize = AtomicUsize::new(0);
        crate::hold_environment_by(|read| {
            HELD.fetch_add(1, Ordering::Relaxed);
            read();
            true
        });
        Found::read();
        assert_ne!(HELD.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn mozillas_roots_are_no_substitute_for_what_cannot_be_read() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            [Some(path.into_os_string()), None]
        };
        let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for named in [
            file("empty", b""),
            file("binary", &[0x30, 0x82, 0, 0]),
            file("none", none.as_bytes()),
            [Some("/dev/null".into()), None],
            [Some(place.path().join("missing").into_os_string()), None],
            [None, Some(tempfile::tempdir_in(place.path()).unwrap().path().into())],
            [Some("".into()), None],
        ] {
            let roots = Roots::from(Found::named(named.clone()));
            assert!(roots.store.is_empty(), "{named:?}");
            assert!(roots.fault.is_some(), "{named:?}");
        }
        assert!(!Roots::from(Found::default()).store.is_empty());
    }

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let place = tempfile::tempdir().unwrap();
        let (fifo, large) = (place.path().join("fifo"), place.path().join("large"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        File::create(&large).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
        for (path, told) in [
            (&*fifo, "it is no regular file"),
            (Path::new("/dev/zero"), "it is no regular file"),
            (&*large, "it is larger than 16777216 bytes"),
            (place.path(), "is a directory"),
            (&place.path().join("none"), "No such file or directory"),
            (Path::new("/dev/null"), "it is no regular file"),
        ] {
            let said = read_certificates(path).unwrap_err();
            assert!(
                said.starts_with("it cannot be read as PEM: ") && said.contains(told),
                "{said}"
            );
        }
        let empty = place.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(read_certificates(&empty).unwrap_err(), "it holds no certificate");
    }
}
