//! The words that a record may use.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::json::{Escapes, Value, put_quoted};

/// Defines an enum whose variants each have a word, by which they are serialised.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// All its words.
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word that stands for it in a record.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match &*Cow::<'de, str>::deserialize(deserializer)? {
                    $($word => Ok(Self::$variant),)*
                    other => Err(de::Error::unknown_variant(other, Self::WORDS)),
                }
            }
        }

        impl Value for $name {
            const ESCAPES: Escapes = Escapes::Quotes;

            fn put(&self, out: &mut Vec<u8>) {
                put_quoted(self.as_str().as_bytes(), out);
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// How a client reached the proxy.
    Mode {
        /// A `CONNECT` tunnel.
        Connect = "connect",
        /// A `CONNECT` tunnel that the proxy ends itself, or a request inside one.
        ConnectIntercept = "connect_intercept",
        /// A request to a route, or a forwarded plain `http` request (those have no `route_id`).
        Reverse = "reverse",
        /// A `CONNECT` tunnel that another proxy, further out, is asked for.
        External = "external",
    }
}

words! {
    /// Whether an exchange was let through.
    Decision {
        /// It was.
        Allow = "allow",
        /// It was not.
        Deny = "deny",
    }
}

words! {
    /// Where the session token was found.
    AuthMechanism {
        /// In `Proxy-Authorization`.
        ProxyAuthorization = "proxy_authorization",
        /// In the header where an SDK carries its API key.
        PhantomHeader = "phantom_header",
        /// In the path.
        PhantomPath = "phantom_path",
        /// In the query.
        PhantomQuery = "phantom_query",
    }
}

words! {
    /// Whether the session token was right.
    AuthOutcome {
        /// It was.
        Succeeded = "succeeded",
        /// It was missing or wrong.
        Failed = "failed",
        /// It was missing or wrong, but the proxy asks nobody for it.
        NotRequired = "not_required",
    }
}

words! {
    /// Where a route's credential is put.
    InjectionMode {
        /// In a header, after a format.
        Header = "header",
        /// In the path, in place of the session token.
        UrlPath = "url_path",
        /// In a query parameter.
        QueryParam = "query_param",
        /// In a header, as HTTP Basic credentials.
        BasicAuth = "basic_auth",
    }
}

words! {
    /// Kinds of refusals and failures.
    DenialCategory {
        /// The session token was missing or wrong.
        AuthenticationFailed = "authentication_failed",
        /// The route's endpoint rules do not allow the request.
        EndpointPolicy = "endpoint_policy",
        /// The route's credential is not available.
        ManagedCredentialUnavailable = "managed_credential_unavailable",
        /// The host or its address is not allowed.
        HostDenied = "host_denied",
        /// The upstream could not be reached.
        UpstreamConnectFailed = "upstream_connect_failed",
        /// A tunnel or forward to an upstream that only its route may reach.
        ConnectBypassesL7 = "connect_bypasses_l7",
        /// An intercepted tunnel whose client did not complete the TLS handshake.
        InterceptHandshakeFailed = "intercept_handshake_failed",
        /// The external proxy did not open the way to the upstream.
        ExternalProxyRejected = "external_proxy_rejected",
        /// The request was malformed or ambiguous.
        InvalidRequest = "invalid_request",
        /// No route has the request's prefix.
        UnknownRoute = "unknown_route",
        /// A limit of the proxy was reached.
        OverLimit = "over_limit",
        /// The upstream was reached but did not answer properly.
        UpstreamFailed = "upstream_failed",
    }
}

words! {
    /// How an exchange ended.
    Outcome {
        /// The whole response was handed over, or both sides closed the tunnel.
        Complete = "complete",
        /// The client left before that.
        ClientAbort = "client_abort",
        /// The upstream left before that.
        UpstreamAbort = "upstream_abort",
        /// A time limit passed.
        Timeout = "timeout",
        /// The proxy was shut down.
        Shutdown = "shutdown",
        /// The proxy itself answered.
        Refused = "refused",
        /// It has not ended yet.
        Running = "running",
    }
}

words! {
    /// What of an exchange a record tells of.
    Phase {
        /// The opening of a tunnel, or of what a connection was upgraded to.
        Open = "open",
        /// The end of the exchange, and with it all of it.
        End = "end",
        /// No exchange: records that could not be kept, by their number.
        Gap = "gap",
    }
}

words! {
    /// A version of HTTP.
    Protocol {
        /// HTTP/1.0.
        Http10 = "http/1.0",
        /// HTTP/1.1.
        Http11 = "http/1.1",
        /// HTTP/2.
        Http2 = "h2",
    }
}
