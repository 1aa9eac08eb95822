//! Whether a connection goes on behind a message (RFC 9112 §9.3).

use http::HeaderValue;

use crate::headers::members;

/// What the `Connection` fields of a message say of that.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Persistence {
    closes: bool,
    keeps_alive: bool,
}

impl Persistence {
    /// Notes what the `value` of such a field says.
    pub(crate) fn note(&mut self, value: &HeaderValue) {
        for option in members(value) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the connection goes on.
    pub(crate) fn is_kept(self, is_http_11: bool) -> bool {
        !self.closes && (is_http_11 || self.keeps_alive)
    }
}
