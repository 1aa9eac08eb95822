//! What TLS failed for, in words: its library says much of it in the names of its own types.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// So many of a certificate's names are shown; how many it has is its server's to choose.
const SHOWN_NAMES: usize = 3;

/// The longest part that is the other end's to choose, in characters.
const LONGEST_PART: usize = 100;

/// Why the other end of a connection is not spoken TLS to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFault {
    /// Why.
    pub reason: Cow<'static, str>,
    /// What to do about it, where that is known.
    pub hint: Option<&'static str>,
    /// Whether its certificate is what is wrong.
    pub is_of_certificate: bool,
}

impl TlsFault {
    /// What `error` says itself, if it is one of TLS: the causes behind it are not looked at.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        // An i/o error has it inside, where it is no cause; or another one, that has it.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Self::of(inner),
            None => error.downcast_ref::<Error>().map(Self::from),
        }
    }

    fn new(reason: impl Into<Cow<'static, str>>, hint: Option<&'static str>) -> Self {
        Self { reason: reason.into(), hint, is_of_certificate: false }
    }
}

impl From<&Error> for TlsFault {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(why) => {
                let (reason, hint) = certificate(why);
                Self { is_of_certificate: true, ..Self::new(reason, hint) }
            }
            Error::NoCertificatesPresented => {
                Self { is_of_certificate: true, ..Self::new("it shows no certificate", None) }
            }
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::new(
                "what it answers is not TLS",
                Some("if plain http is spoken there, give it an http URL"),
            ),
            Error::InvalidMessage(why) => {
                Self::new(format!("what it answers is not TLS: {}", spaced(why)), None)
            }
            Error::AlertReceived(why) => alert(*why),
            Error::PeerIncompatible(why) => {
                Self::new(format!("it speaks no TLS that is spoken here: {}", spaced(why)), None)
            }
            Error::PeerMisbehaved(why) => {
                Self::new(format!("it does not keep to TLS: {}", spaced(why)), None)
            }
            // These have words of their own.
            other => Self::new(other.to_string(), None),
        }
    }
}

/// What a certificate is refused for, and what helps.
fn certificate(why: &CertificateError) -> (Cow<'static, str>, Option<&'static str>) {
    use CertificateError as E;
    let reason = match why {
        E::UnknownIssuer => {
            return (
                "no trusted authority vouches for its certificate".into(),
                Some(
                    "if it is to be trusted, give the file of its authority's certificate as `tls_ca`",
                ),
            );
        }
        E::Other(other) if is_authoritys(&*other.0) => {
            return (
                "its certificate is an authority's (CA:TRUE), which no server may have as its own"
                    .into(),
                Some(
                    "make it anew without that (`openssl req -x509 -addext \
                     basicConstraints=critical,CA:FALSE ...`), or have that authority sign one for the server",
                ),
            );
        }
        E::NotValidForNameContext { presented, .. } => return (names(presented), None),
        E::NotValidForName => "its certificate is for other names",
        E::BadEncoding => "its certificate cannot be read",
        E::Expired | E::ExpiredContext { .. } => "its certificate has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "its certificate is not valid yet",
        E::Revoked => "its certificate was revoked",
        E::BadSignature => "its certificate, or what it proves, is not signed by whom it says",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "its certificate is not for servers",
        E::Other(other) => {
            return (format!("its certificate is refused: {}", spaced(&other.0)).into(), None);
        }
        other => return (format!("its certificate is refused: {}", spaced(other)).into(), None),
    };
    (reason.into(), None)
}

fn is_authoritys(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// That a certificate is for other names, which are written like `DnsName("host")`.
fn names(presented: &[String]) -> Cow<'static, str> {
    let bare = |name: &String| {
        let inside = name.split_once('(').map_or(&**name, |(_, rest)| rest.trim_end_matches(')'));
        shortened(inside.trim_matches('"'))
    };
    let mut shown: Vec<_> = presented.iter().take(SHOWN_NAMES).map(bare).collect();
    match presented.len() {
        0 => return "its certificate is for no names".into(),
        count if count > SHOWN_NAMES => shown.push(format!("{} more", count - SHOWN_NAMES)),
        _ => {}
    }
    format!("its certificate is for other names: {}", shown.join(", ")).into()
}

fn alert(why: AlertDescription) -> TlsFault {
    let hint = match why {
        AlertDescription::CertificateRequired => {
            Some("it wants a client's certificate: give one as `tls_client_cert`")
        }
        _ => None,
    };
    TlsFault::new(format!("it refused: {}", spaced(&why)), hint)
}

/// The name of a value like `HandshakeFailure` as words.
fn spaced(value: &dyn Debug) -> String {
    let name = format!("{value:?}");
    let mut words = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for c in name.chars() {
        let begins_word = c.is_uppercase() && before.is_lowercase();
        words.extend(begins_word.then_some(' '));
        words.extend(c.to_lowercase());
        before = c;
    }
    shortened(&words)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_PART) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{OtherError, PeerIncompatible};

    use super::*;

    fn reason(error: Error) -> String {
        let fault = TlsFault::of(&io::Error::other(io::Error::other(error)));
        fault.unwrap().reason.into_owned()
    }

    #[test]
    fn what_tls_fails_for_is_said_in_words() {
        let of = |why| reason(Error::InvalidCertificate(why));
        let other = |why: webpki::Error| CertificateError::Other(OtherError(Arc::new(why)));
        let names = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: "host.test".try_into().unwrap(),
            presented: presented.iter().map(|&name| name.into()).collect(),
        };
        for (said, words) in [
            (
                of(CertificateError::UnknownIssuer),
                "no trusted authority vouches for its certificate",
            ),
            (
                of(other(webpki::Error::CaUsedAsEndEntity)),
                "its certificate is an authority's (CA:TRUE), which no server may have as its own",
            ),
            (
                of(other(webpki::Error::PathLenConstraintViolated)),
                "its certificate is refused: path len constraint violated",
            ),
            (
                of(names(&["DnsName(\"a.test\")", "IpAddress(::1)", "x", "y", "z"])),
                "its certificate is for other names: a.test, ::1, x, 2 more",
            ),
            (of(names(&[])), "its certificate is for no names"),
            (
                reason(Error::AlertReceived(AlertDescription::HandshakeFailure)),
                "it refused: handshake failure",
            ),
            (
                reason(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
                "it speaks no TLS that is spoken here: no cipher suites in common",
            ),
        ] {
            assert_eq!(said, words);
        }
    }

    #[test]
    fn what_the_other_end_chooses_is_shown_up_to_a_length() {
        let name = format!("DnsName(\"{}\")", "ä".repeat(10_000));
        let said = names(&[name]);
        assert!(said.chars().count() < 2 * LONGEST_PART, "{said}");
    }

    #[test]
    fn other_errors_are_none_of_tls() {
        assert_eq!(TlsFault::of(&io::Error::from(io::ErrorKind::NotFound)), None);
        assert_eq!(TlsFault::of(&io::Error::other("else")), None);
    }
}
