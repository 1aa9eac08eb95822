//! The W3C's trace context, from the client through the proxy to the upstream and the collector.

use nono_proxy::ProxyConfig;
use support::{Collector, Origin, Seen, TestProxy, attributes, exchange};

use super::{end, exporting};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Asks for `/api/x` with `fields`; returns what the upstream saw.
async fn ask(proxy: &TestProxy, origin: &Origin, fields: &str) -> Seen {
    let reply = exchange(proxy.addr(), &(proxy.begin("GET /api/x") + fields + "\r\n")).await;
    assert_eq!(reply.status, 200);
    origin.seen().pop().unwrap()
}

fn traceparent(seen: &Seen) -> [&str; 4] {
    let fields: Vec<_> = seen.header("traceparent").split('-').collect();
    fields.try_into().unwrap()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap()
}

fn hex(id: &[u8]) -> String {
    id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

#[tokio::test]
async fn the_clients_span_is_the_parent_and_ours_is_that_of_the_upstreams() {
    let (origin, collector) = (Origin::hello().await, Collector::willing().await);
    let proxy = exporting(origin.addr, collector.config()).await;
    for flags in ["01", "00"] {
        let fields = format!(
            "traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"
        );
        let seen = ask(&proxy, &origin, &fields).await;
        let [version, trace, span, passed] = traceparent(&seen);
        assert_eq!((version, trace, passed), ("00", TRACE, flags));
        assert_ne!(span, PARENT);
        let states: Vec<_> = seen.headers.get_all("tracestate").iter().collect();
        assert_eq!(states, ["a=1", "b=2"]);
        collector.until(|it| it.spans().iter().any(|it| hex(&it.span_id) == span)).await;
        let spans = collector.spans();
        let exported = spans.iter().find(|it| hex(&it.span_id) == span).unwrap();
        assert_eq!(
            (hex(&exported.trace_id), hex(&exported.parent_span_id)),
            (TRACE.into(), PARENT.into())
        );
        let record = proxy.only_record();
        assert_eq!(attributes(&exported.attributes)["nono.id"], record.id.to_string());
        let noted = record.traceparent.unwrap().to_string();
        assert_eq!(noted, format!("00-{TRACE}-{PARENT}-{flags}"));
    }
    assert_eq!(end(&proxy).await, []);
}

#[tokio::test]
async fn a_context_that_is_none_begins_a_trace_of_its_own() {
    let (origin, collector) = (Origin::hello().await, Collector::willing().await);
    let proxy = exporting(origin.addr, collector.config()).await;
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let mut traces = vec![TRACE.to_owned()];
    for fields in [
        String::new(),
        "tracestate: a=1\r\n".into(),
        format!("traceparent: 00-{TRACE}-{PARENT}-01-more\r\ntracestate: a=1\r\n"),
        format!("traceparent: ff-{TRACE}-{PARENT}-01\r\ntracestate: a=1\r\n"),
        format!("traceparent: 00-{}-{PARENT}-01\r\n", "0".repeat(32)),
        format!("traceparent: 00-{}-{PARENT}-01\r\n", TRACE.to_uppercase()),
        valid.clone() + &valid,
    ] {
        let seen = ask(&proxy, &origin, &fields).await;
        let [_, trace, _, flags] = traceparent(&seen);
        assert_eq!(flags, "01", "{fields}");
        assert!(!traces.contains(&trace.to_owned()), "{fields}");
        assert_eq!(seen.header("tracestate"), "", "{fields}");
        assert_eq!(proxy.only_record().traceparent, None);
        traces.push(trace.to_owned());
    }
    let seen = ask(&proxy, &origin, &(valid + "tracestate: not a member\r\n")).await;
    assert_eq!((traceparent(&seen)[1], seen.header("tracestate")), (TRACE, ""));
    assert_eq!(end(&proxy).await, []);
    let exported: Vec<_> = collector.spans().iter().map(|it| hex(&it.trace_id)).collect();
    assert_eq!(exported, [&traces[1..], &traces[..1]].concat());
}

#[tokio::test]
async fn without_an_export_the_clients_fields_pass_as_they_are() {
    let origin = Origin::hello().await;
    let proxy = TestProxy::with_route(origin.addr).await;
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: whatever\r\n");
    let seen = ask(&proxy, &origin, &fields).await;
    assert_eq!(traceparent(&seen), ["00", TRACE, PARENT, "01"]);
    assert_eq!(seen.header("tracestate"), "whatever");
    let seen = ask(&proxy, &origin, "").await;
    assert!(!seen.headers.contains_key("traceparent"));
}

#[tokio::test]
async fn refusals_and_what_is_no_request_have_spans_too() {
    let collector = Collector::willing().await;
    let otlp = Some(collector.config());
    let proxy = TestProxy::start(ProxyConfig { otlp, ..ProxyConfig::default() }).await;
    for (request, status) in [
        ("GET /none HTTP/1.1\r\nHost: p\r\n\r\n", 401),
        ("NOT HTTP AT ALL\r\n\r\n", 400),
        ("BREW / HTTP/1.1\r\nHost: p\r\n\r\n", 401),
    ] {
        assert_eq!(exchange(proxy.addr(), request).await.status, status);
    }
    assert_eq!(end(&proxy).await, []);
    let spans = collector.spans();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["GET", "HTTP", "HTTP"]);
    for span in spans {
        let found = attributes(&span.attributes);
        assert_eq!(found["nono.decision"], "deny");
        assert!(!found.contains_key("error.type"), "a refusal is no failure of the server's");
        assert!(!span.trace_id.is_empty() && span.end_time_unix_nano >= span.start_time_unix_nano);
    }
}
