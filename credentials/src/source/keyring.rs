//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere.

use std::time::Duration;

use keyring::{Entry, Error};

use super::{Fault, Fetched, Fetching, Source, off_thread};
use crate::Secret;

/// See the module.
pub(super) struct Account {
    pub(super) service: String,
    pub(super) account: String,
}

impl Source for Account {
    fn fetch(&self, limit: Duration) -> Fetching<'_> {
        let (service, account) = (self.service.clone(), self.account.clone());
        Box::pin(off_thread(limit, move || read(&service, &account)))
    }
}

fn read(service: &str, account: &str) -> Result<Fetched, Fault> {
    match Entry::new(service, account).and_then(|entry| entry.get_secret()) {
        Ok(bytes) if !bytes.is_empty() => Ok(Secret::new(bytes).into()),
        Ok(_) | Err(Error::NoEntry) => {
            Err(Fault::Missing(format!("store it with: python -m keyring set {service} {account}")))
        }
        Err(error) => Err(Fault::Unavailable(format!("the keyring could not be asked: {error}"))),
    }
}
