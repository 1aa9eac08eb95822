//! Where a credential is kept: the parsed form of a `credential_key`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Grant, OAuth2Config, ParseError, Provided, VaultConfig, VaultField};

/// The service that plain names belong to in the OS keyring.
pub(crate) const KEYRING_SERVICE: &str = "nono";

/// The option of keyring references.
const GO_KEYRING: &str = "?decode=go-keyring";

/// Schemes that are part of the configuration language but that this version cannot serve.
const PLANNED: [&str; 2] = ["apple-password", "apple-passwords"];

/// How the keys of common services begin. One of these in the place of a reference is a mistake
/// that would publish the key.
const KEY_BEGINNINGS: [&str; 16] = [
    "sk-",
    "sk_",
    "pk-",
    "rk_",
    "gsk_",
    "xai-",
    "AIza",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "hf_",
    "xoxb-",
    "AKIA",
    "Bearer ",
];

/// Where a credential is kept. Configuration, not a secret: it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Locator {
    /// `name` or `keyring://service/account`: the OS keyring. A plain name is the account of
    /// service `nono`.
    Keyring {
        /// The keyring's service.
        service: String,
        /// The account within the service.
        account: String,
        /// `?decode=go-keyring`: whether it was stored by programs in Go that mark and encode
        /// what they store.
        is_encoded: bool,
    },
    /// `env://NAME`: an environment variable of this process.
    Env(String),
    /// `file:///absolute/path`: a file that only its owner may read.
    File(PathBuf),
    /// `op://vault/item/field`: 1Password.
    OnePassword(String),
    /// `bw://item` or `bw://item/field`: Bitwarden.
    Bitwarden {
        /// The item's name or id.
        item: String,
        /// The field; the password, if none is named.
        field: String,
    },
    /// `cmd://name`: what a program prints.
    Command {
        /// What messages call it.
        name: String,
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// `vault://mount/path#field`: a secret in Vault.
    Vault(Box<VaultField>),
    /// An OAuth 2.0 token endpoint.
    OAuth2(Box<Grant>),
    /// What the program that starts the proxy gives itself.
    Provided(Provided),
}

/// What some references need besides themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// For `cmd://`: the program and its arguments. No shell reads them.
    pub command: &'a [String],
    /// For `vault://`: the server.
    pub vault: Option<&'a VaultConfig>,
}

impl Locator {
    /// Parses a credential reference that needs no [`Options`].
    ///
    /// # Errors
    /// As [`Self::parse_with`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, Options::default())
    }

    /// The token endpoint that `config` describes.
    ///
    /// # Errors
    /// [`ParseError::Invalid`] when something in it is missing or malformed.
    pub fn oauth2(config: &OAuth2Config) -> Result<Self, ParseError> {
        Ok(Self::OAuth2(Grant::parse(config)?.into()))
    }

    /// Parses a credential reference.
    ///
    /// # Errors
    /// [`ParseError::Invalid`] when the text is malformed, its scheme unknown, or an option is
    /// missing or of no use; [`ParseError::Unsupported`] when the scheme is known but not built.
    pub fn parse_with(text: &str, options: Options<'_>) -> Result<Self, ParseError> {
        // A paste may begin with white space.
        let pasted = text.trim_start();
        if KEY_BEGINNINGS.iter().any(|beginning| pasted.starts_with(beginning)) {
            return Err(ParseError::Secret);
        }
        if !options.command.is_empty() && !text.starts_with("cmd://") {
            return Err(invalid("a command is of use only to a `cmd://` reference"));
        }
        if options.vault.is_some() && !text.starts_with("vault://") {
            return Err(invalid("`vault` is of use only to a `vault://` reference"));
        }
        match text.split_once("://") {
            None => keyring(KEYRING_SERVICE, text),
            Some(("keyring", rest)) => match rest.split_once('/') {
                Some((service, account)) => keyring(service, account),
                None => Err(invalid("`keyring://` needs the form keyring://service/account")),
            },
            Some(("env", name)) => env(name),
            Some(("file", path)) => file(path),
            Some(("op", rest)) => one_password(text, rest),
            Some(("bw", rest)) => bitwarden(rest),
            Some(("cmd", name)) => command(name, options.command),
            Some(("vault", rest)) => {
                Ok(Self::Vault(VaultField::parse(rest, options.vault)?.into()))
            }
            Some((scheme, _)) if PLANNED.contains(&scheme) => Err(ParseError::Unsupported(
                format!("credential source `{scheme}://` is not built yet"),
            )),
            Some((scheme, _)) => Err(invalid(format!(
                "unknown credential source `{scheme}://`; known are a plain keyring name, \
                 keyring://, env://, file://, op://, bw://, cmd:// and vault://"
            ))),
        }
    }

    /// Whether what is there does not change while the process runs: it is never asked again
    /// because an upstream refuses it.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self, Self::Provided(provided) if provided.is_value())
    }

    /// The name by which the default environment variable of a route's key is made; only plain
    /// keyring names have one.
    pub fn plain_name(&self) -> Option<&str> {
        match self {
            Self::Keyring { service, account, is_encoded: false } if service == KEYRING_SERVICE => {
                Some(account)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyring { service, account, is_encoded } => {
                let options = if *is_encoded { GO_KEYRING } else { "" };
                write!(f, "keyring://{service}/{account}{options}")
            }
            Self::Env(name) => write!(f, "env://{name}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::OnePassword(reference) => f.write_str(reference),
            Self::Bitwarden { item, field } => write!(f, "bw://{item}/{field}"),
            Self::Command { name, .. } => write!(f, "cmd://{name}"),
            Self::Vault(field) => f.write_str(field.reference()),
            Self::OAuth2(grant) => write!(f, "oauth2 {}", grant.endpoint()),
            Self::Provided(provided) => write!(f, "{provided}"),
        }
    }
}

fn keyring(service: &str, account: &str) -> Result<Locator, ParseError> {
    let fit = |s: &str| !s.is_empty() && s.len() <= 1024 && !s.contains(char::is_control);
    if !fit(service) || !fit(account) {
        return Err(invalid("keyring service and account must be 1 to 1024 printable characters"));
    }
    let (account, is_encoded) = match account.strip_suffix(GO_KEYRING) {
        Some(account) if !account.is_empty() => (account, true),
        _ => (account, false),
    };
    if account.contains('?') {
        return Err(invalid(format!("the one option of keyring references is `{GO_KEYRING}`")));
    }
    Ok(Locator::Keyring { service: service.into(), account: account.into(), is_encoded })
}

fn env(name: &str) -> Result<Locator, ParseError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(invalid("`env://` needs the name of an environment variable"));
    }
    Ok(Locator::Env(name.into()))
}

