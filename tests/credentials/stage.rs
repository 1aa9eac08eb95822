//! Files of keys, upstreams that judge them, and providers that say what they were asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use nono_credentials::{Fault, Fetched, Provide, Provided, Secret};
use nono_proxy::{ProxyConfig, RouteConfig};
use support::{Origin, Reaction, Seen, TestProxy, route};

/// Longer than anything takes that a test waits for.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// A file with a key, replaced as programs that rotate keys do: by a rename.
pub(crate) struct KeyFile {
    dir: tempfile::TempDir,
}

impl KeyFile {
    pub(crate) fn new(key: &str) -> Self {
        let file = Self::missing();
        file.replace(key);
        file
    }

    pub(crate) fn missing() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn locator(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub(crate) fn replace(&self, key: &str) {
        let next = self.dir.path().join("next");
        fs::write(&next, key).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, self.path()).unwrap();
    }
}

/// Gives one answer after the other, the last one for ever, and counts.
#[derive(Clone)]
pub(crate) struct Script {
    answers: Arc<Mutex<Vec<Answer>>>,
    asked: Arc<AtomicUsize>,
}

/// A key and how long it is valid, or a fault's reason.
pub(crate) type Answer = Result<(&'static str, Option<Duration>), &'static str>;

impl Script {
    pub(crate) fn new(answers: &[Answer]) -> Self {
        let answers = answers.iter().rev().copied().collect();
        Self { answers: Arc::new(Mutex::new(answers)), asked: Arc::default() }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn provided(&self) -> Provided {
        Provided::by("script", self.clone())
    }
}

impl Provide for Script {
    fn provide(&self) -> Result<Fetched, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().copied() };
        let (key, life) =
            answer.unwrap().map_err(|reason| Fault::Unavailable(reason.to_owned()))?;
        let expires = life.map(|life| Instant::now() + life);
        Ok(Fetched { secret: Secret::new(key.into()), expires })
    }
}

/// Gives another key each time.
#[derive(Clone, Default)]
pub(crate) struct Endless(Arc<AtomicUsize>);

impl Endless {
    /// The key that is given after `before` others.
    pub(crate) fn key(before: usize) -> String {
        format!("Key-Number-{before:04}")
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn provided(&self) -> Provided {
        Provided::by("endless", self.clone())
    }
}

impl Provide for Endless {
    fn provide(&self) -> Result<Fetched, Fault> {
        let key = Self::key(self.0.fetch_add(1, Ordering::SeqCst));
        Ok(Secret::new(key.into()).into())
    }
}

/// An origin that takes the keys in `valid` and answers 401 to others.
pub(crate) async fn judge(valid: &Arc<Mutex<Vec<String>>>) -> Origin {
    let valid = Arc::clone(valid);
    Origin::start(None, move |seen| {
        let is_valid = valid.lock().unwrap().iter().any(|valid| valid == key(seen));
        answer(if is_valid { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
    })
    .await
}

pub(crate) fn keys(valid: &[&str]) -> Arc<Mutex<Vec<String>>> {
    Arc::new(Mutex::new(valid.iter().map(ToString::to_string).collect()))
}

pub(crate) fn answer(status: StatusCode) -> Reaction {
    let body = Full::new(Bytes::from_static(b"hello")).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// The key that a request carries.
pub(crate) fn key(seen: &Seen) -> &str {
    seen.header("authorization").trim_start_matches("Bearer ")
}

/// The keys that have reached an origin, in order.
pub(crate) fn keys_seen(origin: &Origin) -> Vec<String> {
    origin.seen().iter().map(|seen| key(seen).to_owned()).collect()
}

/// A route to `origin` without a credential yet.
pub(crate) fn open_route(origin: &Origin) -> RouteConfig {
    RouteConfig { credential_key: None, ..route("/api", origin.addr) }
}

pub(crate) async fn proxy(route: RouteConfig) -> TestProxy {
    TestProxy::start(ProxyConfig { routes: vec![route], ..ProxyConfig::default() }).await
}

/// Asks again until `is_so`.
pub(crate) async fn until<F, A>(mut ask: F, is_so: impl Fn(&A) -> bool) -> A
where
    F: AsyncFnMut() -> A,
{
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let asking = async {
        loop {
            let answer = ask().await;
            if is_so(&answer) {
                return answer;
            }
            pause.tick().await;
        }
    };
    tokio::time::timeout(HANG, asking).await.expect("it never came to be so")
}
