//! Whom to trust: the system's authorities, read once per process, and those in the PEM files that a
//! configuration names.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Larger than the authorities of any system; a bound, so that a wrong path cannot fill memory.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// What is trusted where nothing else is said.
struct Roots {
    certificates: Cow<'static, [CertificateDer<'static>]>,
    store: RootCertStore,
}

/// The system's roots, or Mozilla's where the system has none. Parsing them takes tens of
/// milliseconds, so it is done once.
fn roots() -> &'static Roots {
    static ROOTS: OnceLock<Roots> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let native = rustls_native_certs::load_native_certs().certs;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(native.iter().cloned());
        if !store.is_empty() {
            return Roots { certificates: native.into(), store };
        }
        // Not made of the certificates: what Mozilla limits some of them to stands here alone.
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Roots { certificates: webpki_root_certs::TLS_SERVER_ROOT_CERTS.into(), store }
    })
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
    use nix::sys::stat::Mode;

    use super::*;

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
