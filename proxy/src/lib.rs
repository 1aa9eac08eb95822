//! A proxy for programs that are not trusted: it stands between them and the network, lets them
//! reach the hosts they may, puts credentials on their requests that they never see, and records
//! every exchange.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use nono_proxy::{ProxyConfig, ProxyHandle, RouteConfig};
//!
//! let mut openai = RouteConfig::preset("openai")?;
//! openai.credential_key = Some("env://REAL_KEY".into());
//! let config = ProxyConfig { routes: vec![openai], ..ProxyConfig::default() };
//! let proxy = ProxyHandle::start(config).await?;
//! // A program finds `OPENAI_BASE_URL`, and in `OPENAI_API_KEY` a token for this proxy alone.
//! let variables = [proxy.env_vars(), proxy.credential_env_vars()].concat();
//! # assert!(variables.iter().any(|(name, _)| name == "OPENAI_API_KEY"));
//! # let mut program = std::process::Command::new("true");
//! program.env_clear().envs(variables).status()?;
//! proxy.shutdown(Duration::from_secs(5)).await;
//! for record in proxy.drain_audit() {
//!     println!("{} {:?}", record.target, record.status);
//! }
//! # Ok(())
//! # }
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(example()).unwrap();
//! ```
//!
//! The way of a request, in the order of the modules:
//!
//! ```text
//! socket ─ server ─ stack: record → respond → limit → authenticate → target → route → allow
//!                          → inject → leaf ─┬─ forward ─ upstream (pool, TLS) ─ the network
//!                                           └─ connect ─┬─ tunnel ────────── the network
//!                                                        └─ intercept ─ the same stack again
//! ```
//!
//! Every request passes the same layers, whether it is for a route (`GET /openai/v1/models`), is
//! to be forwarded (`GET http://host/`), asks for a tunnel (`CONNECT host:443`), or came inside a
//! tunnel whose TLS ends in the proxy. An exchange carries its stage in its type, so nothing is
//! dialled that was not authenticated and allowed. HTTP/1.1 is the proxy's own on both sides: bytes
//! are parsed once, and what was judged is what is sent on. HTTP/2 is the library's.
//!
//! # Cancel safety
//! A client that leaves cancels its exchange wherever it stands: the record is written with
//! [`nono_audit::Outcome::ClientAbort`], its place is free, the upstream connection is closed.
//!
//! # What is recorded
//! No secret gets into a [`nono_audit::Record`] by accident. What a client asked for is redacted
//! when it becomes a [`nono_audit::redact::RedactedPath`]; a [`nono_credentials::Secret`] is no
//! text, and only bytes are to be had of it, by a name that says so:
//!
//! ```
//! fn bytes(secret: &nono_credentials::Secret) -> &[u8] {
//!     secret.expose()
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn note(record: &mut nono_audit::Record, secret: nono_credentials::Secret) {
//!     record.reason = Some(secret.into());
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn note(record: &mut nono_audit::Record, secret: &nono_credentials::Secret) {
//!     record.reason = Some(format!("{secret} was refused").into());
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn note(record: &mut nono_audit::Record, secret: &nono_credentials::Secret) {
//!     record.reason = Some(secret.expose().into());
//! }
//! ```
//!
//! ```
//! fn note(record: &mut nono_audit::Record, secret: &nono_credentials::Secret) {
//!     record.reason = Some(format!("{secret:?} was refused").into()); // Secret([redacted])
//! }
//! ```

#![forbid(unsafe_code)]

mod admin;
mod config;
mod descriptors;
mod drain;
mod handle;
mod judge;
mod otlp;
mod own_directory;
mod prepare;
mod server;
mod stack;

mod ahead;
mod body;
mod exchange;
mod http1;
mod idle;
mod layers;

mod address;
mod allowlist;
mod environment;
mod headers;
mod location;
mod loopback;
mod path;
mod preset;
mod route;
mod target;
mod tls;
mod token;
mod trace;

mod connect;
mod forward;
mod intercept;
mod leaf;
mod scrub;
mod tunnel;
mod upstream;

mod error;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;

pub use allowlist::fault_of_rule;
pub use config::{
    ConfigError, ExternalProxyConfig, InjectMode, InterceptConfig, Limits, ProxyConfig, RouteConfig,
};
pub use error::StartError;
pub use handle::ProxyHandle;
pub use judge::{Judge, Verdict};
pub use layers::respond::{Listed, refusals};
pub use nono_credentials::{OAuth2Config, Provided, VaultConfig};
pub use otlp::{Compression, OtlpConfig};
pub use prepare::Diagnostic;
