//! What becomes of a request whose credential the upstream does not take: another is fetched, and
//! where that is safe, the request is sent once more.
//!
//! Refusals are rare, so nothing is copied for them: the client side gives the head of a request
//! back with the response that refuses it ([`Refused`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use nono_audit::Recorder;
use nono_credentials::{Doubt, Loaded, Rendered};
use tower::{Service, ServiceExt as _};

use super::{Onward, inject};
use crate::address::Reach;
use crate::body::Body;
use crate::error::Error;
use crate::exchange::{Exchange, Peer, Permitted, Ready, Way};
use crate::headers::asks_upgrade;
use crate::layers::Answer;
use crate::route::Route;
use crate::stack::Shared;
use crate::upstream::Refused;

/// An exchange with a credential that may turn out to be refused.
pub(crate) enum Renewing<S: Service<Exchange<Ready>>> {
    /// Sent, with what it takes to send it again.
    Sent(S::Future, Option<Again<S>>),
    /// Being renewed.
    Again(BoxFuture<'static, Answer>),
}

/// What it takes to send an exchange again, but for the head of its request.
pub(crate) struct Again<S> {
    shared: Arc<Shared>,
    inner: S,
    route: Arc<Route>,
    loaded: Arc<Loaded>,
    recorder: Arc<Recorder>,
    peer: Arc<Peer>,
    reach: Reach,
    /// As it was before the credential was put into it, where it is.
    path: Option<PathAndQuery>,
    version: Version,
    is_repeatable: bool,
}

impl<S> Renewing<S>
where
    S: Onward,
{
    /// Sends `exchange` with `loaded` through `inner`, which is ready.
    pub(super) fn send(
        shared: &Arc<Shared>,
        inner: &mut S,
        route: &Arc<Route>,
        loaded: Arc<Loaded>,
        exchange: Exchange<Permitted>,
    ) -> Result<Self, Error> {
        let again = Again {
            shared: Arc::clone(shared),
            inner: inner.clone(),
            route: Arc::clone(route),
            recorder: Arc::clone(&exchange.recorder),
            peer: Arc::clone(&exchange.peer),
            reach: exchange.stage.reach,
            path: match loaded.rendered() {
                Rendered::Header(..) => None,
                Rendered::Query(..) | Rendered::Path { .. } => {
                    exchange.request.uri().path_and_query().cloned()
                }
            },
            version: exchange.request.version(),
            is_repeatable: is_repeatable(&exchange.request),
            loaded,
        };
        let exchange = inject(shared, route, Some(&again.loaded), exchange)?;
        Ok(Self::Sent(inner.call(exchange), Some(again)))
    }
}

impl<S> Future for Renewing<S>
where
    S: Onward,
{
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            let again = match &mut *self {
                Self::Again(renewed) => return renewed.as_mut().poll(cx),
                Self::Sent(sent, again) => {
                    let answer = ready!(Pin::new(sent).poll(cx));
                    let doubt =
                        answer.as_ref().ok().and_then(|response| Doubt::of(response.status()));
                    match (answer, doubt) {
                        (Ok(response), Some(doubt)) => {
                            again.take().map(|again| again.renew(response, doubt))
                        }
                        (answer, _) => return Poll::Ready(answer),
                    }
                }
            };
            match again {
                Some(renewed) => *self = Self::Again(Box::pin(renewed)),
                // Not reached: a future that has ended is not asked again.
                None => return Poll::Pending,
            }
        }
    }
}

impl<S> Again<S>
where
    S: Onward,
{
    /// Sends the request of `response` again if there is another credential by then and it may be
    /// sent twice. Otherwise the credential is fetched again for the requests to come.
    async fn renew(mut self, mut response: Response<Body>, doubt: Doubt) -> Answer {
        let route = Arc::clone(&self.route);
        let Some(credential) = &route.credential else { return Ok(response) };
        let refused = response.extensions_mut().remove::<Refused>();
        let (Some(Refused(head)), true) = (refused, self.is_repeatable) else {
            credential.doubt(&self.loaded, doubt);
            return Ok(response);
        };
        let replacement = credential.replacement(&self.loaded, doubt);
        let Some(other) = replacement.await else { return Ok(response) };
        let place = response.body_mut().take_place();
        // Its connection, or its place on one, may be what the next needs.
        drop(response);
        let mut request = Request::from_parts(*head, Body::empty());
        self.restore(&mut request);
        let exchange = Exchange {
            request: Box::new(request),
            recorder: self.recorder,
            peer: self.peer,
            place,
            stage: Permitted { way: Way::Route(Arc::clone(&route)), reach: self.reach },
        };
        let exchange = inject(&self.shared, &route, Some(&other), exchange)?;
        self.inner.ready().await?.call(exchange).await
    }

    /// Takes off what was put on.
    fn restore(&mut self, request: &mut Request<Body>) {
        *request.version_mut() = self.version;
        match self.loaded.rendered() {
            Rendered::Header(name, _) => drop(request.headers_mut().remove(name)),
            Rendered::Query(..) | Rendered::Path { .. } => {
                *request.uri_mut() = self.path.take().map(Uri::from).unwrap_or_default();
            }
        }
        for (name, _) in self.loaded.headers() {
            request.headers_mut().remove(name);
        }
    }
}

/// Whether it may be sent twice: its method is idempotent (RFC 9110 §9.2.2) and it has no body.
fn is_repeatable(request: &Request<Body>) -> bool {
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    is_idempotent && request.body().is_end_stream() && !asks_upgrade(request.headers())
}
