//! Where a client may carry a credential of its own, which would compete with the route's.

use http::{HeaderName, Request};
use nono_credentials::{Credential, Injection};
use percent_encoding::percent_decode_str;

use crate::body::Body;
use crate::error::Refusal;
use crate::headers::is_among;
use crate::layers::authenticate::GOOGLE_KEY;
use crate::layers::target::origin_form;

/// See the module.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    headers: &'a [HeaderName],
    parameters: Parameters<'a>,
}

/// The query parameters among them, by name; most routes have none.
type Parameters<'a> = [Option<&'a str>; 3];

impl<'a> Slots<'a> {
    /// Those that the upstream may look into, the one that `credential` goes into included.
    pub(super) fn of(headers: &'a [HeaderName], credential: Option<&'a Credential>) -> Self {
        Self { headers, parameters: key_parameters(credential) }
    }

    /// Whether the request carries one in any of them.
    pub(super) fn are_taken(&self, request: &Request<Body>) -> bool {
        let mut pairs = request.uri().query().unwrap_or_default().split('&');
        request.headers().keys().any(|name| is_among(name, self.headers))
            || (self.has_parameters() && pairs.any(|pair| self.names(pair)))
    }

    /// Removes what is in them.
    pub(super) fn clear(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        let headers = request.headers_mut();
        while let Some(name) = headers.keys().find(|name| is_among(name, self.headers)).cloned() {
            headers.remove(name);
        }
        let query = request.uri().query().unwrap_or_default();
        if !self.has_parameters() || !query.split('&').any(|pair| self.names(pair)) {
            return Ok(());
        }
        let rest: Vec<_> = query.split('&').filter(|pair| !self.names(pair)).collect();
        let rest = Some(rest.join("&")).filter(|rest| !rest.is_empty());
        let target = origin_form(["", request.uri().path()], rest.as_deref())?;
        *request.uri_mut() = target;
        Ok(())
    }

    fn has_parameters(&self) -> bool {
        self.parameters.iter().any(Option::is_some)
    }

    fn names(&self, pair: &str) -> bool {
        self.parameters.iter().flatten().any(|name| is_named(pair, name))
    }
}

/// The parameter that `credential` goes into; or those from which an API takes a key as well as
/// from its header. Of these only Google's: elsewhere a parameter of such a name may mean
/// anything.
fn key_parameters(credential: Option<&Credential>) -> Parameters<'_> {
    match credential.map(Credential::injection) {
        Some(Injection::QueryParam { name }) => [Some(name), None, None],
        Some(Injection::Header { name, .. }) if *name == GOOGLE_KEY => {
            [Some("key"), Some("access_token"), Some("oauth_token")]
        }
        _ => [None, None, None],
    }
}

/// Whether a `name=value` pair of a query has this name, escaped or not.
fn is_named(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or_default();
    percent_decode_str(given).eq(name.bytes())
}
