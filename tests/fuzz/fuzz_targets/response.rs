//! What a response is does not depend on how its bytes were cut, nor on what follows it.
#![cfg_attr(fuzzing, no_main)]

use nono_proxy::fuzz::response;

fn check(data: &[u8]) {
    for is_to_head in [false, true] {
        let whole = response(data, usize::MAX, is_to_head);
        for size in [1, 2, 7] {
            assert_eq!(response(data, size, is_to_head), whole, "in pieces of {size}");
        }
        if let Ok(Some(read)) = &whole {
            assert!(read.length <= data.len() && read.body.len() <= read.length);
            let alone = response(&data[..read.length], usize::MAX, is_to_head);
            assert_eq!(alone, whole, "without what follows");
        }
    }
}

nono_fuzz::fuzz!(check, [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\nHTTP",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n3;a=b\r\nabc\r\n0A \r\n0123456789\r\n00\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end",
    b"HTTP/1.0 404 caf\xe9\nConnection: keep-alive, close\nX:\n\n",
    b"HTTP/1.1 304 \r\nContent-Length: 12345\r\n\r\nHTTP/1.1",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nearly",
]);
