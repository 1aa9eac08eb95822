//! Why bodies end before their end, and what the record says of it.

use std::borrow::Cow;

use nono_audit::{Outcome, redact};
use nono_credentials::innermost;

use crate::upstream::{Cut, http2_reason};

/// The longest such text, in bytes.
const LONGEST_REASON: usize = 256;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection failed, over HTTP/2.
    #[error(transparent)]
    Library(#[from] hyper::Error),
    /// Whoever sent it ended its stream without an error, over HTTP/2, and not the body.
    #[error("its stream was reset before its end")]
    Reset,
    /// The upstream's failed.
    #[error(transparent)]
    Upstream(#[from] Cut),
    /// The client left, or what it sent is no body; its gate knows which.
    #[error("the client did not send it whole")]
    Client,
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Idle,
}

impl BodyError {
    /// What the record says of a response that ends with it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Idle => Outcome::Timeout,
            Self::Upstream(Cut::Request(error)) if matches!(**error, Self::Idle) => {
                Outcome::Timeout
            }
            Self::Client | Self::Upstream(Cut::Request(_)) => Outcome::ClientAbort,
            Self::Library(_) | Self::Reset | Self::Upstream(_) => Outcome::UpstreamAbort,
        }
    }
    /// What the record says of why a response ended with it: no byte of a body is in it.
    pub(super) fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Idle => "nothing of the response's body came for too long".into(),
            Self::Reset => {
                "the upstream reset its stream before the end of the response's body".into()
            }
            Self::Library(error) => broken(&http2_reason(error)),
            Self::Client => "the client did not send it whole".into(),
            Self::Upstream(Cut::Closed) => {
                "the upstream closed the connection before the end of the response's body".into()
            }
            Self::Upstream(Cut::Failed(error)) => broken(&innermost(error)),
            Self::Upstream(Cut::Malformed(reason)) => {
                format!("the response's body is not framed as HTTP says: {reason}").into()
            }
            Self::Upstream(Cut::Request(error)) => match **error {
                Self::Idle => "nothing of the request's body came for too long".into(),
                _ => "the request's body ended before its end".into(),
            },
        }
    }
}

/// That the connection broke, for what may be long.
fn broken(why: &str) -> Cow<'static, str> {
    let mut reason = format!("the upstream's connection broke within the response's body: {why}");
    redact::cut(&mut reason, LONGEST_REASON);
    reason.into()
}
