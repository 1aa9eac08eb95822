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
