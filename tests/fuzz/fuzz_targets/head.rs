//! What a request is does not depend on how its bytes were cut, nor on what follows it.
#![cfg_attr(fuzzing, no_main)]

use nono_proxy::fuzz::request;

fn check(data: &[u8]) {
    let whole = request(data, usize::MAX);
    for size in [1, 2, 7] {
        assert_eq!(request(data, size), whole, "in pieces of {size}");
    }
    if let Ok(Some(read)) = &whole {
        assert!(read.length <= data.len() && read.body.len() <= read.length);
        assert_eq!(request(&data[..read.length], usize::MAX), whole, "without what follows");
    }
}

nono_fuzz::fuzz!(check, [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\nGET",
    b"\r\n\r\nCONNECT a:1 HTTP/1.0\r\n\r\nearly",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
]);
