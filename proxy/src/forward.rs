//! Sends a request to its upstream and hands the response back, streaming both ways.

use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, Uri, Version};

use crate::error::{Error, Refusal};
use crate::exchange::{Exchange, Ready, Way};
use crate::headers::strip_hop_by_hop;
use crate::layers::Answer;
use crate::target::Scheme;
use crate::upstream::{Destination, Upstream};

/// Sends `exchange` upstream.
///
/// # Errors
/// [`Error::Upstream`] when no response comes, [`Error::Refused`] when the name resolves to
/// an address that may not be reached.
pub(crate) async fn send(upstream: &Upstream, exchange: Exchange<Ready>) -> Answer {
    let Exchange {
        mut request,
        recorder: _,
        place,
        stage: Ready { way, reach },
    } = exchange;
    let scheme = match &way {
        Way::Route(route) => route.scheme,
        Way::Tunnel(_) | Way::Forward(_) => Scheme::Http,
    };
    // The host that was judged, whatever the client's Host said.
    let host = HeaderValue::try_from(way.target().host_field(scheme))
        .map_err(|_| Refusal::Malformed("its host cannot stand in a Host field"))?;
    request.headers_mut().insert(HOST, host);
    // Origin-form, as a server expects it; an empty path is `/` (RFC 9112 §3.2.1).
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;

    let mut response = upstream
        .send(&Destination::new(way, reach), request)
        .await?;
    clean(&mut response)?;
    response.body_mut().hold_place(place);
    Ok(response)
}

/// Takes the fields of the upstream's connection off.
fn clean(response: &mut Response<crate::body::Body>) -> Result<(), Error> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        // Never asked for: `Upgrade` does not pass.
        return Err(Error::Upstream(crate::error::Upstream::BadResponse(
            "it switched protocols unasked".into(),
        )));
    }
    strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(())
}
