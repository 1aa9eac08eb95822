//! One intercepted tunnel: the client's handshake, then its requests, which pass the stack.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use nono_audit::{AuthMechanism, AuthOutcome, Decision, DenialCategory, Outcome, Record, Recorder};
use rustls::server::Acceptor;
use smol_str::SmolStr;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Interception;
use crate::ahead::Ahead;
use crate::exchange::Peer;
use crate::leaf::{Leaf, Worker};
use crate::server::http1::{self, Socket, Switched};
use crate::server::http2;
use crate::stack::{Shared, stack};
use crate::target::{Target, parse_host};

/// What is known of every request inside a tunnel.
#[derive(Debug)]
pub(crate) struct Inside {
    /// Where the tunnel was to lead.
    pub(crate) target: Target,
    /// The target's host, as records name it.
    pub(crate) host: SmolStr,
    /// How the session token was shown when the tunnel was asked for.
    pub(crate) mechanism: Option<AuthMechanism>,
    pub(crate) outcome: AuthOutcome,
    /// Whether the client's handshake named another host.
    pub(crate) is_misdirected: bool,
    pub(crate) shared: Arc<Shared>,
}

impl Inside {
    /// The inside of the tunnel to `target` that `recorder` records.
    pub(crate) fn new(target: Target, recorder: &Recorder, shared: Arc<Shared>) -> Self {
        let shown = recorder.read(|record| (record.auth_mechanism, record.auth_outcome));
        let (mechanism, outcome) = shown.unwrap_or_default();
        Self {
            host: target.host().to_string().into(),
            target,
            mechanism,
            // Nothing passes `authenticate` without one.
            outcome: outcome.unwrap_or(AuthOutcome::NotRequired),
            is_misdirected: false,
            shared,
        }
    }

    /// Notes where whatever comes inside goes, also what cannot be understood or is for somewhere
    /// else: it is refused then.
    pub(crate) fn note(&self, record: &mut Record) {
        record.target = self.host.clone();
        record.port = Some(self.target.port());
        record.auth_mechanism = self.mechanism;
        record.auth_outcome = Some(self.outcome);
    }
}

/// What the client speaks TLS on.
type Secured = TlsStream<Ahead<TcpStream>>;

/// Serves the tunnel that `client` becomes, as a task; its record ends with the handshake, since
/// each request inside has one of its own.
pub(crate) fn begin(
    worker: &Arc<Worker>,
    client: oneshot::Receiver<Switched>,
    inside: Inside,
    recorder: Arc<Recorder>,
) {
    let task = run(Arc::clone(worker), client, inside, recorder);
    worker.tasks.spawn(task);
}

async fn run(
    worker: Arc<Worker>,
    client: oneshot::Receiver<Switched>,
    inside: Inside,
    recorder: Arc<Recorder>,
) {
    let shared = Arc::clone(&worker.shared);
    let Some(interception) = &shared.interception else { return };
    let shaking = timeout(shared.settings.limits.head, accept(interception, client, inside));
    match shared.cut.run_until_cancelled(shaking).await {
        Some(Ok(Ok((stream, inside, outer)))) => {
            recorder.finish(Outcome::Complete);
            serve(worker, stream, Arc::new(inside), outer).await;
        }
        Some(Ok(Err(error))) => refuse(&recorder, &error, Outcome::ClientAbort),
        Some(Err(_)) => refuse(&recorder, &"it took too long", Outcome::Timeout),
        None => recorder.finish(Outcome::Shutdown),
    }
}

/// Notes that no request will come of the tunnel.
fn refuse(recorder: &Recorder, why: &dyn std::fmt::Display, outcome: Outcome) {
    recorder.note(|record| {
        record.decision = Decision::Deny;
        record.denial_category = Some(DenialCategory::InterceptHandshakeFailed);
        record.reason = Some(format!("the TLS handshake with the client failed: {why}").into());
    });
    recorder.finish(outcome);
}

/// Shakes hands with the client, as the host that it wants to reach. One that names another host
/// in the handshake is told so once it asks for something, in words.
async fn accept(
    interception: &Interception,
    client: oneshot::Receiver<Switched>,
    mut inside: Inside,
) -> io::Result<(Secured, Inside, Arc<Peer>)> {
    let Switched { io, early, peer } = client.await.map_err(io::Error::other)?;
    let Socket::Plain(io) = io else {
        return Err(io::Error::other("it came on no plain connection"));
    };
    let stream = Ahead::new(early, io);
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let named = start.client_hello().server_name().map(parse_host);
    let host = inside.target.host();
    inside.is_misdirected = named.is_some_and(|named| named.as_ref() != Some(host));
    let config = interception.leaves.get(host, SystemTime::now()).map_err(io::Error::other)?;
    Ok((start.into_stream(config).await?, inside, peer))
}

/// Serves the requests inside with the same stack as those outside.
async fn serve(worker: Arc<Worker>, stream: Secured, inside: Arc<Inside>, outer: Arc<Peer>) {
    let shared = Arc::clone(&worker.shared);
    let limit = worker.limit.clone();
    let stack = stack(&shared, limit, Leaf::from(worker));
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(shared, stack, stream, inside, outer).await;
    } else {
        let socket = Socket::Secured(Box::new(stream));
        http1::serve(shared, stack, socket, Arc::new(outer.inside(inside))).await;
    }
}
