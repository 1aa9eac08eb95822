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
use crate::layers::{Step, target};
use crate::stack::Shared;
use crate::target::Target;
use crate::token::{self, Token};

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
        let Shared { token, settings, .. } = &*self.0;
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
                Form::Tunnel | Form::Forward => {
                    // For the record alone: nothing is judged by it.
                    if let Some(target) = asked_for(exchange.request.uri(), form) {
                        target::note(&exchange.recorder, &target);
                    }
                    Refusal::NoProxyToken
                }
            };
            return Err(refusal.into());
        }
        // What is left of it counted for nothing: it stands in a header for something else, or has
        // a scheme that is not known. Only now, since this search takes longer the more of the token
        // a stranger has guessed.
        let holds = |_: &HeaderName, value: &HeaderValue| token.is_held_by(value);
        remove_where(exchange.request.headers_mut(), holds, |_| {});
        check_names(&mut exchange.request, token)?;
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
        let (in_proxy_header, in_key_header) = take_from_headers(headers, key_headers, token);
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

/// The host that a tunnel or forward names, if it can be understood.
fn asked_for(uri: &Uri, form: Form) -> Option<Target> {
    Target::from_authority(uri.authority()?, (form == Form::Forward).then_some(80))
}

/// Whether `Proxy-Authorization` carries the token, and whether one of the `key_headers` does;
/// those that do are removed, with all their values.
fn take_from_headers(
    headers: &mut HeaderMap,
    key_headers: &[HeaderName],
    token: &Token,
) -> (bool, bool) {
    let (mut in_proxy_header, mut in_key_header) = (false, false);
    let carries = |name: &HeaderName, value: &HeaderValue| {
        (*name == PROXY_AUTHORIZATION || key_headers.contains(name)) && token.is_in(value)
    };
    remove_where(headers, carries, |name| match name {
        &PROXY_AUTHORIZATION => in_proxy_header = true,
        _ => in_key_header = true,
    });
    (in_proxy_header, in_key_header)
}

/// Removes the headers that have a value for which `is_wanted`, and calls `seen` for each. Those
/// that are there are passed over, since there are few, and to look each name up costs more.
fn remove_where(
    headers: &mut HeaderMap,
    is_wanted: impl Fn(&HeaderName, &HeaderValue) -> bool,
    mut seen: impl FnMut(&HeaderName),
) {
    loop {
        // Most values are too short to hold a token in any form.
        let mut long = headers.iter().filter(|(_, value)| value.len() >= token::LENGTH);
        let wanted = long.find(|(name, value)| is_wanted(name, value));
        let Some(name) = wanted.map(|(name, _)| name.clone()) else { return };
        seen(&name);
        headers.remove(name);
    }
}

/// Sees that no name holds the token, which would go on with it.
fn check_names(request: &mut Request<Body>, token: &Token) -> Result<(), Refusal> {
    // Hardly any is as long.
    let is_held = |name: &str| name.len() >= token::LENGTH && token.is_within(name);
    if is_held(request.method().as_str()) {
        return Err(Refusal::Method);
    }
    let headers = request.headers_mut();
    while let Some(name) = headers.keys().find(|name| is_held(name.as_str())).cloned() {
        headers.remove(name);
    }
    Ok(())
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
