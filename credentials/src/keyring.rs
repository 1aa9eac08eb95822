//! The OS keyring: Secret Service on Linux, the platform's own store elsewhere.

use keyring::{Entry, Error};

use crate::Secret;
use crate::source::Fault;

/// Reads what `account` of `service` has.
pub(crate) fn read(service: &str, account: &str) -> Result<Secret, Fault> {
    match Entry::new(service, account).and_then(|entry| entry.get_secret()) {
        Ok(bytes) if !bytes.is_empty() => Ok(Secret::new(bytes)),
        Ok(_) | Err(Error::NoEntry) => {
            Err(Fault::Missing(format!("store it with: python -m keyring set {service} {account}")))
        }
        Err(error) => Err(Fault::Unavailable(format!("the keyring could not be asked: {error}"))),
    }
}
