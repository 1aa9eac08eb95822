//! A client that sends exactly the bytes it is given and parses what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Message;

/// Longer than any answer takes; a test that meets it has found a hang.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// A connection on which a test says byte for byte what is sent.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Read but not yet given out.
    buffer: Vec<u8>,
}

/// What a connection runs on.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The head as text, lower case.
    pub head: String,
    /// The body, framing removed.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `code` of a refusal's body.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// Sends `request` on a connection of its own and reads one response.
pub async fn exchange(addr: SocketAddr, request: &str) -> Reply {
    let mut connection = Connection::open(addr).await;
    connection.send(request).await;
    connection.reply().await
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self::over(stream)
    }
}

impl Connection {
    /// A connection that runs on `stream`.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Connects to `addr`.
    pub async fn open(addr: SocketAddr) -> Self {
        TcpStream::connect(addr).await.unwrap().into()
    }

    /// The stream that it runs on; nothing may have been read ahead.
    pub fn into_stream(self) -> impl AsyncRead + AsyncWrite + Unpin + Send {
        assert!(self.buffer.is_empty());
        self.stream
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes as they are; false when the other side takes no more.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(HANG, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the other side does not read").is_ok()
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// As [`Connection::finish`], whether or not the other side is still there.
    pub async fn try_finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads one response with its body.
    pub async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if field(&head, "transfer-encoding") == Some("chunked") {
            self.chunks().await
        } else if let Some(length) = field(&head, "content-length") {
            self.exactly(length.parse().unwrap()).await
        } else {
            Vec::new()
        };
        Reply { status, head, body }
    }

    /// Reads a response's head.
    pub async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        String::from_utf8(head).unwrap().to_lowercase()
    }

    /// Reads one message, framing included, exactly as it is.
    pub async fn message(&mut self) -> Message {
        self.try_message().await.expect("closed before a head")
    }

    /// As [`Connection::message`]; `None` when the other side closes before a head.
    pub async fn try_message(&mut self) -> Option<Message> {
        let head = self.try_until(b"\r\n\r\n").await?;
        let (mut message, _) = Message::split(&head)?;
        if let Some(length) = message.values("content-length").first() {
            message.body = self.exactly(length.parse().unwrap()).await;
        } else if !message.values("transfer-encoding").is_empty() {
            message.body = self.chunked_as_is().await;
        }
        Some(message)
    }

    /// Reads a head alone, exactly as it is.
    pub async fn only_head(&mut self) -> Message {
        let head = self.until(b"\r\n\r\n").await;
        Message::split(&head).unwrap().0
    }

    /// Reads one chunk of a chunked body; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.until(b"\r\n").await).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = self.exactly(length + 2).await;
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// Reads `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill().await, "closed after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..length).collect()
    }

    /// Reads and drops `length` bytes and whatever came with the last of them.
    pub async fn exactly_any(&mut self, length: usize) {
        let mut left = length.saturating_sub(self.buffer.len());
        self.buffer.clear();
        while left > 0 {
            assert!(self.fill().await, "closed with {left} bytes to come");
            left = left.saturating_sub(self.buffer.len());
            self.buffer.clear();
        }
    }

    /// Reads and drops everything up to `end`.
    pub async fn drop_until(&mut self, end: &[u8]) {
        self.until(end).await;
    }

    /// Waits until there is something to read, or the other side closes.
    pub async fn wait(&mut self) {
        if self.buffer.is_empty() {
            self.fill().await;
        }
    }

    /// Reads all that comes until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend(chunk);
        }
        body
    }

    async fn chunked_as_is(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await;
            let digits = std::str::from_utf8(&line).unwrap().trim().split(';').next().unwrap();
            let size = usize::from_str_radix(digits, 16).unwrap();
            body.extend(line);
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size + 2).await);
        }
        while !body.ends_with(b"\r\n\r\n") {
            body.extend(self.until(b"\r\n").await);
        }
        body
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let found = self.try_until(end).await;
        found.unwrap_or_else(|| {
            panic!("closed after {:?}", String::from_utf8_lossy(&self.buffer));
        })
    }

    async fn try_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads more; false when the other side closed, or reset, which is as good as closed here.
    async fn fill(&mut self) -> bool {
        let read = timeout(HANG, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the other side hangs"), Ok(n) if n > 0)
    }
}

fn field<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
