//! Puts a route's credential on the request. The innermost layer: nothing else sees a secret,
//! and nothing after it is recorded of the request.

mod renewal;
mod slots;

use std::borrow::Cow;
use std::future::{Ready as Now, ready};
use std::mem::replace;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use http::{HeaderName, Request, Response, Uri};
use memchr::memmem;
use nono_credentials::{
    Credential, EscapedSecret, Injection, Loaded, Pattern, Rendered, SecretBuf,
};
use percent_encoding::{percent_decode, percent_decode_str};
use tower::{Layer, Service};

use crate::body::Body;
use crate::error::{Error, Refusal};
use crate::exchange::{Exchange, Permitted, Ready, Way};
use crate::layers::Answer;
use crate::layers::target::uri_of;
use crate::route::Route;
use crate::stack::Shared;

use renewal::Renewing;
use slots::Slots;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct InjectLayer(pub(crate) Arc<Shared>);

impl<S> Layer<S> for InjectLayer {
    type Service = Inject<S>;

    fn layer(&self, inner: S) -> Inject<S> {
        Inject { shared: Arc::clone(&self.0), inner }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Inject<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// What takes an exchange on from here: further down, and again if its credential is refused.
pub(crate) trait Onward:
    Service<Exchange<Ready>, Response = Response<Body>, Error = Error, Future: Send + Unpin>
    + Clone
    + Send
    + Unpin
    + 'static
{
}

impl<S> Onward for S where
    S: Service<Exchange<Ready>, Response = Response<Body>, Error = Error, Future: Send + Unpin>
        + Clone
        + Send
        + Unpin
        + 'static
{
}

impl<S> Service<Exchange<Permitted>> for Inject<S>
where
    S: Onward,
{
    type Response = Response<Body>;
    type Error = Error;
    // Boxed only where the credential has to be fetched first.
    type Future = Either<Either<Now<Answer>, S::Future>, Either<Renewing<S>, Fetching>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange<Permitted>) -> Self::Future {
        let injected = match &exchange.stage.way {
            Way::Tunnel(_) | Way::Forward(_) | Way::Intercept(_) | Way::Secure(..) => {
                pass(&self.shared, exchange)
            }
            Way::Route(route) => {
                let route = Arc::clone(route);
                match &route.credential {
                    None => inject(&self.shared, &route, None, exchange),
                    Some(credential) => {
                        let current = credential.current();
                        match current.as_ref().filter(|loaded| loaded.is_valid()) {
                            Some(loaded) if credential.is_fixed() => {
                                inject(&self.shared, &route, Some(loaded), exchange)
                            }
                            Some(loaded) => {
                                let loaded = Arc::clone(loaded);
                                let (shared, inner) = (&self.shared, &mut self.inner);
                                match Renewing::send(shared, inner, &route, loaded, exchange) {
                                    Ok(sent) => return Either::Right(Either::Left(sent)),
                                    Err(error) => Err(error),
                                }
                            }
                            None => {
                                return Either::Right(Either::Right(self.fetch(route, exchange)));
                            }
                        }
                    }
                }
            }
        };
        Either::Left(match injected {
            Ok(exchange) => Either::Right(self.inner.call(exchange)),
            Err(error) => Either::Left(ready(Err(error))),
        })
    }
}

/// An exchange whose credential is fetched first.
type Fetching = BoxFuture<'static, Answer>;

impl<S> Inject<S>
where
    S: Onward,
{
    /// Fetches the credential of `route`, and sends the exchange with it.
    fn fetch(&mut self, route: Arc<Route>, exchange: Exchange<Permitted>) -> Fetching {
        let shared = Arc::clone(&self.shared);
        // The service that was made ready goes with the future; a fresh clone stays.
        let fresh = self.inner.clone();
        let mut inner = replace(&mut self.inner, fresh);
        Box::pin(async move {
            let Some(credential) = &route.credential else {
                return inner.call(inject(&shared, &route, None, exchange)?).await;
            };
            let loaded = credential.valid().await.map_err(Error::Credential)?;
            if credential.is_fixed() {
                return inner.call(inject(&shared, &route, Some(&loaded), exchange)?).await;
            }
            Renewing::send(&shared, &mut inner, &route, loaded, exchange)?.await
        })
    }
}

fn ready_stage(sent: Option<Arc<Loaded>>) -> impl FnOnce(Permitted) -> Ready {
    |Permitted { way, reach }| Ready { way, reach, sent }
}

/// Lets a tunnel or forward through, which gets no credential.
fn pass(shared: &Shared, exchange: Exchange<Permitted>) -> Result<Exchange<Ready>, Error> {
    check_place(exchange.request.uri(), None, shared.token.as_bytes())?;
    Ok(exchange.advance(ready_stage(None)))
}

/// Puts what is loaded of the credential of `route` on the request.
fn inject(
    shared: &Shared,
    route: &Route,
    loaded: Option<&Arc<Loaded>>,
    mut exchange: Exchange<Permitted>,
) -> Result<Exchange<Ready>, Error> {
    let credential = route.credential.as_ref();
    let token = shared.token.as_bytes();
    check_place(exchange.request.uri(), credential.map(Credential::injection), token)?;
    let slots = Slots::of(&shared.key_headers, credential);
    if route.strips_credentials {
        slots.clear(&mut exchange.request)?;
    }
    if let Some(loaded) = loaded {
        // One that the client brought itself would decide, for some servers, whose account it is.
        if slots.are_taken(&exchange.request) {
            return Err(Refusal::ForeignCredential.into());
        }
        put(&mut exchange.request, loaded.rendered(), token)?;
        for (name, value) in loaded.headers() {
            exchange.request.headers_mut().insert(name.clone(), value.clone());
        }
        exchange.recorder.note(|record| record.managed_credential_active = Some(true));
    }
    Ok(exchange.advance(ready_stage(loaded.cloned())))
}

/// Where the token was a parameter of its own, it has been taken off; in a path only a route
/// that puts its credential there replaces it; anywhere else it would reach the upstream.
fn check_place(uri: &Uri, injection: Option<&Injection>, token: &[u8]) -> Result<(), Refusal> {
    let replaces = matches!(injection, Some(Injection::UrlPath { .. }));
    let misplaced = |text: &str| {
        // Decoding makes nothing longer, and most paths are shorter than a token.
        text.len() >= token.len() && {
            let decoded = Cow::from(percent_decode_str(text));
            memmem::find(&decoded, token).is_some()
        }
    };
    if !replaces && misplaced(uri.path()) || uri.query().is_some_and(misplaced) {
        return Err(Refusal::TokenMisplaced);
    }
    Ok(())
}

fn put(request: &mut Request<Body>, rendered: &Rendered, token: &[u8]) -> Result<(), Refusal> {
    match rendered {
        Rendered::Header(name, value) => {
            request.headers_mut().insert(HeaderName::clone(name), value.clone());
            Ok(())
        }
        Rendered::Query(name, value) => {
            *request.uri_mut() = uri_of(with_parameter(request.uri(), name, value).into())?;
            Ok(())
        }
        Rendered::Path { pattern, replacement } => {
            let replaced = with_replacement(request.uri(), pattern, replacement, token)?;
            *request.uri_mut() = uri_of(replaced.into())?;
            Ok(())
        }
    }
}

/// Path and query with the secret behind it, as the one parameter `name`: others are refused
/// before.
fn with_parameter(uri: &Uri, name: &str, value: &EscapedSecret) -> SecretBuf {
    let query = uri.query().unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "&" };
    let before = [uri.path(), "?", query, separator, name, "="].map(str::as_bytes);
    SecretBuf::concat(&[before.as_slice(), &[value.expose()]].concat())
}

/// Path and query with every occurrence of the client's pattern in the path replaced.
fn with_replacement(
    uri: &Uri,
    pattern: &Pattern,
    replacement: &EscapedSecret,
    token: &[u8],
) -> Result<SecretBuf, Refusal> {
    let shown = [pattern.before().as_bytes(), token, pattern.after().as_bytes()].concat();
    let path = uri.path().as_bytes();
    let (mut whole, mut replaced) = (SecretBuf::from(path), 0);
    // One at a time: two that follow each other share the slash between them.
    while let Some(at) = memmem::find(&whole, &shown) {
        let behind = at + shown.len();
        whole = SecretBuf::concat(&[&whole[..at], replacement.expose(), &whole[behind..]]);
        replaced += 1;
    }
    // Those that are escaped are found in what the client sent, which holds no secret.
    let decoded = Cow::from(percent_decode(path));
    if replaced == 0 || replaced != memmem::find_iter(&decoded, token).count() {
        return Err(Refusal::TokenMisplaced);
    }
    if let Some(query) = uri.query() {
        whole.extend_from_slice(b"?");
        whole.extend_from_slice(query.as_bytes());
    }
    Ok(whole)
}
