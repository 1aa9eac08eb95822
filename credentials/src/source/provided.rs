//! What the program that starts the proxy gives itself: a value, or something to ask for one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Fault, Fetched, Fetching, Inquiry, Source};
use crate::Secret;

/// Something of the program's own that is asked for a secret, and asked again before what it
/// gave expires.
pub trait Provide: Send + Sync + 'static {
    /// Gives the secret. Called on a thread of its own, and may block.
    ///
    /// # Errors
    /// [`Fault`], whose text must not hold the secret.
    fn provide(&self) -> Result<Fetched, Fault>;
}

/// A value, or something to ask for one, under a name that may be shown.
///
/// Two are equal when they are the same one.
#[derive(Clone)]
pub struct Provided {
    name: Arc<str>,
    provider: Arc<dyn Provide>,
    is_value: bool,
}

impl Provided {
    /// A value that stays as it is.
    pub fn value(secret: Secret) -> Self {
        Self { name: "value".into(), provider: Arc::new(secret), is_value: true }
    }

    /// What `provider` gives whenever it is asked; messages call it `name`.
    pub fn by(name: &str, provider: impl Provide) -> Self {
        Self { name: name.into(), provider: Arc::new(provider), is_value: false }
    }

    /// Whether it will never give another.
    pub(crate) fn is_value(&self) -> bool {
        self.is_value
    }
}

impl Provide for Secret {
    fn provide(&self) -> Result<Fetched, Fault> {
        Ok(Self::copied(self.expose()).into())
    }
}

impl Source for Provided {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let provider = Arc::clone(&self.provider);
        Box::pin(inquiry.off_thread(move || {
            let fetched = provider.provide()?;
            if fetched.secret.is_empty() {
                return Err(Fault::Missing("what was given is empty".into()));
            }
            Ok(fetched)
        }))
    }
}

impl PartialEq for Provided {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.provider, &other.provider)
    }
}

impl Eq for Provided {}

impl Hash for Provided {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.provider).cast::<()>().hash(state);
    }
}

impl fmt::Display for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provided({})", self.name)
    }
}
