//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere. What Python's
//! `keyring` and `secret-tool` write is read here, and the reverse.

use std::collections::HashMap;

use keyring::{Entry, Error};

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::locator::KEYRING_SERVICE;
use crate::{Locator, Secret};

/// See the module.
pub(super) struct Account {
    pub(super) service: String,
    pub(super) account: String,
}

impl Source for Account {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let (service, account) = (self.service.clone(), self.account.clone());
        Box::pin(inquiry.off_thread(move || read(&service, &account)))
    }
}

fn read(service: &str, account: &str) -> Result<Fetched, Fault> {
    match Entry::new(service, account).and_then(|entry| entry.get_secret()) {
        Ok(bytes) if !bytes.is_empty() => Ok(Secret::new(bytes).into()),
        Ok(_) | Err(Error::NoEntry) => {
            let name = Locator::Keyring { service: service.into(), account: account.into() };
            let name = name.plain_name().map_or_else(|| name.to_string(), str::to_owned);
            let hint = format!("store it with: python -m nono_py credential set {name}");
            Err(Fault::Missing(hint))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// Stores `secret` at `locator`, in place of what is there.
///
/// # Errors
/// The place is not in the keyring, the secret is empty or no text, or the keyring refused.
pub fn store(locator: &Locator, secret: &Secret) -> Result<(), Fault> {
    let Locator::Keyring { service, account } = locator else {
        let reason = "only the keyring is written to: give a name, or keyring://service/account";
        return Err(Fault::Unavailable(reason.into()));
    };
    // Some keyrings take only text; and what is pasted with a line ending is no key.
    let Ok(text) = std::str::from_utf8(secret.expose()) else {
        return Err(Fault::Unavailable("the key is not UTF-8".into()));
    };
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Fault::Unavailable("the key is empty, or holds a control character".into()));
    }
    let stored = Entry::new(service, account).and_then(|entry| entry.set_password(text));
    stored.map_err(|error| unavailable(&error))
}

/// The names of what is stored for plain references, in order.
///
/// # Errors
/// The keyring could not be asked.
pub fn names() -> Result<Vec<String>, Fault> {
    let found = || {
        // Also finds out which keyring there is.
        Entry::new(KEYRING_SERVICE, "any")?;
        let entries = keyring_core::Entry::search(&HashMap::from([("service", KEYRING_SERVICE)]))?;
        entries.iter().map(keyring_core::Entry::get_attributes).collect::<Result<Vec<_>, _>>()
    };
    let found = found().map_err(|error: Error| unavailable(&error))?;
    let names = found.into_iter().filter_map(|mut attributes| attributes.remove("username"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn unavailable(error: &Error) -> Fault {
    let reason = match (error, Entry::store_status()) {
        (Error::NoDefaultStore, Err(why)) => format!("there is no keyring: {why}"),
        // What is wrong with a secret's bytes would quote them.
        (Error::BadEncoding(_), _) => "what is stored is not text".into(),
        _ => format!("the keyring could not be asked: {error}"),
    };
    Fault::Unavailable(reason)
}
