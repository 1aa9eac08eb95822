//! The body of a response, read from the socket by whoever polls it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf, ReadHalf, WriteHalf};
use tokio_util::task::AbortOnDropHandle;

use super::upload::Upload;
use super::{Connection, Line};
use crate::body::BodyError;
use crate::http1::{Framing, Part, Stopped, Wrong, read};
use crate::upstream::pool::Place;

/// See the module. Dropped before its end, it closes the connection.
#[derive(Debug)]
pub(crate) struct Payload {
    /// Empty once the connection was given back.
    reader: Option<Reader>,
    /// Read, not yet taken.
    came: BytesMut,
    framing: Framing,
    is_persistent: bool,
    /// Where the connection goes when all is read.
    pool: Option<Place>,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// The upstream closed it.
    #[error("the connection was closed before the end")]
    Closed,
    /// The request that it answers broke off; an upstream may wait for the rest of it for ever.
    #[error("the request was cut: {0}")]
    Request(Box<BodyError>),
    /// What came is not in the coding that was announced.
    #[error("{0}")]
    Malformed(&'static str),
}

impl Cut {
    fn malformed(wrong: Wrong) -> Self {
        Self::Malformed(wrong.reason())
    }
}

/// The reading side of a connection.
#[derive(Debug)]
enum Reader {
    Whole(Box<Line>),
    /// The upstream answers while the request is still on its way, and the client may read only
    /// when it has written all: so sending must not wait for this body to be asked for.
    Half(ReadHalf<Line>, Sending),
    /// The upstream takes no more of the request.
    Last(ReadHalf<Line>),
}

/// Sends the rest of a request; returns the writing side if it can take another one.
type Sending = AbortOnDropHandle<Result<WriteHalf<Line>, Stopped>>;

impl Payload {
    pub(super) fn new(
        io: Box<Line>,
        upload: Option<Upload>,
        came: BytesMut,
        framing: Framing,
        is_persistent: bool,
    ) -> Self {
        let reader = match upload {
            None => Reader::Whole(io),
            Some(upload) => {
                let (read, write) = tokio::io::split(*io);
                Reader::Half(read, AbortOnDropHandle::new(tokio::spawn(send(upload, write))))
            }
        };
        Self { reader: Some(reader), came, framing, is_persistent, pool: None }
    }

    /// Gives the connection to `place` when all is read, which may be now.
    pub(in crate::upstream) fn return_to(&mut self, place: Place) {
        self.pool = Some(place);
        self.release_if_done();
    }

    /// Whether all was read.
    pub(crate) fn is_end(&self) -> bool {
        self.reader.is_none() || self.framing.is_done()
    }

    /// The length, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.framing.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The next part of the body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.is_end() {
                return Poll::Ready(None);
            }
            match self.framing.next(&mut self.came).map_err(Cut::malformed)? {
                Some(Part::Data(data)) => {
                    self.release_if_done();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Part::End(trailers)) => {
                    self.release_if_done();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                None => {}
            }
            if ready!(self.poll_read(cx))? == 0 {
                let is_whole = matches!(self.framing, Framing::Open);
                self.reader = None;
                return Poll::Ready((!is_whole).then_some(Err(Cut::Closed)));
            }
        }
    }

    /// Reads what there is; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Cut>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(0)) };
        match read::poll_some(reader, cx, &mut self.came) {
            Poll::Ready(came) => Poll::Ready(Ok(came?)),
            // What came before the request broke off is passed on.
            Poll::Pending => self.rejoin(cx).map(|()| Poll::Pending)?,
        }
    }

    /// Joins both sides of the connection again if the request has been sent.
    fn rejoin(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        let Some(Reader::Half(_, sending)) = &mut self.reader else { return Ok(()) };
        let Poll::Ready(sent) = sending.poll_unpin(cx) else { return Ok(()) };
        let Some(Reader::Half(read, _)) = self.reader.take() else { return Ok(()) };
        self.reader = Some(match sent {
            Ok(Ok(write)) => Reader::Whole(Box::new(read.unsplit(write))),
            Ok(Err(Stopped::Write(_))) => Reader::Last(read),
            Ok(Err(Stopped::Body(error))) => return Err(Cut::Request(Box::new(error))),
            // Its task was ended with the runtime.
            Err(_) => return Err(Cut::Closed),
        });
        Ok(())
    }

    /// Gives the connection back as soon as the last byte was read, if nothing came behind it and
    /// the request is sent.
    fn release_if_done(&mut self) {
        if !self.is_end() {
            return;
        }
        let _ = self.rejoin(&mut Context::from_waker(Waker::noop()));
        if let (Some(Reader::Whole(io)), Some(place)) = (self.reader.take(), self.pool.take())
            && self.is_persistent
            && self.came.is_empty()
        {
            place.put(Connection { io });
        }
    }
}

async fn send(mut upload: Upload, mut io: WriteHalf<Line>) -> Result<WriteHalf<Line>, Stopped> {
    std::future::poll_fn(|cx| upload.poll(&mut io, cx)).await?;
    Ok(io)
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Whole(io) => Pin::new(&mut **io).poll_read(cx, to),
            Self::Half(io, _) | Self::Last(io) => Pin::new(io).poll_read(cx, to),
        }
    }
}

#[cfg(test)]
#[path = "payload/tests.rs"]
mod tests;
