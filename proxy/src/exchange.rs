//! The types that travel with a request.
//!
//! An [`Exchange`] carries the request through the layers; its stage says by type what has been
//! established so far. A layer takes one stage and hands on the next, so the order of the
//! layers is checked by the compiler, and nothing reaches the network that was not judged:
//! the leaf takes [`Ready`] alone.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request};
use nono_audit::{Mode, Recorder};
use nono_credentials::Loaded;
use smol_str::SmolStr;

use crate::address::Reach;
use crate::body::Body;
use crate::intercept::Inside;
use crate::layers::limit::Place;
use crate::route::Route;
use crate::server::Seat;
use crate::server::gate::Gate;
use crate::target::Target;
use crate::tls::Tls;

/// A request as it came from a client's connection.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The request. Boxed, since it is handed on a dozen times on its way.
    pub(crate) request: Box<Request<Body>>,
    /// The connection that it came on.
    pub(crate) peer: Arc<Peer>,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The client's socket address.
    pub(crate) address: SmolStr,
    /// The way back to what guards the connection.
    pub(crate) gate: Gate,
    /// The intercepted tunnel that it runs in, if it does.
    pub(crate) inside: Option<Arc<Inside>>,
    /// Its place among those that may be open: also of one that became a tunnel.
    seat: Option<Arc<Seat>>,
}

impl Peer {
    /// A client's connection from `address`, which takes no place.
    pub(crate) fn new(address: SmolStr) -> Self {
        Self { address, gate: Gate::default(), inside: None, seat: None }
    }

    /// The same, in its place.
    pub(crate) fn seated(self, seat: Seat) -> Self {
        Self { seat: Some(Arc::new(seat)), ..self }
    }

    /// What comes on this connection once it is the tunnel that ends in `inside`.
    pub(crate) fn inside(&self, inside: Arc<Inside>) -> Self {
        let seat = self.seat.clone();
        Self { inside: Some(inside), seat, ..Self::new(self.address.clone()) }
    }

    /// How records name the way that its requests took.
    pub(crate) fn mode(&self) -> Mode {
        if self.inside.is_some() { Mode::ConnectIntercept } else { Mode::Reverse }
    }
}

/// A request on its way inward, with what has been established of it.
#[derive(Debug)]
pub(crate) struct Exchange<Stage> {
    pub(crate) request: Box<Request<Body>>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) peer: Arc<Peer>,
    /// Held until the exchange ends; the leaf hands it to the body or tunnel.
    pub(crate) place: Option<Place>,
    pub(crate) stage: Stage,
}

impl<Stage> Exchange<Stage> {
    /// The same exchange at its next stage.
    pub(crate) fn advance<Next>(self, next: impl FnOnce(Stage) -> Next) -> Exchange<Next> {
        Exchange {
            request: self.request,
            recorder: self.recorder,
            peer: self.peer,
            place: self.place,
            stage: next(self.stage),
        }
    }
}

/// How a request names what it wants (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Authority-form: `CONNECT host:port`.
    Tunnel,
    /// Absolute-form: `GET http://host/path`.
    Forward,
    /// Origin-form, `GET /path`; or absolute-form with the proxy's own address.
    Route,
    /// Any form, inside an intercepted tunnel.
    Inside,
}

impl Form {
    /// The form of `request`, come from `peer` to a listener at `own`.
    pub(crate) fn of(request: &Request<Body>, peer: &Peer, own: SocketAddr) -> Self {
        let is_own = |authority| {
            Target::from_authority(authority, Some(80))
                .is_some_and(|target| target.is_listener(own))
        };
        match request.uri().authority() {
            _ if peer.inside.is_some() => Self::Inside,
            _ if request.method() == Method::CONNECT => Self::Tunnel,
            Some(authority) if !is_own(authority) => Self::Forward,
            _ => Self::Route,
        }
    }
}

/// Stage: recorded from here on.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) form: Form,
}

/// Stage: the client showed the session token, or need not. It has been removed from the headers
/// and the query.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) form: Form,
}

/// Stage: well-formed; what it asks for is parsed.
#[derive(Debug)]
pub(crate) struct Addressed {
    pub(crate) asked: Asked,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Tunnel(Target),
    Forward(Target),
    /// Whatever the path's prefix leads to.
    Path,
    /// Whatever the path leads to at the end of the intercepted tunnel.
    Inside(Arc<Inside>),
}

/// Stage: the way to take is known.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) way: Way,
}

/// The way to the upstream.
#[derive(Debug)]
pub(crate) enum Way {
    Tunnel(Target),
    Forward(Target),
    Route(Arc<Route>),
    /// A tunnel that ends here.
    Intercept(Target),
    /// Over TLS, to a host that is no route's.
    Secure(Target, Arc<Tls>),
}

impl Way {
    /// The host and port at its end.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Tunnel(target)
            | Self::Forward(target)
            | Self::Intercept(target)
            | Self::Secure(target, _) => target,
            Self::Route(route) => &route.target,
        }
    }
}

/// Stage: allowed to go this way, to addresses within `reach`.
#[derive(Debug)]
pub(crate) struct Permitted {
    pub(crate) way: Way,
    pub(crate) reach: Reach,
}

/// Stage: carries all that the upstream is to see.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) way: Way,
    pub(crate) reach: Reach,
    /// The credential that is on it, which its response must not show.
    pub(crate) sent: Option<Arc<Loaded>>,
}
