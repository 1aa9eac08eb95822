//! The sources in use, each asked once for all that want its secret at the same time.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::source::{self, Fault, Fetched, Inquiry, Source};
use crate::{Error, Locator};

/// The sources in use.
pub struct Store {
    cells: DashMap<Locator, Arc<Cell>>,
    limit: Duration,
}

/// A source and what it said last.
struct Cell {
    source: Box<dyn Source>,
    inquiry: Inquiry,
    last: Mutex<Option<Answer>>,
}

struct Answer {
    when: Instant,
    result: Result<Arc<Fetched>, Error>,
}

impl Store {
    /// A store whose sources are each waited for at most `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { cells: DashMap::new(), limit }
    }

    /// The secret at `locator`, as its source gives it now. Many that ask at the same time make
    /// one fetch.
    ///
    /// # Errors
    /// [`Error`] when it could not be fetched.
    ///
    /// # Cancel safety
    /// A cancelled call leaves no trace; another waiting one takes the fetch over.
    pub(crate) async fn get(&self, locator: &Locator) -> Result<Arc<Fetched>, Error> {
        let asked = Instant::now();
        let cell = self.cell(locator);
        let mut last = cell.last.lock().await;
        if let Some(answer) = &*last
            && answer.when >= asked
        {
            return answer.result.clone();
        }
        let fetched = cell.source.fetch(&cell.inquiry).await;
        let result = fetched.and_then(unexpired).map(Arc::new);
        let result = result.map_err(|fault| Error::new(locator, fault, self.limit));
        *last = Some(Answer { when: Instant::now(), result: result.clone() });
        result
    }

    /// Tries whether there is a secret at `locator` that can stand in a header.
    ///
    /// # Errors
    /// [`Error`] when there is none, or it cannot.
    pub async fn check(&self, locator: &Locator) -> Result<(), Error> {
        let fetched = self.get(locator).await?;
        let unusable = |reason| Error::Unusable { locator: locator.clone(), reason };
        fetched.secret.to_header_value().map(drop).map_err(unusable)
    }

    /// The file whose change is a change of the secret at `locator`, if there is one.
    pub(crate) fn file(&self, locator: &Locator) -> Option<PathBuf> {
        self.cell(locator).source.file().map(Into::into)
    }

    fn cell(&self, locator: &Locator) -> Arc<Cell> {
        let new = || {
            let inquiry = Inquiry::new(self.limit);
            Arc::new(Cell { source: source::open(locator), inquiry, last: Mutex::new(None) })
        };
        Arc::clone(&self.cells.entry(locator.clone()).or_insert_with(new))
    }
}

fn unexpired(fetched: Fetched) -> Result<Fetched, Fault> {
    if fetched.expires.is_some_and(|expires| expires <= Instant::now()) {
        return Err(Fault::Unavailable("what its source gave has expired already".into()));
    }
    Ok(fetched)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("sources", &self.cells.len()).finish_non_exhaustive()
    }
}
