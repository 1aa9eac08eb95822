use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::*;

/// A frame of settings that sets nothing.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn sender(near: DuplexStream) -> SendRequest<Body> {
    let (sender, driver) = handshake(near).await.unwrap();
    tokio::spawn(drive(Arc::new(Mutex::new(driver))));
    sender
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static("https://upstream/");
    request
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dead_is_given_up() {
    let (near, mut far) = duplex(64 * 1024);
    let mut sender = sender(near).await;
    far.write_all(&SETTINGS).await.unwrap();
    let begun = Instant::now();
    let error = sender.send_request(request()).await.unwrap_err();
    assert!(matches!(explain(&error), Failure::ResponseTimeout), "{error:?}");
    assert!(begun.elapsed() <= SILENCE + SIGN_OF_LIFE + Duration::from_secs(1));
    assert!(!is_unprocessed(&error));
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_thinks_for_long_is_waited_for() {
    let (near, far) = duplex(64 * 1024);
    let silent = service_fn(|_| pending::<Result<Response<Empty<Bytes>>, Infallible>>());
    let serving = server::Builder::new(TokioExecutor::new());
    tokio::spawn(serving.serve_connection(TokioIo::new(far), silent));
    let mut sender = sender(near).await;
    let waited = timeout(Duration::from_hours(1), sender.send_request(request())).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(!sender.is_closed());
}

#[tokio::test]
async fn an_upstream_that_leaves_a_request_queued_and_closes_is_the_one_that_failed() {
    let (near, mut far) = duplex(64 * 1024);
    let mut sender = sender(near).await;
    // `MAX_CONCURRENT_STREAMS` is 0.
    far.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]).await.unwrap();
    // Its answer, after the preface, its own settings and window: the limit is known.
    let mut came = Vec::new();
    while !came.windows(9).any(|frame| frame == [0, 0, 0, 4, 1, 0, 0, 0, 0]) {
        far.read_buf(&mut came).await.unwrap();
    }
    let sending = sender.send_request(request());
    tokio::task::yield_now().await;
    drop(far);
    let error = sending.await.unwrap_err();
    assert!(matches!(explain(&error), Failure::BadResponse(_)), "{error:?}");
}

#[tokio::test]
async fn what_an_upstream_says_in_leaving_is_not_repeated() {
    let (near, mut far) = duplex(64 * 1024);
    let mut sender = sender(near).await;
    let quoted = b"bad key: sk-live-0123456789";
    let leaving = async {
        far.write_all(&SETTINGS).await.unwrap();
        let mut came = Vec::new();
        // The request: `HEADERS` of the first stream, whole and without a body.
        while !came.windows(6).any(|frame| frame == [1, 5, 0, 0, 0, 1]) {
            far.read_buf(&mut came).await.unwrap();
        }
        // `GOAWAY`, with `ENHANCE_YOUR_CALM`.
        let length = u8::try_from(8 + quoted.len()).unwrap();
        far.write_all(&[0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]).await.unwrap();
        far.write_all(quoted).await.unwrap();
    };
    let (sent, ()) = tokio::join!(sender.send_request(request()), leaving);
    let error = sent.unwrap_err();
    let Failure::BadResponse(reason) = explain(&error) else { panic!("{error:?}") };
    assert!(reason.ends_with("received: detected excessive load generating behavior"), "{reason}");
}
