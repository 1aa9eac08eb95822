//! A server of HTTP/2 by hand, for what no library's server does at a test's word.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Identity;
use crate::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, frame, read, settings,
};

/// `:status: 200`, of the static table.
const OK: u8 = 0x88;

/// The errors of a stream that ends as it should, and of one that was not processed (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;

/// What is done with a request.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// It is answered with the number of its connection.
    Answer,
    /// It is answered as well, but with the end left for [`Scripted::finish`].
    Begin,
    /// It is answered with a body of no bytes, whose end is told apart.
    Empty,
    /// It is answered in part, and then reset as if that were all.
    Break,
    /// It is not answered until [`Scripted::finish`], if then.
    Wait,
    /// It is refused, unprocessed.
    Refuse,
    /// It is not taken, nor are those after it on its connection; those before it are answered.
    GoAway,
    /// Nothing is sent any more, whatever comes.
    FallSilent,
}

/// A request: the number of its connection, and its own there, both from 1.
pub type Asked = (usize, usize);

/// The server. It ends with the process.
#[derive(Clone)]
pub struct Scripted {
    /// Where it listens.
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    finish: watch::Sender<()>,
}

impl Scripted {
    /// A server with `limits` as its settings that does with each request what `script` says.
    pub async fn start(
        identity: Identity,
        limits: &'static [(u16, u32)],
        script: impl Fn(Asked) -> Act + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Self { addr, asked: Arc::default(), finish: watch::Sender::new(()) };
        let tls = TlsAcceptor::from(Arc::new(identity.server_config()));
        let accepting = server.clone();
        tokio::spawn(async move {
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, tls, script) = (accepting.clone(), tls.clone(), script.clone());
                tokio::spawn(async move {
                    let stream = tls.accept(stream).await.ok()?;
                    // A client that leaves is part of some tests.
                    server.serve(stream, number, limits, script).await
                });
            }
        });
        server
    }

    /// The requests that have come so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Ends what was begun or waits.
    pub fn finish(&self) {
        self.finish.send_replace(());
    }

    async fn serve(
        self,
        stream: TlsStream<TcpStream>,
        number: usize,
        limits: &[(u16, u32)],
        script: impl Fn(Asked) -> Act,
    ) -> Option<()> {
        let (mut from, mut to) = split(stream);
        from.read_exact(&mut [0; PREFACE.len()]).await.ok()?;
        to.write_all(&settings(limits)).await.ok()?;
        let (frames, mut came) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok(frame) = read(&mut from).await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let mut finish = self.finish.subscribe();
        let mut connection = Connection { number, count: 0, waiting: Vec::new(), is_silent: false };
        loop {
            let answer = tokio::select! {
                frame = came.recv() => {
                    let frame = frame?;
                    if frame.kind == HEADERS {
                        connection.count += 1;
                        self.asked.lock().unwrap().push((number, connection.count));
                    }
                    connection.take(&frame, &script)
                }
                _ = finish.changed() => connection.finish(),
            };
            if !connection.is_silent {
                to.write_all(&answer).await.ok()?;
                to.flush().await.ok()?;
            }
        }
    }
}

struct Connection {
    number: usize,
    count: usize,
    /// The streams that are not answered, or not to the end; and whether they have their heads.
    waiting: Vec<(u32, bool)>,
    is_silent: bool,
}

impl Connection {
    /// What is sent when `came` comes.
    fn take(&mut self, came: &Frame, script: &impl Fn(Asked) -> Act) -> Vec<u8> {
        let Frame { kind, flags, stream, .. } = *came;
        match kind {
            SETTINGS if flags & ACK == 0 => return frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => return frame(PING, ACK, 0, &came.payload),
            HEADERS => {}
            _ => return Vec::new(),
        }
        match script((self.number, self.count)) {
            Act::Answer => [head(stream), self.body(stream)].concat(),
            Act::Begin => {
                self.waiting.push((stream, true));
                begun(stream)
            }
            Act::Empty => {
                // `content-length: 0`, by its number in the table of names (RFC 7541, appendix A).
                let length = [OK, 0x0f, 0x0d, 0x01, b'0'];
                let head = frame(HEADERS, END_HEADERS, stream, &length);
                [head, frame(DATA, END_STREAM, stream, b"")].concat()
            }
            Act::Break => {
                let reset = frame(RST_STREAM, 0, stream, &NO_ERROR.to_be_bytes());
                [begun(stream), reset].concat()
            }
            Act::Wait => {
                self.waiting.push((stream, false));
                Vec::new()
            }
            Act::Refuse => frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()),
            Act::GoAway => {
                let last = (stream - 2).to_be_bytes();
                [frame(GOAWAY, 0, 0, &[last, [0; 4]].concat()), self.finish()].concat()
            }
            Act::FallSilent => {
                self.is_silent = true;
                Vec::new()
            }
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        let waiting = std::mem::take(&mut self.waiting);
        let ends = waiting.into_iter().map(|(stream, has_head)| {
            let head = if has_head { Vec::new() } else { head(stream) };
            [head, self.body(stream)].concat()
        });
        ends.collect::<Vec<_>>().concat()
    }

    fn body(&self, stream: u32) -> Vec<u8> {
        frame(DATA, END_STREAM, stream, self.number.to_string().as_bytes())
    }
}

/// The beginning of a response.
fn begun(stream: u32) -> Vec<u8> {
    [head(stream), frame(DATA, 0, stream, b"begun\n")].concat()
}

fn head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[OK])
}
