//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere.

use futures_util::future::BoxFuture;
use keyring::Error as KeyringError;

use crate::source::{Source, off_thread};
use crate::{Error, Locator, Secret};

pub(crate) struct Keyring(pub(crate) Locator);

impl Source for Keyring {
    fn fetch(&self) -> BoxFuture<'static, Result<Secret, Error>> {
        let locator = self.0.clone();
        off_thread(locator.clone(), move || read(&locator))
    }
}

fn read(locator: &Locator) -> Result<Secret, Error> {
    let unavailable = |reason: String| Error::Unavailable { locator: locator.clone(), reason };
    let Locator::Keyring { service, account } = locator else {
        return Err(unavailable("not a keyring reference".into()));
    };
    let fetched = keyring::Entry::new(service, account).and_then(|entry| entry.get_secret());
    match fetched {
        Ok(bytes) if !bytes.is_empty() => Ok(Secret::new(bytes)),
        Ok(_) | Err(KeyringError::NoEntry) => Err(Error::NotFound {
            locator: locator.clone(),
            hint: format!("store it with: python -m keyring set {service} {account}"),
        }),
        Err(error) => Err(unavailable(format!("the keyring could not be asked: {error}"))),
    }
}
