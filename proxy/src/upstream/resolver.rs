//! Resolves a name once and judges every address that it has, so that only judged addresses are
//! dialled. A name that was allowed may still point at this machine or at a metadata service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{io, vec};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use smol_str::SmolStr;
use tower::Service;

use crate::address::{OutOfReach, Reach, classify};
use crate::allowlist::HostSet;
use crate::target::arrives_at;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    /// What the addresses may be.
    pub(super) reach: Reach,
    /// The port that will be dialled.
    pub(super) port: u16,
    /// The proxy's own listener, which no name leads to.
    pub(super) own: SocketAddr,
    /// The hosts that clients may not reach, if it is for one that the name is looked up.
    pub(super) denied: Option<Arc<HostSet>>,
}

/// Why a name gave no addresses to dial.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The system's resolver knows none.
    #[error("the name does not resolve")]
    Unknown(#[from] io::Error),
    /// One of them may not be reached.
    #[error("the name has an address that may not be reached")]
    OutOfReach(OutOfReach),
    /// A rule denies one of them.
    #[error("the name has an address that the rule {0} denies")]
    Denied(SmolStr),
    /// One of them is the proxy's own.
    #[error("the name leads to the proxy itself")]
    OwnListener,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = BoxFuture<'static, Result<Self::Response, ResolveError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { reach, port, own, denied } = self.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), port)).await?.collect();
            if found.iter().any(|addr| arrives_at(*addr, own)) {
                return Err(ResolveError::OwnListener);
            }
            // One bad address refuses the name: to try the others would let whoever answers for
            // it probe which ones pass.
            for addr in &found {
                let rule =
                    denied.as_ref().and_then(|set| set.matches_address(addr.ip(), port)?.rule);
                if let Some(rule) = rule {
                    return Err(ResolveError::Denied(rule.clone()));
                }
                reach.check(classify(addr.ip())).map_err(ResolveError::OutOfReach)?;
            }
            Ok(found.into_iter())
        })
    }
}
