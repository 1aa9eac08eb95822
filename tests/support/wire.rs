//! An origin at the level of bytes: it keeps what it receives exactly as it came, and answers
//! with whatever bytes a test gives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{Connection, Identity, Message, TestProxy};

/// A TCP listener whose connections a test handles itself.
pub struct Wire {
    listener: TcpListener,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Wire {
    /// Listens on a free port of loopback.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// The next connection.
    pub async fn accept(&self) -> Connection {
        self.listener.accept().await.unwrap().0.into()
    }

    /// The listener itself.
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }

    /// The next connection, over TLS.
    pub async fn accept_secured(&self, identity: Identity) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()));
        Connection::over(acceptor.accept(stream).await.unwrap())
    }

    /// Sends `request` to `proxy`, and waits until it has arrived here: the client's connection
    /// and the one on which the answer is due.
    pub async fn request(&self, proxy: &TestProxy, request: String) -> (Connection, Connection) {
        let mut client = Connection::open(proxy.addr()).await;
        client.send(request).await;
        let mut upstream = self.accept().await;
        upstream.message().await;
        (client, upstream)
    }

    /// Whether nobody waits to be accepted.
    pub async fn is_quiet(&self) -> bool {
        // Lets the runtime learn of who does.
        tokio::task::yield_now().await;
        self.listener.accept().now_or_never().is_none()
    }

    /// Answers every request with `answer`, and closes after each if `answer` is not one that a
    /// connection survives.
    pub fn answer(self, answer: impl Into<Vec<u8>>) -> Heard {
        let heard = Heard { addr: self.addr, seen: Arc::default(), connections: Arc::default() };
        let (task, answer) = (heard.clone(), Arc::new(answer.into()));
        tokio::spawn(async move {
            loop {
                let connection = self.accept().await;
                task.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(task.clone().serve(connection, Arc::clone(&answer)));
            }
        });
        heard
    }

    /// Answers every request with 200 and `ok`.
    pub fn ok(self) -> Heard {
        self.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }
}

/// What a [`Wire`] that answers by itself has received.
#[derive(Clone)]
pub struct Heard {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    connections: Arc<AtomicUsize>,
}

impl Heard {
    /// The requests so far, of all connections.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// The one request so far.
    pub fn only(&self) -> Message {
        let seen = self.requests();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn serve(self, mut connection: Connection, answer: Arc<Vec<u8>>) {
        let survives = Message::split(&answer).is_some_and(|(head, _)| head.is_framed());
        while let Some(message) = connection.try_message().await {
            self.seen.lock().unwrap().push(message);
            if !connection.try_send(answer.as_slice()).await || !survives {
                break;
            }
        }
    }
}
