//! `env://NAME`: a variable of this process's environment.

use std::env;

use futures_util::future::{BoxFuture, ready};

use crate::source::Source;
use crate::{Error, Locator, Secret};

pub(crate) struct Env(pub(crate) Locator);

impl Source for Env {
    fn fetch(&self) -> BoxFuture<'static, Result<Secret, Error>> {
        Box::pin(ready(read(&self.0)))
    }
}

fn read(locator: &Locator) -> Result<Secret, Error> {
    let Locator::Env(name) = locator else {
        return Err(Error::Unavailable { locator: locator.clone(), reason: "not env://".into() });
    };
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value.into_bytes())),
        Ok(_) | Err(env::VarError::NotPresent) => Err(Error::NotFound {
            locator: locator.clone(),
            hint: format!("set {name} in the environment of the process that starts the proxy"),
        }),
        Err(env::VarError::NotUnicode(_)) => Err(Error::Unavailable {
            locator: locator.clone(),
            reason: "its value is not UTF-8".into(),
        }),
    }
}
