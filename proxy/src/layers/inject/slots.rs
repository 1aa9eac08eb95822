//! Where a client may carry a credential of its own, which would compete with the route's.

use http::{HeaderName, Request};
use nono_credentials::{Credential, Injection};
use percent_encoding::percent_decode_str;

use crate::body::Body;
use crate::error::Refusal;
use crate::layers::authenticate::GOOGLE_KEY;
use crate::layers::target::origin_form;

/// See the module.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    headers: &'a [HeaderName],
    parameters: &'static [&'static str],
}

impl<'a> Slots<'a> {
    /// Those that the upstream may look into, beside the one that `credential` goes into.
    pub(super) fn of(headers: &'a [HeaderName], credential: Option<&Credential>) -> Self {
        Self { headers, parameters: key_parameters(credential) }
    }

    /// Whether the request carries one in any of them.
    pub(super) fn are_taken(&self, request: &Request<Body>) -> bool {
        let mut pairs = request.uri().query().unwrap_or_default().split('&');
        self.headers.iter().any(|name| request.headers().contains_key(name))
            || (!self.parameters.is_empty() && pairs.any(|pair| self.names(pair)))
    }

    /// Removes what is in them.
    pub(super) fn clear(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        for name in self.headers {
            request.headers_mut().remove(name);
        }
        let query = request.uri().query().unwrap_or_default();
        if self.parameters.is_empty() || !query.split('&').any(|pair| self.names(pair)) {
            return Ok(());
        }
        let rest: Vec<_> = query.split('&').filter(|pair| !self.names(pair)).collect();
        let rest = Some(rest.join("&")).filter(|rest| !rest.is_empty());
        let target = origin_form(request.uri().path().to_owned(), rest.as_deref())?;
        *request.uri_mut() = target;
        Ok(())
    }

    fn names(&self, pair: &str) -> bool {
        self.parameters.iter().any(|name| is_named(pair, name))
    }
}

/// The parameters that an API takes a key from as well as from the header that `credential` goes
/// into. Only Google's: elsewhere a parameter of such a name may mean anything.
fn key_parameters(credential: Option<&Credential>) -> &'static [&'static str] {
    match credential.map(Credential::injection) {
        Some(Injection::Header { name, .. }) if *name == GOOGLE_KEY => &["key", "access_token"],
        _ => &[],
    }
}

/// Whether a `name=value` pair of a query has this name, escaped or not.
pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or_default();
    percent_decode_str(given).eq(name.bytes())
}
