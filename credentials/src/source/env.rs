//! `env://NAME`: a variable of this process's environment, as it is when it is asked for.

use std::env;

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::Secret;
use crate::environment::with_environment;

/// See the module.
pub(super) struct Variable(pub(super) String);

impl Source for Variable {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let name = self.0.clone();
        Box::pin(inquiry.off_thread(move || read(&name)))
    }
}

fn read(name: &str) -> Result<Fetched, Fault> {
    match with_environment(|| env::var(name))? {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value.into_bytes()).into()),
        Ok(_) | Err(env::VarError::NotPresent) => Err(Fault::Missing(format!(
            "set {name} in the environment of the process that starts the proxy"
        ))),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Fault::Unavailable("its value is not UTF-8".into()))
        }
    }
}
