use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use nono_audit::{Bounds, Decision, Log, Outcome, Overflow, Reader, Session};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::RecordLayer;
use crate::body::Body;
use crate::config::{ProxyConfig, Settings};
use crate::exchange::{Arrival, Exchange, Peer, Received};
use crate::stack::Shared;
use crate::token::Token;

/// Where in a layer a bug is.
#[derive(Debug, Clone, Copy)]
enum Bug {
    /// Before there is anything to wait for.
    AtOnce,
    /// After it has waited.
    Later,
    /// After the answer is there, before its body is read.
    WithTheAnswer,
}

async fn inner(exchange: Exchange<Received>, bug: Bug) -> Result<Response<Body>, Infallible> {
    tokio::task::yield_now().await;
    assert!(!matches!(bug, Bug::Later), "on purpose");
    drop(exchange);
    Ok(Response::new(Body::answer("whole", Outcome::Complete)))
}

#[tokio::test]
async fn a_panic_in_a_layer_leaves_one_record_that_says_so() {
    let config = ProxyConfig::default();
    let bounds = Bounds { records: 10, disk: 0, overflow: Overflow::Refuse };
    let (sender, log) = Log::open(Session(7), bounds, Vec::new()).unwrap();
    let mut records = log.subscribe(Reader::holding("test"));
    let settings = Settings::parse(&config).unwrap();
    let shared = Arc::new(Shared::new(settings, config.bind, Token::generate().unwrap(), sender));
    for bug in [Bug::AtOnce, Bug::Later, Bug::WithTheAnswer] {
        let broken = RecordLayer(Arc::clone(&shared)).layer(service_fn(move |exchange| {
            assert!(!matches!(bug, Bug::AtOnce), "on purpose");
            inner(exchange, bug)
        }));
        let request = Box::new(Request::new(Body::empty()));
        let peer = Arc::new(Peer::new("127.0.0.1:9".into()));
        let exchange = async move {
            let answer = broken.oneshot(Arrival { request, peer }).await;
            // The answer is dropped by the panic, unread.
            assert!(!matches!(bug, Bug::WithTheAnswer), "on purpose");
            answer
        };
        let ended = tokio::task::LocalSet::new()
            .run_until(async { tokio::task::spawn_local(exchange).await })
            .await;
        assert!(ended.unwrap_err().is_panic());
        let written = records.drain();
        assert_eq!(written.len(), 1, "{bug:?}");
        assert_eq!((written[0].outcome, written[0].decision), (Outcome::Refused, Decision::Deny));
        assert!(written[0].reason.as_deref().unwrap().contains("the proxy failed"), "{bug:?}");
    }
    assert!(log.active().is_empty());
}
