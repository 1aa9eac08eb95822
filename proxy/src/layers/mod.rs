//! The layers, in the order in which a request meets them.
//!
//! The contract of a layer:
//! - its future is a named type, never a boxed one: eight boxes a request would cost more than
//!   the layers' work;
//! - it never panics, and answers a request that it does not let through with an [`Error`]; only
//!   [`respond`] makes responses of those, since one that reached the server would cut the
//!   connection;
//! - it keeps nothing in `poll_ready`, which only passes readiness on.
//!
//! Most layers judge a request and pass it on, or not. Those are a [`Step`], and share the one
//! service below.
//!
//! [`Error`]: crate::error::Error

pub(crate) mod allow;
pub(crate) mod authenticate;
pub(crate) mod inject;
pub(crate) mod limit;
pub(crate) mod record;
pub(crate) mod respond;
pub(crate) mod route;
pub(crate) mod target;

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::Response;
use tower::{Layer, Service};

use crate::body::Body;
use crate::error::Error;
use crate::exchange::Exchange;

/// What every service within the respond layer gives.
pub(crate) type Answer = Result<Response<Body>, Error>;

/// A judgement that takes an exchange from stage `From` to the next, or refuses it.
pub(crate) trait Step<From> {
    /// The stage it leads to.
    type To;

    /// Judges `exchange`.
    fn step(&self, exchange: Exchange<From>) -> Result<Exchange<Self::To>, Error>;
}

/// The layer of a [`Step`].
#[derive(Debug, Clone)]
pub(crate) struct StepLayer<J>(pub(crate) J);

impl<J: Clone, S> Layer<S> for StepLayer<J> {
    type Service = StepService<J, S>;

    fn layer(&self, inner: S) -> Self::Service {
        StepService { step: self.0.clone(), inner }
    }
}

/// The service of a [`Step`].
#[derive(Debug, Clone)]
pub(crate) struct StepService<J, S> {
    step: J,
    inner: S,
}

impl<J, S, From> Service<Exchange<From>> for StepService<J, S>
where
    J: Step<From>,
    S: Service<Exchange<J::To>, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Either<Ready<Answer>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange<From>) -> Self::Future {
        match self.step.step(exchange) {
            Ok(exchange) => Either::Right(self.inner.call(exchange)),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}
