//! Threads, sockets and their end: workers, each with a runtime, stack and upstream pool of its
//! own, of which the first accepts and deals the connections to those that have the fewest.
//!
//! One acceptor rather than a listener per worker: the load is even also with few connections,
//! and no other process of the same user can join the port and receive session tokens. No thread
//! of its own, since a connection then changes threads before its first byte is read.

pub(crate) mod gate;
pub(crate) mod http1;
pub(crate) mod http2;
mod overflow;
pub(crate) mod spin;
pub(crate) mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use crate::exchange::Peer;
use crate::layers::limit::Limit;
use crate::leaf::{Leaf, Worker};
use crate::stack::{HttpService, Shared, stack};
use crate::upstream::Upstream;

use http1::Socket;

/// Connections accepted but not yet taken by their worker; more wait in the kernel's queue.
const BACKLOG: usize = 256;

/// How long the acceptor pauses when the system has no descriptors left, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a worker waits at least before it looks through its pool again.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way from the acceptor to a worker.
pub(crate) struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    seat: Seat,
}

/// What a client's connection takes up, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its place among the connections that may be open.
    _socket: OwnedSemaphorePermit,
    /// Its share in the worker's load.
    _load: Arc<()>,
}

/// The workers of a proxy, running.
pub(crate) struct Workers {
    pub(crate) threads: Vec<JoinHandle<()>>,
    queues: Vec<Queue>,
    /// The runtime of the first.
    first: Option<Handle>,
}

/// The acceptor's side of a worker.
struct Queue {
    sender: mpsc::Sender<Accepted>,
    /// Held by each connection that the worker has.
    load: Arc<()>,
}

/// A thread with its runtime, not yet running.
pub(crate) struct Prepared {
    name: String,
    /// Empty only while it is dropped.
    runtime: Option<Runtime>,
}

impl Prepared {
    /// Makes the runtime of a thread called `name`.
    pub(crate) fn new(name: String) -> io::Result<Self> {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build()?;
        Ok(Self { name, runtime: Some(runtime) })
    }

    /// Where tasks of the thread are spawned.
    fn handle(&self) -> Option<Handle> {
        self.runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Runs `task` to its end on the thread; then nothing of the runtime is left.
    pub(crate) fn spawn<T>(self, task: T) -> io::Result<JoinHandle<()>>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        ThreadBuilder::new().name(self.name.clone()).spawn(move || {
            let Some(runtime) = &self.runtime else { return };
            // A task like all others: the one that is blocked on is polled behind a look at the
            // sockets each time. That it panicked, its thread has said.
            let _ = runtime.block_on(runtime.spawn(task));
        })
    }
}

