//! Lets only those pass who show the session token, and takes the token off the request.
//!
//! Tunnels and forwards show it in `Proxy-Authorization`. Requests to routes show it wherever an
//! SDK puts its API key, since the token is what the SDK was given as one: in a header, a query
//! parameter, or the path. This comes before any question of what is allowed, so that a stranger
//! learns nothing from the answers.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use nono_audit::{AuthMechanism, AuthOutcome};
use percent_encoding::percent_decode_str;

use crate::body::Body;
use crate::error::{Error, Refusal};
use crate::exchange::{Authenticated, Exchange, Form, Received};
use crate::layers::Step;
use crate::stack::Shared;
use crate::token::Token;

/// The header of Google's APIs, which take a key in the query as well.
pub(crate) const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The headers in which SDKs carry their API key.
pub(crate) const KEY_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    GOOGLE_KEY,
];

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Authenticate(pub(crate) Arc<Shared>);

impl Step<Received> for Authenticate {
    type To = Authenticated;

    fn step(&self, mut exchange: Exchange<Received>) -> Result<Exchange<Authenticated>, Error> {
        let Shared { token, key_headers, settings, .. } = &*self.0;
        let form = exchange.stage.form;
        let shown = self.take(&mut exchange.request, form)?;
        let (shown, outcome) = match (shown, &exchange.peer.inside) {
            // It was shown when the tunnel was asked for.
            (_, Some(inside)) => (shown.or(inside.mechanism), inside.outcome),
            (Some(_), None) => (shown, AuthOutcome::Succeeded),
            (None, None) if settings.require_auth => (None, AuthOutcome::Failed),
            (None, None) => (None, AuthOutcome::NotRequired),
        };
        exchange.recorder.note(|record| {
            record.auth_mechanism = shown;
            record.auth_outcome = Some(outcome);
        });
        if outcome == AuthOutcome::Failed {
            let refusal = match form {
                Form::Route | Form::Inside => Refusal::NoRouteToken,
                Form::Tunnel | Form::Forward => Refusal::NoProxyToken,
            };
            return Err(refusal.into());
        }
        // Only now, since this search takes longer the more of the token a stranger has guessed.
        clear_remains(exchange.request.headers_mut(), key_headers, token);
        Ok(exchange.advance(|Received { form }| Authenticated { form }))
    }
}

impl Authenticate {
    /// Takes the token off the request wherever clients show it, and says where it counted. In
    /// the path it stays, to be replaced or refused when the route is known.
    fn take(
        &self,
        request: &mut Request<Body>,
        form: Form,
    ) -> Result<Option<AuthMechanism>, Refusal> {
        let Shared { token, key_headers, path_tokens, .. } = &*self.0;
        let headers = request.headers_mut();
        let in_proxy_header = take_token(headers, &[PROXY_AUTHORIZATION], token);
        let in_key_header = take_token(headers, key_headers, token);
        let in_query = take_from_query(request.uri_mut(), token)?;
        if matches!(form, Form::Tunnel | Form::Forward) {
            return Ok(in_proxy_header.then_some(AuthMechanism::ProxyAuthorization));
        }
        Ok(if in_proxy_header {
            Some(AuthMechanism::ProxyAuthorization)
        } else if in_key_header {
            Some(AuthMechanism::PhantomHeader)
        } else if in_query {
            Some(AuthMechanism::PhantomQuery)
        } else if *path_tokens && token.is_within(request.uri().path()) {
            Some(AuthMechanism::PhantomPath)
        } else {
            None
        })
    }
}

/// Whether a header of one of these `names` carries the token; those that do are removed, with
/// all their values. The headers that are there are passed over, since there are few, and to look
/// each name up costs more.
fn take_token(headers: &mut HeaderMap, names: &[HeaderName], token: &Token) -> bool {
    remove_where(headers, |name, value| names.contains(name) && token.is_in(value))
}

/// Removes the headers that have a value for which `is_wanted`, and says whether there were any.
fn remove_where(
    headers: &mut HeaderMap,
    is_wanted: impl Fn(&HeaderName, &HeaderValue) -> bool,
) -> bool {
    let mut found = false;
    loop {
        let wanted = headers.iter().find(|(name, value)| is_wanted(name, value));
        let Some(name) = wanted.map(|(name, _)| name.clone()) else { return found };
        headers.remove(name);
        found = true;
    }
}

/// Whether a query parameter is the token; all that are, are removed.
fn take_from_query(uri: &mut Uri, token: &Token) -> Result<bool, Refusal> {
    let Some(query) = uri.query() else { return Ok(false) };
    let is_token = |pair: &str| {
        let value = pair.split_once('=').map_or(pair, |(_, value)| value);
        token.is(&Cow::from(percent_decode_str(value)))
    };
    if !query.split('&').any(is_token) {
        return Ok(false);
    }
    let rest: Vec<_> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let mark = if rest.is_empty() { "" } else { "?" };
    let whole = format!("{}{mark}{}", uri.path(), rest.join("&"));
    *uri = with_path(uri, whole)?;
    Ok(true)
}

/// `uri` with another path and query.
fn with_path(uri: &Uri, path_and_query: String) -> Result<Uri, Refusal> {
    let wrong = Refusal::Malformed("its target is not a URL");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).map_err(|_| wrong)?);
    Uri::from_parts(parts).map_err(|_| wrong)
}

/// Removes the headers for keys that hold the token in a form that shows nothing, like a scheme
/// that is not known.
fn clear_remains(headers: &mut HeaderMap, key_headers: &[HeaderName], token: &Token) {
    remove_where(headers, |name, value| key_headers.contains(name) && token.is_held_by(value));
}
