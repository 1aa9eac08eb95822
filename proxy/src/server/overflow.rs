//! Connections for which there is no place: answered all the same, at little cost.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nono_audit::{Mode, Recorder};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::layers::respond;
use crate::stack::Shared;

/// How many are waited for at once until they have read their answer, by all proxies of a
/// process: waiting must not cost the descriptors that the bound saves.
static WAITING: Semaphore = Semaphore::const_new(64);

/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers 503 and closes.
pub(super) fn turn_away(mut stream: std::net::TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    let open = |permit| Recorder::open(permit, Mode::Reverse, peer.to_string().into());
    let recorder = shared.audit.try_reserve().map(open);
    let answer = respond::no_socket(recorder.as_deref());
    // The buffer of a new connection has room for it. Fails only when the client has left.
    if stream.write_all(&answer).and_then(|()| stream.shutdown(Shutdown::Write)).is_err() {
        return;
    }
    let Ok(place) = WAITING.try_acquire() else { return };
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    tokio::spawn(async move {
        // Closing with unread bytes would destroy the answer on its way.
        let mut scratch = [0; 1024];
        let closed = async { while stream.read(&mut scratch).await.is_ok_and(|n| n > 0) {} };
        // A client that does not listen is not waited for.
        let _ = timeout(PATIENCE, closed).await;
        drop(place);
    });
}
