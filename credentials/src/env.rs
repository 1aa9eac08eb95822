//! `env://NAME`: a variable of this process's environment.

use std::env;

use crate::Secret;
use crate::source::Fault;

/// Reads the variable `name`.
pub(crate) fn read(name: &str) -> Result<Secret, Fault> {
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value.into_bytes())),
        Ok(_) | Err(env::VarError::NotPresent) => Err(Fault::Missing(format!(
            "set {name} in the environment of the process that starts the proxy"
        ))),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Fault::Unavailable("its value is not UTF-8".into()))
        }
    }
}
