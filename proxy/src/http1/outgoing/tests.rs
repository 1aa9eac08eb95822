use bytes::Bytes;
use nono_audit::Outcome;
use nono_credentials::SecretBuf;

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
    let long = Bytes::from(vec![0; super::SHORT + 1]);
    outgoing.outbox.put_data(long.clone(), false);
    outgoing.outbox.put_last(None);
    assert_eq!(outgoing.outbox.data.as_ptr(), long.as_ptr());
    assert_eq!(
        (&*outgoing.outbox.head, &*outgoing.outbox.tail),
        (&b"head\r\n\r\n"[..], &b"0\r\n\r\n"[..])
    );
}
