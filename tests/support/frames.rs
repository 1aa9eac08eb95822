//! HTTP/2 by hand (RFC 9113), for what no library's client would send.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::TestProxy;
use crate::client::HANG;

type Stream = TlsStream<TcpStream>;

/// Kinds of frames (§6).
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags: of [`DATA`] and [`HEADERS`], and of [`HEADERS`] and [`CONTINUATION`].
pub const END_STREAM: u8 = 1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 4;
/// The flag of [`SETTINGS`] and [`PING`] that answer.
pub const ACK: u8 = 1;

/// The setting of how many streams there may be at once.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The setting of the window that each stream has at first.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// What begins a connection (§3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of a [`RST_STREAM`] or [`GOAWAY`].
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of the response that this opens: in the static table, or the first that is in no
    /// table, in Huffman's code.
    pub fn status(&self) -> u16 {
        match &self.payload[..] {
            [0x88, ..] => 200,
            [0x8c, ..] => 400,
            [0x48, length, value @ ..] => digits(&value[..usize::from(length & 0x7f)]),
            other => panic!("{other:x?}"),
        }
    }
}

/// The number of digits in Huffman's code (RFC 7541, appendix B).
fn digits(code: &[u8]) -> u16 {
    let bytes = code.iter().fold(1_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let bits = format!("{bytes:b}");
    let (mut rest, mut number) = (&bits[1..], 0);
    loop {
        // 0 to 2 have five bits, 3 to 9 have six; ones fill the last byte.
        let (digit, length) = match rest.get(..6) {
            Some(code) if code < "000110" => (u16::from_str_radix(&code[..5], 2).unwrap(), 5),
            Some(code) if ("011001".."100000").contains(&code) => {
                (u16::from_str_radix(code, 2).unwrap() - 0b01_1001 + 3, 6)
            }
            _ => return number,
        };
        number = number * 10 + digit;
        rest = &rest[length..];
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a request by `GET` or `POST`, `https`, to `target`: of the static table, or
/// literals that are not indexed (RFC 7541 §6.2.2).
pub fn fields(line: &str, target: &str) -> Vec<u8> {
    let (method, path) = line.split_once(' ').unwrap();
    let method = if method == "GET" { 0x82 } else { 0x83 };
    let literal = |name: u8, value: &str| {
        [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    [vec![method, 0x87], literal(0x04, path), literal(0x01, target)].concat()
}

/// A connection inside a tunnel.
pub struct Frames {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    /// Host and port of the origin.
    pub target: String,
}

impl Frames {
    /// A connection to the origin at a port of `localhost`, with these settings of the client's.
    pub async fn open(proxy: &TestProxy, port: u16, settings: &[(u16, u32)]) -> Self {
        let mut opened = Self::silent(proxy, port).await;
        opened.send(&[PREFACE, &self::settings(settings)].concat()).await.unwrap();
        opened
    }

    /// The same, before it has begun.
    pub async fn silent(proxy: &TestProxy, port: u16) -> Self {
        let config = proxy.trusting("SSL_CERT_FILE", &["h2"]);
        let target = format!("localhost:{port}");
        let stream = proxy.secured(&target, "localhost", config).await.unwrap();
        let (read, write) = split(stream);
        Self { read, write, target }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The proxy has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// The frame that opens a request on `stream`: `GET /`.
    pub fn request(&self, line: &str, stream: u32, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags, stream, &fields(line, &self.target))
    }

    /// Sends it.
    pub async fn ask(&mut self, line: &str, stream: u32, flags: u8) {
        let bytes = self.request(line, stream, flags);
        self.send(&bytes).await.unwrap();
    }

    /// Asks for `path`.
    pub async fn get(&mut self, path: &str, stream: u32) {
        self.ask(&format!("GET {path}"), stream, END_STREAM | END_HEADERS).await;
    }

    /// The next frame, pings and settings answered; `None` when the proxy has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next_unanswered().await?;
            let is_asked = matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0;
            if !is_asked {
                return Some(frame);
            }
            let payload: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
            // Fails when the proxy has closed, which the next reading shows.
            let _ = self.send(&self::frame(frame.kind, ACK, 0, payload)).await;
        }
    }

    /// The next frame that `is_it`.
    pub async fn find(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            match self.next().await {
                Some(frame) if !is_it(&frame) => {}
                found => return found,
            }
        }
    }

    /// The next frame of this kind on `stream`.
    pub async fn on(&mut self, stream: u32, kind: u8) -> Frame {
        let found = self.find(|frame| frame.stream == stream && frame.kind == kind).await;
        found.unwrap_or_else(|| panic!("the proxy closed before {kind} on {stream}"))
    }

    /// Waits until the proxy asks whether the client is there, and answers.
    pub async fn pinged(&mut self) {
        loop {
            let frame = self.next_unanswered().await.expect("the proxy closed");
            if frame.kind == PING && frame.flags & ACK == 0 {
                return self.send(&self::frame(PING, ACK, 0, &frame.payload)).await.unwrap();
            }
        }
    }

    /// Waits until the proxy has closed, and answers nothing; what came.
    pub async fn closed(&mut self) -> Vec<Frame> {
        let mut came = Vec::new();
        while let Some(frame) = self.next_unanswered().await {
            came.push(frame);
        }
        came
    }

    async fn next_unanswered(&mut self) -> Option<Frame> {
        timeout(HANG, self.read()).await.expect("nothing comes").ok()
    }

    async fn read(&mut self) -> io::Result<Frame> {
        read(&mut self.read).await
    }
}

/// The next frame.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// The bytes of settings.
pub(crate) fn settings(of: &[(u16, u32)]) -> Vec<u8> {
    let pairs = of
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>())
}
