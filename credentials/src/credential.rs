//! The credential of one route: where it is kept, where it goes, and its rendered form.

use std::sync::OnceLock;

use crate::{Error, Injection, Locator, Rendered, Store};

/// The credential of one route.
#[derive(Debug)]
pub struct Credential {
    locator: Locator,
    injection: Injection,
    rendered: OnceLock<Rendered>,
}

impl Credential {
    /// A credential that is kept at `locator` and goes where `injection` says. Fetches nothing.
    pub fn new(locator: Locator, injection: Injection) -> Self {
        Self { locator, injection, rendered: OnceLock::new() }
    }

    /// Where it is kept.
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Where on a request it goes.
    pub fn injection(&self) -> &Injection {
        &self.injection
    }

    /// Its rendered form, if it has been loaded.
    pub fn ready(&self) -> Option<&Rendered> {
        self.rendered.get()
    }

    /// Its rendered form, fetched from `store` if need be.
    ///
    /// # Errors
    /// [`Error`] when it cannot be fetched, or when its bytes may not stand where it goes.
    pub async fn load(&self, store: &Store) -> Result<&Rendered, Error> {
        if let Some(rendered) = self.rendered.get() {
            return Ok(rendered);
        }
        let secret = store.get(&self.locator).await?;
        let rendered = self
            .injection
            .render(&secret)
            .map_err(|reason| Error::Unusable { locator: self.locator.clone(), reason })?;
        Ok(self.rendered.get_or_init(|| rendered))
    }
}
