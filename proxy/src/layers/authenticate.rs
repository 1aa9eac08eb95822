//! Lets only those pass who show the session token, and takes the token off the request.
//!
//! Tunnels and forwards show it in `Proxy-Authorization`. Requests to routes show it wherever an
//! SDK puts its API key, since the token is what the SDK was given as one. This comes before
//! any question of what is allowed, so that a stranger learns nothing from the answers.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use nono_audit::{AuthMechanism, AuthOutcome};

use crate::error::{Error, Refusal};
use crate::exchange::{Authenticated, Exchange, Form, Received};
use crate::layers::Step;
use crate::stack::Shared;
use crate::token::Token;

/// The headers in which SDKs carry their API key.
pub(crate) const KEY_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Authenticate(pub(crate) Arc<Shared>);

impl Step<Received> for Authenticate {
    type To = Authenticated;

    fn step(&self, mut exchange: Exchange<Received>) -> Result<Exchange<Authenticated>, Error> {
        let Shared { token, key_headers, url_tokens, .. } = &*self.0;
        let form = exchange.stage.form;
        let headers = exchange.request.headers_mut();
        let in_proxy_header = take_token(headers, &PROXY_AUTHORIZATION, token);
        // The token never goes further, whichever header it was in.
        let in_key_header =
            key_headers.iter().fold(false, |found, name| take_token(headers, name, token) | found);
        let shown = match form {
            _ if in_proxy_header => Some(AuthMechanism::ProxyAuthorization),
            Form::Tunnel | Form::Forward => None,
            Form::Route if in_key_header => Some(AuthMechanism::PhantomHeader),
            Form::Route if *url_tokens => in_url(exchange.request.uri(), token),
            Form::Route => None,
        };
        exchange.recorder.note(|record| {
            record.auth_mechanism = shown;
            let outcome =
                if shown.is_some() { AuthOutcome::Succeeded } else { AuthOutcome::Failed };
            record.auth_outcome = Some(outcome);
        });
        match (shown, form) {
            (Some(mechanism), _) => {
                Ok(exchange.advance(|Received { form }| Authenticated { form, mechanism }))
            }
            (None, Form::Route) => Err(Refusal::NoRouteToken.into()),
            (None, Form::Tunnel | Form::Forward) => Err(Refusal::NoProxyToken.into()),
        }
    }
}

/// Whether header `name` carries the token; if it does, the header is removed, all of it.
fn take_token(headers: &mut HeaderMap, name: &HeaderName, token: &Token) -> bool {
    let found = headers.get_all(name).iter().fold(false, |found, value| found | token.is_in(value));
    if found {
        headers.remove(name);
    }
    found
}

fn in_url(uri: &http::Uri, token: &Token) -> Option<AuthMechanism> {
    if token.is_within(uri.path()) {
        Some(AuthMechanism::PhantomPath)
    } else if token.is_within(uri.query().unwrap_or_default()) {
        Some(AuthMechanism::PhantomQuery)
    } else {
        None
    }
}