impl Drop for Prepared {
    /// Not as a runtime is dropped, which waits for a name lookup that hangs, and panics where a start
    /// that failed gives it up, within another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Spawns the workers of a proxy. `done` is dropped by each when it has ended.
pub(crate) fn spawn_workers(shared: &Arc<Shared>, done: &Arc<DropGuard>) -> io::Result<Workers> {
    let limit = Limit::new(shared.settings.max_connections);
    let mut workers = Workers { threads: Vec::new(), queues: Vec::new(), first: None };
    for n in 0..shared.settings.limits.workers {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let (shared, limit, done) = (Arc::clone(shared), limit.clone(), Arc::clone(done));
        let task = async move {
            work(shared, limit, accepted).await;
            drop(done);
        };
        let thread = Prepared::new(format!("nono-worker-{n}"))?;
        workers.first = workers.first.or_else(|| thread.handle());
        workers.threads.push(thread.spawn(task)?);
        workers.queues.push(Queue { sender, load: Arc::default() });
    }
    Ok(workers)
}

impl Workers {
    /// Has the first of them accept until the proxy drains.
    pub(crate) async fn accept(self, listener: std::net::TcpListener, shared: Arc<Shared>) {
        let Self { queues, first, .. } = self;
        if let Some(first) = first {
            // Fails only when the worker is ending.
            let _ = first.spawn(accept(listener, queues, shared)).await;
        }
    }
}

/// The listener, which is closed also where a forked child has a copy of its descriptor.
struct Listening(AsyncFd<std::net::TcpListener>);

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

async fn accept(listener: std::net::TcpListener, queues: Vec<Queue>, shared: Arc<Shared>) {
    // The runtime's own listener would register each connection here before its worker does.
    #[expect(deprecated, reason = "safe code has nothing else; a listener's descriptor is its own")]
    let Ok(listener) = AsyncFd::with_interest(listener, Interest::READABLE) else { return };
    let listener = Listening(listener);
    // Asked each time: where connections keep coming, or there is no descriptor for the one that is
    // there, the next one is at hand whenever it is asked for, before any look at the drain.
    while !shared.drain.has_begun()
        && let Some(accepted) = shared.drain.run_until_begun(accept_one(&listener.0)).await
    {
        // Of those with the fewest the first, which is this one: it need not be woken.
        let queue = queues.iter().min_by_key(|queue| Arc::strong_count(&queue.load));
        match (accepted, queue) {
            (Ok((stream, peer)), Some(queue)) => {
                match Arc::clone(&shared.sockets).try_acquire_owned() {
                    Ok(socket) => deal(queue, stream, peer, socket).await,
                    Err(_) => overflow::turn_away(stream, peer, &shared),
                }
            }
            _ => drop(timeout(ACCEPT_PAUSE, shared.drain.begun()).await),
        }
    }
}

async fn accept_one(
    listener: &AsyncFd<std::net::TcpListener>,
) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    loop {
        let mut ready = listener.readable().await?;
        if let Ok(accepted) = ready.try_io(|listener| accept_now(listener.get_ref())) {
            return accepted;
        }
    }
}

/// A connection that does not block.
#[cfg(target_os = "linux")]
fn accept_now(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.ok_or(io::ErrorKind::NotConnected)?.try_into().map_err(io::Error::from)?;
    Ok((socket.into(), peer))
}

/// The same by two calls, where there is none for both.
#[cfg(not(target_os = "linux"))]
fn accept_now(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, peer))
}

async fn deal(
    queue: &Queue,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    socket: OwnedSemaphorePermit,
) {
    // Fails only when the worker is ending.
    let seat = Seat { _socket: socket, _load: Arc::clone(&queue.load) };
    let _ = queue.sender.send(Accepted { stream, peer, seat }).await;
}

/// The life of a worker.
async fn work(shared: Arc<Shared>, limit: Limit, mut accepted: mpsc::Receiver<Accepted>) {
    let tasks = TaskTracker::new();
    let upstream = Upstream::new(&shared.settings, shared.addr);
    let pool = upstream.pool();
    let worker = Worker {
        shared: Arc::clone(&shared),
        upstream,
        limit: limit.clone(),
        tasks: tasks.clone(),
    };
    tokio::spawn(spin::watch());
    let stack = stack(&shared, limit, Leaf::new(worker));
    let mut sweeps = tokio::time::interval((shared.settings.limits.pool_idle / 4).max(SWEEP_PAUSE));
    loop {
        tokio::select! {
            () = shared.drain.begun() => break,
            _ = sweeps.tick() => pool.sweep(),
            next = accepted.recv() => match next {
                Some(accepted) => {
                    tasks.spawn(serve(Arc::clone(&shared), stack.clone(), accepted));
                }
                None => break,
            },
        }
    }
    // Those that nobody will serve are closed now, and the acceptor does not wait for room.
    drop(accepted);
    tasks.close();
    tasks.wait().await;
}

/// Serves the requests of one connection.
async fn serve<S: HttpService>(shared: Arc<Shared>, stack: S, accepted: Accepted) {
    let Accepted { stream, peer, seat } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let peer = Arc::new(Peer::new(peer.to_string().into()).seated(seat));
    http1::serve(shared, stack, Socket::Plain(stream), peer).await;
}
