//! Connections for which there is no place: answered all the same, at little cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nono_audit::{Mode, Recorder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::layers::respond;
use crate::stack::Shared;

/// How many are answered at once; beyond that connections are closed without a word, since
/// answering must not cost the descriptors that the bound saves.
static ANSWERS: Semaphore = Semaphore::const_new(64);

/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers 503 and closes.
pub(super) fn turn_away(stream: std::net::TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    let open = |permit| Recorder::open(permit, Mode::Reverse, peer.to_string().into());
    let recorder = shared.audit.try_reserve().map(open);
    let answer = respond::no_socket(recorder.as_ref());
    let Ok(place) = ANSWERS.try_acquire() else { return };
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    tokio::spawn(async move {
        let told = async {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            // Closing with unread bytes would destroy the answer on its way.
            let mut scratch = [0; 1024];
            while stream.read(&mut scratch).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        // A client that does not listen is not waited for.
        let _ = timeout(PATIENCE, told).await;
        drop(place);
    });
}
