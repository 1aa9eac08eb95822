//! What an issuer answers (RFC 6749 §5).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Fault, Fetched};
use crate::Secret;

/// How long a token is valid whose issuer does not say (§5.1 leaves that open).
const USUAL_LIFE: Duration = Duration::from_hours(1);

/// The access token in an issuer's answer to what was `asked` then.
pub(super) fn access(answer: &Value, asked: Instant) -> Result<Fetched, Fault> {
    let Some(token) = text(answer, "access_token") else {
        let what = "the issuer's answer holds no access token";
        return Err(Fault::Unavailable(what.into()));
    };
    let expires = asked.checked_add(life(&answer["expires_in"])?).ok_or_else(no_life)?;
    Ok(Fetched { secret: copied(token), expires: Some(expires) })
}

/// A member of an answer that is a text, and says something.
pub(super) fn text<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    answer[name].as_str().filter(|text| !text.is_empty())
}

pub(super) fn copied(text: &str) -> Secret {
    Secret::copied(text.as_bytes())
}

/// How long a token is valid that comes with `expires_in`; some issuers write that as a text.
fn life(expires_in: &Value) -> Result<Duration, Fault> {
    let seconds = match expires_in {
        Value::Null => return Ok(USUAL_LIFE),
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    // What is over is found where the token is taken.
    let left = seconds
        .map(|seconds: f64| Duration::try_from_secs_f64(if seconds < 0.0 { 0.0 } else { seconds }));
    left.and_then(Result::ok).ok_or_else(no_life)
}

fn no_life() -> Fault {
    let what = "the issuer's answer holds an `expires_in` that is no number of seconds to come";
    Fault::Unavailable(what.into())
}

/// Whether it is an error code of RFC 6749 §5.2 or like one.
pub(super) fn is_code(text: &str) -> bool {
    text.len() <= 64 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}
