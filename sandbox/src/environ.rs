//! The environment of a sandboxed program: empty unless asked for, and never a variable that would
//! make the dynamic loader run code of somebody else's choosing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::error::Error;

/// A child's variables by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// A child's environment.
#[derive(Debug)]
pub(crate) struct Environment {
    /// What the child gets.
    pub variables: Variables,
    /// The names of the parent's variables that it does not get.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs there"))]
    pub dropped: Vec<OsString>,
}

/// Builds the child's environment: the parent's without loader variables if `inherit`, and over it
/// `explicit`, of which the last of a name wins.
///
/// # Errors
///
/// [`Error::VariableName`], [`Error::LoaderVariable`] or [`Error::NulByte`] for an explicit one.
pub(crate) fn build(
    inherit: bool,
    explicit: &[(OsString, OsString)],
) -> Result<Environment, Error> {
    // Reading them takes longer than all else here, and a lock.
    let parents = inherit.then(std::env::vars_os).into_iter().flatten();
    let (loader, mut variables): (Variables, Variables) =
        parents.partition(|(name, _)| is_loader_variable(name));
    for (name, value) in explicit {
        check(name, value)?;
        variables.insert(name.clone(), value.clone());
    }
    Ok(Environment { variables, dropped: loader.into_keys().collect() })
}

fn check(name: &OsStr, value: &OsStr) -> Result<(), Error> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
        return Err(Error::VariableName { name: name.to_owned() });
    }
    if is_loader_variable(name) {
        return Err(Error::LoaderVariable { name: name.to_owned() });
    }
    if value.as_encoded_bytes().contains(&0) {
        return Err(Error::NulByte { what: "the value of an environment variable" });
    }
    Ok(())
}

/// Whether the dynamic loader of some platform takes orders from the variable: it would run code
/// of somebody else's choosing in the child, before the child's own.
pub fn is_loader_variable(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"LD_")
        || name.starts_with(b"DYLD_")
        || matches!(name, b"LIBPATH" | b"SHLIB_PATH")
}