fn file(path: &str) -> Result<Locator, ParseError> {
    let path = Path::new(path);
    if !path.is_absolute() || path.components().any(|c| c.as_os_str() == "..") {
        return Err(invalid("`file://` needs an absolute path without `..`: file:///path"));
    }
    Ok(Locator::File(path.into()))
}

fn one_password(text: &str, rest: &str) -> Result<Locator, ParseError> {
    let parts: Vec<_> = rest.split('?').next().unwrap_or_default().split('/').collect();
    let fits = |part: &&str| !part.is_empty() && !part.contains(char::is_control);
    if !(3..=4).contains(&parts.len()) || !parts.iter().all(fits) {
        return Err(invalid("`op://` needs the form op://vault/item/field, or with a section"));
    }
    Ok(Locator::OnePassword(text.into()))
}

fn bitwarden(rest: &str) -> Result<Locator, ParseError> {
    let (item, field) = rest.split_once('/').unwrap_or((rest, "password"));
    // The program would take a dash for an option.
    let fits =
        |part: &str| !part.is_empty() && !part.starts_with('-') && !part.contains(char::is_control);
    if !fits(item) || !fits(field) || field.contains('/') {
        return Err(invalid("`bw://` needs the form bw://item or bw://item/field"));
    }
    Ok(Locator::Bitwarden { item: item.into(), field: field.into() })
}

fn command(name: &str, argv: &[String]) -> Result<Locator, ParseError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_word) {
        return Err(invalid("`cmd://` needs a name of letters, digits, `-`, `_` and `.`"));
    }
    if argv.first().is_none_or(String::is_empty) || argv.iter().any(|word| word.contains('\0')) {
        return Err(invalid("`cmd://` needs `credential_command`: a program and its arguments"));
    }
    Ok(Locator::Command { name: name.into(), argv: argv.into() })
}

fn invalid(reason: impl Into<String>) -> ParseError {
    ParseError::Invalid(reason.into())
}

#[cfg(test)]
mod tests {
    use super::Locator;
    use crate::ParseError;

    #[test]
    fn every_form_parses_to_its_place() {
        let keyring = |service: &str, account: &str| Locator::Keyring {
            service: service.into(),
            account: account.into(),
            is_encoded: account == "encoded",
        };
        for (text, place) in [
            ("openai-key", keyring("nono", "openai-key")),
            ("keyring://corp/llm", keyring("corp", "llm")),
            ("keyring://corp/encoded?decode=go-keyring", keyring("corp", "encoded")),
            ("env://OPENAI_KEY", Locator::Env("OPENAI_KEY".into())),
            ("file:///run/key", Locator::File("/run/key".into())),
            ("op://v/i/s/f", Locator::OnePassword("op://v/i/s/f".into())),
            ("bw://i", Locator::Bitwarden { item: "i".into(), field: "password".into() }),
            ("bw://i/f", Locator::Bitwarden { item: "i".into(), field: "f".into() }),
        ] {
            assert_eq!(Locator::parse(text).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn a_key_in_the_place_of_a_reference_is_refused_and_not_shown() {
        for text in ["sk-proj-REAL", " sk-proj-REAL", "\n\tBearer REAL", "\u{a0}ghp_REAL"] {
            let error = Locator::parse(text).unwrap_err();
            assert!(matches!(error, ParseError::Secret));
            assert!(!error.to_string().contains("REAL"));
        }
    }

    #[test]
    fn malformed_and_unknown_forms_are_refused() {
        for text in [
            "",
            "a?b",
            "keyring://s/a?x=y",
            "keyring://x",
            "env://",
            "env://A-B",
            "env://1A",
            "file://rel",
            "file:///a/../b",
        ] {
            assert!(matches!(Locator::parse(text), Err(ParseError::Invalid(_))), "{text}");
        }
        assert!(matches!(Locator::parse("exec://x"), Err(ParseError::Invalid(_))));
        assert!(matches!(Locator::parse("apple-password://s/a"), Err(ParseError::Unsupported(_))));
    }
}
