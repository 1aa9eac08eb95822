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
    /// When its fetch began: what its source held before that, it may not have told.
    began: Instant,
    result: Result<Arc<Fetched>, Error>,
}

impl Store {
    /// A store whose sources are each waited for at most `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { cells: DashMap::new(), limit }
    }

    /// The secret at `locator`, as its source gave it at `asked` or later. Many that ask at the same
    /// time make one fetch.
    ///
    /// # Errors
    /// [`Error`] when it could not be fetched.
    ///
    /// # Cancel safety
    /// A cancelled call leaves no trace; another waiting one takes the fetch over.
    pub(crate) async fn get(
        &self,
        locator: &Locator,
        asked: Instant,
    ) -> Result<Arc<Fetched>, Error> {
        let cell = self.cell(locator);
        let mut last = cell.last.lock().await;
        if let Some(answer) = &*last
            && answer.began >= asked
        {
            return answer.result.clone();
        }
        let began = Instant::now();
        let fetched = cell.source.fetch(&cell.inquiry).await;
        let result = fetched.and_then(unexpired).map(Arc::new);
        let result = result.map_err(|fault| Error::new(locator, fault, self.limit));
        *last = Some(Answer { began, result: result.clone() });
        result
    }

    /// Tries whether there is a secret at `locator` that can stand in a header.
    ///
    /// # Errors
    /// [`Error`] when there is none, or it cannot.
    pub async fn check(&self, locator: &Locator) -> Result<(), Error> {
        let fetched = self.get(locator, Instant::now()).await?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use tokio::sync::{Mutex, Notify, Semaphore};

    use super::{Cell, Store};
    use crate::source::{Fetching, Inquiry, Source};
    use crate::{Locator, Secret};

    /// Says how often it has been asked, when it is let do so.
    struct Held {
        asked: AtomicUsize,
        was_asked: Notify,
        answers: Semaphore,
    }

    fn held() -> Arc<Held> {
        let (asked, was_asked) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Held { asked, was_asked, answers: Semaphore::new(0) })
    }

    impl Source for Arc<Held> {
        fn fetch<'a>(&'a self, _: &'a Inquiry) -> Fetching<'a> {
            Box::pin(async {
                let count = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
                self.was_asked.notify_one();
                self.answers.acquire().await.unwrap().forget();
                Ok(Secret::new(count.to_string().into()).into())
            })
        }
    }

    #[tokio::test]
    async fn who_asks_while_a_fetch_runs_is_not_given_what_it_may_have_read_before() {
        let store = Store::new(Duration::from_secs(1));
        let (locator, source) = (Locator::parse("env://X").unwrap(), held());
        let cell = Cell {
            source: Box::new(Arc::clone(&source)),
            inquiry: Inquiry::new(store.limit),
            last: Mutex::default(),
        };
        store.cells.insert(locator.clone(), Arc::new(cell));
        let get = async |asked| {
            let fetched = store.get(&locator, asked).await.unwrap();
            String::from_utf8(fetched.secret.expose().to_vec()).unwrap()
        };
        let before = Instant::now();
        let later = async {
            source.was_asked.notified().await;
            source.answers.add_permits(2);
            get(Instant::now()).await
        };
        let (first, beside, later) = tokio::join!(get(before), get(before), later);
        assert_eq!((&*first, &*beside, &*later), ("1", "1", "2"));
        assert_eq!(get(before).await, "2", "all that is new enough is shared");
    }
}
