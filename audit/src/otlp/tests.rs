use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::{Encoder, Rejected, Resource, Signal};
use crate::redact::path_and_query;
use crate::{Decision, DenialCategory, Mode, Outcome, Phase, Protocol, Record, RecordId, Session};

const SESSION: Session = Session(7);
const BEGAN_MS: u64 = 1_700_000_000_000;

fn record() -> Record {
    let id = RecordId { session: SESSION, number: 3 };
    Record {
        method: Some("GET".into()),
        path: Some(path_and_query("/openai/v1/models?key=K", "", &[""; 0])),
        target: "api.example".into(),
        port: Some(443),
        status: Some(200),
        route_id: Some("openai".into()),
        protocol: Some(Protocol::Http11),
        client: Some("127.0.0.1:5000".into()),
        outcome: Outcome::Complete,
        duration_ms: 1.5,
        bytes_out: 12,
        sequence: 9,
        ..Record::new(id, BEGAN_MS, Mode::Reverse)
    }
}

fn encoder() -> Encoder {
    Encoder::new(&Resource {
        service: "agents".into(),
        session: SESSION,
        process: Some(std::process::id()),
        attributes: vec![("deployment.environment.name".into(), "test".into())],
    })
}

fn encode(signal: Signal, records: &[Record]) -> Option<Vec<u8>> {
    encoder().encode(signal, &records.iter().collect::<Vec<_>>())
}

fn spans(records: &[Record]) -> Vec<Span> {
    let bytes = encode(Signal::Spans, records).unwrap();
    let mut request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
    request.resource_spans.remove(0).scope_spans.remove(0).spans
}

fn logs(records: &[Record]) -> Vec<LogRecord> {
    let bytes = encode(Signal::Logs, records).unwrap();
    let mut request = ExportLogsServiceRequest::decode(&*bytes).unwrap();
    request.resource_logs.remove(0).scope_logs.remove(0).log_records
}

fn shown(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let show = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|pair| (pair.key, show(pair.value))).collect()
}

#[test]
fn a_span_has_the_names_of_the_semantic_conventions() {
    let mut span = spans(&[record()]).remove(0);
    assert_eq!(span.name, "GET /openai/*");
    assert_eq!(span.kind, 2, "a server's");
    assert_eq!(span.start_time_unix_nano, BEGAN_MS * 1_000_000);
    assert_eq!(span.end_time_unix_nano, BEGAN_MS * 1_000_000 + 1_500_000);
    assert_eq!(span.status, None, "unset");
    let found = shown(std::mem::take(&mut span.attributes));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/openai/v1/models"),
        ("url.query", "key=[redacted]"),
        ("http.route", "/openai/*"),
        ("server.address", "api.example"),
        ("server.port", "443"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "12"),
        ("nono.sequence", "9"),
        ("nono.id", "0000000000000007-3"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!found.contains_key("error.type"));
}

#[test]
fn a_parent_is_the_clients_and_a_span_is_always_the_same() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let child = Record { traceparent: Some(Box::new(parent.parse().unwrap())), ..record() };
    let found = spans(&[record(), child.clone(), child.clone()]);
    assert_eq!(found[0].parent_span_id, Vec::<u8>::new());
    assert_eq!(found[0].flags, 0x101);
    assert_eq!(found[1].parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(found[1].trace_id[..2], [0x4b, 0xf9]);
    assert_eq!(found[1].flags, 0x301, "remote, and recorded whatever the client says");
    assert_eq!(found[1], found[2]);
    assert_eq!(found[0].span_id, found[1].span_id);
    let log = logs(&[child]).remove(0);
    assert_eq!((log.trace_id, log.span_id), (found[1].trace_id.clone(), found[1].span_id.clone()));
}

#[test]
fn what_fails_is_an_error_and_what_is_refused_is_a_warning() {
    let failed = |status, outcome, category| Record {
        status,
        outcome,
        denial_category: category,
        ..record()
    };
    for (record, error) in [
        (failed(Some(502), Outcome::Complete, None), Some("502")),
        (
            failed(Some(502), Outcome::Refused, Some(DenialCategory::UpstreamConnectFailed)),
            Some("upstream_connect_failed"),
        ),
        (failed(Some(200), Outcome::UpstreamAbort, None), Some("upstream_abort")),
        (failed(Some(200), Outcome::Timeout, None), Some("timeout")),
        (failed(Some(403), Outcome::Refused, Some(DenialCategory::HostDenied)), None),
        (failed(None, Outcome::ClientAbort, None), None),
        (failed(None, Outcome::Refused, None), Some("_OTHER")),
    ] {
        let mut span = spans(std::slice::from_ref(&record)).remove(0);
        assert_eq!(span.status.take().map(|status| status.code), error.map(|_| 2));
        let found = shown(span.attributes);
        assert_eq!(found.get("error.type").map(String::as_str), error, "{record:?}");
    }
    let refused = Record { decision: Decision::Deny, ..record() };
    let severities = logs(&[record(), refused]).into_iter().map(|log| log.severity_text);
    assert_eq!(severities.collect::<Vec<_>>(), ["INFO", "WARN"]);
}

#[test]
fn methods_that_are_not_known_do_not_multiply_names() {
    let mut span = spans(&[Record { method: Some("BREW".into()), ..record() }]).remove(0);
    assert_eq!(span.name, "HTTP /openai/*");
    let found = shown(std::mem::take(&mut span.attributes));
    assert_eq!(found["http.request.method"], "_OTHER");
    assert_eq!(found["http.request.method_original"], "BREW");
}

#[test]
fn an_opening_and_a_gap_are_logs_and_no_spans() {
    let connect = Record { method: Some("CONNECT".into()), mode: Mode::Connect, ..record() };
    let opened = Record { phase: Phase::Open, ..connect.clone() };
    let gap = Record { phase: Phase::Gap, dropped: Some(5), ..record() };
    assert_eq!(encode(Signal::Spans, &[opened.clone(), gap.clone()]), None);
    assert_eq!(encode(Signal::Logs, &[]), None);
    assert_eq!(spans(&[opened.clone(), connect.clone(), gap.clone()]).len(), 1);
    let mut found = logs(&[opened, connect, gap]);
    let names: Vec<_> = found.iter().map(|log| &*log.event_name).collect();
    assert_eq!(names, ["nono.tunnel.opened", "nono.exchange", "nono.gap"]);
    assert_eq!(found[0].trace_id, found[1].trace_id);
    assert!(found[2].trace_id.is_empty());
    assert_eq!(shown(found.remove(2).attributes)["nono.dropped"], "5");
    assert!(shown(found.remove(1).attributes).contains_key("nono.bytes_out"));
}

#[test]
fn the_resource_says_which_service_it_is() {
    let bytes = encode(Signal::Logs, &[record()]).unwrap();
    let request = ExportLogsServiceRequest::decode(&*bytes).unwrap();
    let resource = request.resource_logs[0].resource.clone().unwrap();
    let found = shown(resource.attributes);
    assert_eq!(found["service.name"], "agents");
    assert_eq!(found["service.instance.id"], "0000000000000007");
    assert_eq!(found["deployment.environment.name"], "test");
    assert_eq!(request.resource_logs[0].scope_logs.len(), 1);
}

#[test]
fn what_a_collector_rejects_is_read_and_nothing_else() {
    let partial =
        ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too\nold".into() };
    let answer = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let rejected = Rejected { count: 2, reason: "too old".into() };
    assert_eq!(Rejected::read(&answer), Some(rejected));
    for answer in [&b""[..], b"not protobuf at all"] {
        assert_eq!(Rejected::read(answer), None);
    }
}
