//! One request to the collector, and what its answer means (OTLP specification, "OTLP/HTTP").

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nono_audit::otlp::{Rejected, Signal, explanation};
use nono_credentials::{Doubt, Loaded, Rendered, innermost};
use tokio::time::{Instant, timeout_at};

use super::Collector;
use super::backoff::LONGEST_ASKED;
use crate::scrub::{self, Secrets};

/// The longest answer that is read; what is beyond is no answer to this.
const ANSWER_LIMIT: usize = 64 * 1024;

/// How long a connection waits for the next batch: less than servers commonly keep one.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// What the collector says to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has it; but for what it says it does not want.
    Taken(Option<Rejected>),
    /// It does not take it, and never will.
    Refused(StatusCode, Option<String>),
}

/// The collector does not take a request now.
#[derive(Debug)]
pub(super) struct Unavailable {
    /// Why, in words.
    pub(super) why: String,
    /// For how long, if it says so.
    pub(super) asked: Option<Duration>,
}

impl Unavailable {
    fn new(why: String) -> Self {
        Self { why, asked: None }
    }
}

type Asked = Result<Answer, Unavailable>;

/// A response whose body has still to come, and the credential that was shown.
type Answered = (Response<Incoming>, Option<Arc<Loaded>>);

/// See the module.
pub(super) struct Client {
    collector: Arc<Collector>,
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(collector: Arc<Collector>) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(collector.tls.clone())
            .https_or_http()
            .enable_http1()
            .build();
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { collector, http }
    }

    /// Sends `message`. A credential that the collector refuses is fetched again, once; the next attempt
    /// is the caller's.
    pub(super) async fn send(&self, signal: Signal, message: &Bytes) -> Asked {
        let limit = self.collector.timeout;
        let until = Instant::now() + limit;
        let late = |_| Err(Unavailable::new(format!("it did not answer within {limit:?}")));
        let asking = timeout_at(until, self.send_in_time(signal, message));
        let (response, shown) = asking.await.unwrap_or_else(late)?;
        let secrets = self.collector.credential().zip(shown.as_ref());
        let secrets = secrets.map(|(credential, shown)| Secrets::new(credential, shown));
        judge(response, secrets.as_ref(), until).await
    }

    /// The head of the answer, and the credential that was shown for it.
    async fn send_in_time(&self, signal: Signal, message: &Bytes) -> Result<Answered, Unavailable> {
        let Some(credential) = self.collector.credential() else {
            return Ok((self.ask(signal, message, None).await?, None));
        };
        let missing = |error| Unavailable::new(format!("its credential cannot be had: {error}"));
        let loaded = credential.valid().await.map_err(missing)?;
        let response = self.ask(signal, message, Some(&loaded)).await?;
        if let Some(doubt) = Doubt::of(response.status())
            && let Some(other) = credential.replacement(&loaded, doubt).await
        {
            return Ok((self.ask(signal, message, Some(&other)).await?, Some(other)));
        }
        Ok((response, Some(loaded)))
    }

    async fn ask(
        &self,
        signal: Signal,
        message: &Bytes,
        loaded: Option<&Loaded>,
    ) -> Result<Response<Incoming>, Unavailable> {
        let mut request = Request::new(Full::new(message.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.collector.uri(signal).clone();
        *request.headers_mut() = self.collector.headers().clone();
        if let Some(loaded) = loaded {
            put(loaded, request.headers_mut());
        }
        self.http.request(request).await.map_err(|error| Unavailable::new(innermost(&error)))
    }
}

fn put(loaded: &Loaded, headers: &mut HeaderMap) {
    if let Rendered::Header(name, value) = loaded.rendered() {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in loaded.headers() {
        headers.insert(name.clone(), value.clone());
    }
}

/// What `response` means; its words are waited for until `until`, and the credential in them is
/// overwritten.
async fn judge(response: Response<Incoming>, secrets: Option<&Secrets>, until: Instant) -> Asked {
    let (head, body) = response.into_parts();
    // An answer that is cut, too long or never ends still has its status, and that is what counts.
    let body = timeout_at(until, Limited::new(body, ANSWER_LIMIT).collect()).await;
    let body = body.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
    // As long as before, so that it still is what it was.
    let body = match secrets {
        Some(secrets) => scrub::mask(body, secrets),
        None => body,
    };
    match head.status {
        status if status.is_success() => Ok(Answer::Taken(Rejected::read(&body))),
        status @ (StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT) => {
            let why = format!("it answered {status}");
            Err(Unavailable { why, asked: retry_after(&head.headers) })
        }
        // That is of the credential, which may be replaced, and not of what was sent.
        status @ StatusCode::UNAUTHORIZED if secrets.is_some() => {
            let said = explanation(&body).map(|said| format!(": {said}")).unwrap_or_default();
            let why = format!("it refuses its credential ({status}{said})");
            Err(Unavailable { why, asked: retry_after(&head.headers) })
        }
        status => Ok(Answer::Refused(status, explanation(&body))),
    }
}

/// For how long a collector asks to be left alone (RFC 9110 §10.2.3), within reason.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What no number holds is as long as can be.
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(asked.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::{LONGEST_ASKED, retry_after};

    #[test]
    fn seconds_and_dates_are_understood_within_reason() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999999"), Some(LONGEST_ASKED));
        assert_eq!(read(&"9".repeat(40)), Some(LONGEST_ASKED));
        assert_eq!(read(""), None);
        assert_eq!(read("+7"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_mins(1));
        assert!(read(&soon).unwrap().as_secs().abs_diff(60) < 5);
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
