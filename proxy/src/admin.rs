//! The listener for operators, apart from that for clients: metrics, and nothing else.

use std::convert::Infallible;
use std::future::pending;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nono_audit::{Metrics, Now};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::stack::Shared;

/// How many may ask at once; more wait in the kernel's queue.
const PLACES: usize = 8;

/// How long a connection may take. A scrape of Prometheus takes at most 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to pause when the system has no descriptors left, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The media type of the metrics.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers until it is dropped; without a listener it only waits.
pub(crate) async fn answer_to(listener: Option<(TcpListener, Metrics)>, shared: &Arc<Shared>) {
    match listener {
        Some((listener, metrics)) => serve(listener, shared, metrics).await,
        None => pending().await,
    }
}

async fn serve(listener: TcpListener, shared: &Arc<Shared>, metrics: Metrics) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return pending().await };
    let places = Arc::new(Semaphore::new(PLACES));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            let _ = timeout(ACCEPT_PAUSE, pending::<()>()).await;
            continue;
        };
        let (shared, metrics) = (Arc::clone(shared), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&request, &shared, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // How it ends concerns nobody but who asked.
            let _ = timeout(PATIENCE, connection).await;
            drop(place);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if request.uri().path() != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let most = shared.settings.max_sockets();
    let now = Now {
        connections: most.saturating_sub(shared.sockets.available_permits()),
        exchanges: shared.audit.running(),
        waiting: shared.audit.waiting(),
    };
    match metrics.render(now) {
        Ok(text) => {
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            *response.body_mut() = Full::new(text.into());
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}
