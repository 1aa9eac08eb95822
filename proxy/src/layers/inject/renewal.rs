//! Requests of a route whose credential can change: it is fetched first where there is none, and
//! again where the upstream refuses it.

use std::mem::replace;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use tower::{Service, ServiceExt as _};

use super::{Inject, inject};
use crate::body::Body;
use crate::error::Error;
use crate::exchange::{Exchange, Permitted, Ready, Way};
use crate::headers::asks_upgrade;
use crate::layers::Answer;
use crate::route::Route;

impl<S> Inject<S>
where
    S: Service<Exchange<Ready>, Response = Response<Body>, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Sends the exchange with the credential; once more, where that is safe, if the upstream
    /// refused it and there is another by then. Any other refusal has it fetched again, for the
    /// requests to come.
    pub(super) fn renewing(
        &mut self,
        route: Arc<Route>,
        exchange: Exchange<Permitted>,
    ) -> BoxFuture<'static, Answer> {
        let shared = Arc::clone(&self.shared);
        // The service that was made ready goes with the future; a fresh clone stays.
        let fresh = self.inner.clone();
        let mut inner = replace(&mut self.inner, fresh);
        Box::pin(async move {
            let Some(credential) = &route.credential else {
                return inner.call(inject(&shared, &route, None, exchange)?).await;
            };
            let loaded = credential.valid().await.map_err(Error::Credential)?;
            let can_change = !credential.is_fixed();
            let second = if can_change { repeatable(&route, &exchange) } else { None };
            let first = inner.call(inject(&shared, &route, Some(&loaded), exchange)?).await;
            let mut response = first?;
            if !can_change || !is_refusal(response.status()) {
                return Ok(response);
            }
            let Some(mut second) = second else {
                credential.doubt(&loaded);
                return Ok(response);
            };
            let Some(other) = credential.replacement(&loaded).await else { return Ok(response) };
            second.place = response.body_mut().take_place();
            let second = inject(&shared, &route, Some(&other), second)?;
            inner.ready().await?.call(second).await
        })
    }
}

/// Whether an upstream says so that it does not take the credential (RFC 9110 §15.5.2, §15.5.4).
fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The same exchange again, if it may be sent twice: its method is idempotent (RFC 9110 §9.2.2)
/// and it has no body.
fn repeatable(route: &Arc<Route>, exchange: &Exchange<Permitted>) -> Option<Exchange<Permitted>> {
    let request = &exchange.request;
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !is_idempotent || !request.body().is_end_stream() || asks_upgrade(request.headers()) {
        return None;
    }
    let mut again = Request::new(Body::empty());
    request.method().clone_into(again.method_mut());
    request.uri().clone_into(again.uri_mut());
    request.headers().clone_into(again.headers_mut());
    *again.version_mut() = request.version();
    Some(Exchange {
        request: Box::new(again),
        recorder: Arc::clone(&exchange.recorder),
        peer: Arc::clone(&exchange.peer),
        place: None,
        stage: Permitted { way: Way::Route(Arc::clone(route)), reach: exchange.stage.reach },
    })
}
