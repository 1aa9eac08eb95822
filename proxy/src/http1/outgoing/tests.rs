use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use nono_audit::Outcome;
use nono_credentials::SecretBuf;
use tokio::io::AsyncWrite;

use super::Outgoing;
use crate::body::Body;

#[test]
fn a_chunk_is_announced_behind_the_head_and_both_are_gone_when_they_are_written() {
    let head = SecretBuf::from(&b"authorization: s3cret\r\n\r\n"[..]);
    let body = Body::answer("hello", Outcome::Complete);
    let mut outgoing = Outgoing::new(head, Some(body)).chunked(true);
    outgoing.outbox.put_data(Bytes::from(vec![0; 0xffff]), true);
    assert!(outgoing.outbox.head.ends_with(b"\r\n\r\nffff\r\n"));
    outgoing.outbox.advance(outgoing.outbox.head.len());
    assert!(outgoing.outbox.head.is_empty());
}

#[test]
fn what_is_short_goes_out_in_one_piece() {
    let body = Body::answer("hello", Outcome::Complete);
    let mut outgoing = Outgoing::new(b"head\r\n\r\n".to_vec(), Some(body)).chunked(true);
    outgoing.outbox.put_data(Bytes::from_static(b"hello"), true);
    outgoing.outbox.put_last(None);
    assert!(outgoing.outbox.has_room());
    assert_eq!(outgoing.outbox.head, b"head\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn what_is_long_is_not_copied() {
    let mut outgoing = Outgoing::new(b"head\r\n\r\n".to_vec(), None);
    let long = Bytes::from(vec![0; super::ONE_PIECE]);
    outgoing.outbox.put_data(long.clone(), false);
    outgoing.outbox.put_last(None);
    assert_eq!(outgoing.outbox.data.as_ptr(), long.as_ptr());
    assert_eq!(
        (&*outgoing.outbox.head, &*outgoing.outbox.tail),
        (&b"head\r\n\r\n"[..], &b"0\r\n\r\n"[..])
    );
}

/// Takes nothing until it is told to.
struct Shut(bool);

impl AsyncWrite for Shut {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0 { Poll::Pending } else { Poll::Ready(Ok(bytes.len())) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_body_is_not_asked_for_more_while_the_other_end_takes_nothing() {
    let mut cx = Context::from_waker(Waker::noop());
    let body = Body::answer("hello", Outcome::Complete);
    let mut outgoing = Outgoing::new(b"head\r\n\r\n".to_vec(), None);
    let mut io = Shut(true);
    assert!(outgoing.poll(&mut io, &mut cx).is_pending());
    // What comes later waits where it is.
    outgoing.body = Some(body);
    for _ in 0..100 {
        assert!(outgoing.poll(&mut io, &mut cx).is_pending());
    }
    assert_eq!(outgoing.outbox.head, b"head\r\n\r\n");
    io.0 = false;
    assert!(outgoing.poll(&mut io, &mut cx).is_ready());
    assert!(outgoing.body.is_none());
}
