//! `env://NAME`: a variable of this process's environment.

use std::env;
use std::future::ready;

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::Secret;

/// See the module.
pub(super) struct Variable(pub(super) String);

impl Source for Variable {
    fn fetch<'a>(&'a self, _: &'a Inquiry) -> Fetching<'a> {
        Box::pin(ready(read(&self.0)))
    }
}

fn read(name: &str) -> Result<Fetched, Fault> {
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value.into_bytes()).into()),
        Ok(_) | Err(env::VarError::NotPresent) => Err(Fault::Missing(format!(
            "set {name} in the environment of the process that starts the proxy"
        ))),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Fault::Unavailable("its value is not UTF-8".into()))
        }
    }
}
