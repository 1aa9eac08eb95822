//! Finds out what a request asks for, and refuses what is malformed or can be read in two ways
//! (RFC 9112 §3.2). Fields of the client's connection end here.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, MAX_FORWARDS};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{Method, Request, Uri};
use nono_audit::Recorder;
use smol_str::ToSmolStr as _;

use crate::body::Body;
use crate::error::{Error, Refusal};
use crate::exchange::{Addressed, Asked, Authenticated, Exchange, Form, Peer};
use crate::headers::strip_request;
use crate::layers::Step;
use crate::target::Target;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindTarget;

impl Step<Authenticated> for FindTarget {
    type To = Addressed;

    fn step(&self, mut exchange: Exchange<Authenticated>) -> Result<Exchange<Addressed>, Error> {
        match *exchange.request.method() {
            Method::TRACE => return Err(Refusal::Method.into()),
            Method::OPTIONS => count_forward(exchange.request.headers_mut())?,
            _ => {}
        }
        let request = &exchange.request;
        let asked = match exchange.stage.form {
            Form::Tunnel => Asked::Tunnel(tunnel_target(request)?),
            Form::Forward => Asked::Forward(forward_target(request)?),
            Form::Route => {
                check_path(request)?;
                Asked::Path
            }
            Form::Inside => inside(request, &exchange.peer)?,
        };
        if let Asked::Tunnel(target) | Asked::Forward(target) = &asked {
            note(&exchange.recorder, target);
        }
        // Before the credential is put on, so that `Connection: authorization` cannot take it off.
        let version = exchange.request.version();
        strip_request(exchange.request.headers_mut(), version);
        Ok(exchange.advance(|_| Addressed { asked }))
    }
}

/// Takes one off the times that a request may still be passed on (RFC 9110 §7.6.2); with none left, it
/// is for the proxy, which has no such method.
fn count_forward(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let Some(left) = headers.get_mut(MAX_FORWARDS) else { return Ok(()) };
    let wrong = Refusal::Malformed("its Max-Forwards is not a number");
    let number: u32 = left.to_str().ok().and_then(|left| left.parse().ok()).ok_or(wrong)?;
    *left = number.checked_sub(1).ok_or(Refusal::Method)?.into();
    Ok(())
}

/// Notes the host that is asked for.
pub(super) fn note(recorder: &Recorder, target: &Target) {
    recorder.note(|record| {
        record.target = target.host().to_smolstr();
        record.port = Some(target.port());
    });
}

fn tunnel_target(request: &Request<Body>) -> Result<Target, Refusal> {
    let authority = request.uri().authority();
    authority
        .and_then(|authority| Target::from_authority(authority, None))
        .ok_or(Refusal::Malformed("CONNECT needs one host and port, like `api.example.com:443`"))
}

fn forward_target(request: &Request<Body>) -> Result<Target, Refusal> {
    let uri = request.uri();
    if uri.scheme() != Some(&UriScheme::HTTP) {
        return Err(Refusal::Malformed("only http URLs are forwarded; use CONNECT for https"));
    }
    let parse = |authority: &Authority| Target::from_authority(authority, Some(80));
    let target = uri
        .authority()
        .and_then(parse)
        .ok_or(Refusal::Malformed("its URL names no single host"))?;
    let named = request.headers().get(HOST).map(|host| {
        let authority = host.to_str().ok()?.parse::<Authority>().ok()?;
        parse(&authority)
    });
    match named {
        Some(named) if named.as_ref() != Some(&target) => {
            Err(Refusal::Malformed("its Host is not the host of its URL"))
        }
        _ => Ok(target),
    }
}

/// A request to a route: origin-form, or absolute-form with the proxy's own address.
fn check_path(request: &Request<Body>) -> Result<(), Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some_and(|scheme| *scheme != UriScheme::HTTP) {
        return Err(Refusal::Malformed("the proxy itself speaks http, not https"));
    }
    if uri.path().starts_with('/') {
        Ok(())
    } else {
        Err(Refusal::Malformed("its target is not a path"))
    }
}

/// A request inside an intercepted tunnel: for where the tunnel leads, whichever way it says so
/// (RFC 9110 §7.4).
fn inside(request: &Request<Body>, peer: &Peer) -> Result<Asked, Refusal> {
    let inside = peer.inside.as_ref().ok_or(Refusal::Misdirected)?;
    let uri = request.uri();
    if *request.method() == Method::CONNECT {
        return Err(Refusal::Method);
    }
    if uri.scheme().is_some_and(|scheme| *scheme != UriScheme::HTTPS) {
        return Err(Refusal::Malformed("inside a tunnel that speaks TLS, its URL must be https"));
    }
    if !uri.path().starts_with('/') {
        return Err(Refusal::Malformed("its target is not a path"));
    }
    let is_meant = |authority: &Authority| {
        Target::from_authority(authority, Some(443)).as_ref() == Some(&inside.target)
    };
    let mut fields = request.headers().get_all(HOST).iter();
    let is_field_meant = fields.all(|host| {
        host.to_str().ok().and_then(|host| host.parse().ok()).is_some_and(|host| is_meant(&host))
    });
    if inside.is_misdirected || !is_field_meant || !uri.authority().is_none_or(is_meant) {
        return Err(Refusal::Misdirected);
    }
    Ok(Asked::Inside(Arc::clone(inside)))
}

/// A target in origin-form (RFC 9112 §3.2.1), as upstreams are asked for it: a path of two parts,
/// and a query.
pub(super) fn origin_form([base, rest]: [&str; 2], query: Option<&str>) -> Result<Uri, Refusal> {
    let whole = match query {
        Some(query) => [base, rest, "?", query].concat(),
        None => [base, rest].concat(),
    };
    uri_of(whole.into())
}

/// The URI that `path_and_query` is, in the same memory.
pub(super) fn uri_of(path_and_query: Bytes) -> Result<Uri, Refusal> {
    PathAndQuery::from_maybe_shared(path_and_query)
        .map(Uri::from)
        .map_err(|_| Refusal::Malformed("its path is not one of a URL"))
}
