//! The parsers of what clients, upstreams and users write, as plain functions for the fuzz targets. Not part
//! of the interface of this crate: only with the feature `fuzzing`, and free to change.

use http::Method;

use crate::allowlist::{HostPattern, HostSet};
use crate::target::Target;
use crate::upstream::whole;
use crate::{path, server};

pub use crate::server::http1::whole::WholeRequest;
pub use crate::upstream::whole::Whole;

/// The canonical `host:port` of an authority.
pub fn target(authority: &str) -> Option<String> {
    let authority = authority.parse().ok()?;
    Some(Target::from_authority(&authority, Some(443))?.to_string())
}

/// Whether `rule` lets `authority` through; `None` if either is not one.
pub fn host_rule(rule: &str, authority: &str) -> Option<bool> {
    let rules = HostSet::new([HostPattern::parse(rule).ok()?]);
    let target = Target::from_authority(&authority.parse().ok()?, Some(443))?;
    Some(rules.matches(&target).is_some())
}

/// Why a path is refused, if it is.
pub fn ambiguity(path: &str) -> Option<&'static str> {
    path::ambiguity(path)
}

/// The request at the start of `bytes`, when they come in pieces of `size`; `None` if it is not
/// whole.
///
/// # Errors
/// The status with which it is refused.
pub fn request(bytes: &[u8], size: usize) -> Result<Option<WholeRequest>, u16> {
    server::http1::whole::read(bytes, size).map_err(|malformed| malformed.status)
}

/// The response, to `HEAD` or not, at the start of `bytes`, when they come in pieces of `size`;
/// `None` if it is not whole.
///
/// # Errors
/// Why it is refused.
pub fn response(
    bytes: &[u8],
    size: usize,
    is_to_head: bool,
) -> Result<Option<Whole>, &'static str> {
    let method = if is_to_head { Method::HEAD } else { Method::GET };
    whole::read(bytes, size, &method)
}
