//! Fetched secrets, each fetched once.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::OnceCell;

use crate::{Error, Locator, Secret, source};

/// Fetches secrets and keeps what it fetched. Many requests for one secret make one fetch; a
/// failed fetch is not kept, so the next request tries again.
#[derive(Default)]
pub struct Store {
    cells: DashMap<Locator, Arc<OnceCell<Arc<Secret>>>>,
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the secret at `locator`, fetching it if it is not here yet.
    ///
    /// # Errors
    /// [`Error`] when it could not be fetched.
    ///
    /// # Cancel safety
    /// A cancelled call leaves no trace; another waiting one takes the fetch over.
    pub async fn get(&self, locator: &Locator) -> Result<Arc<Secret>, Error> {
        let cell = Arc::clone(&self.cells.entry(locator.clone()).or_default());
        let fetch = || async { source::fetch(locator).await.map(Arc::new) };
        cell.get_or_try_init(fetch).await.cloned()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("secrets", &self.cells.len()).finish()
    }
}
