//! A collector of OpenTelemetry that keeps what it is sent.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use nono_proxy::OtlpConfig;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::client::HANG;
use crate::{Identity, Origin, Reaction, Seen};

/// What came in one request: when, where to, and what the collector answered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When it was answered.
    pub at: Instant,
    /// `/v1/logs` or `/v1/traces`.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The `nono.sequence` of what was in it.
    pub sequences: Vec<u64>,
    /// The spans in it.
    pub spans: Vec<Span>,
    /// The `service.instance.id` of what was in it.
    pub instance: String,
    /// The value of `Authorization`.
    pub authorization: String,
    /// Whether it came compressed.
    pub is_packed: bool,
}

/// See the module.
#[derive(Clone)]
pub struct Collector {
    origin: Origin,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Collector {
    /// One that takes everything.
    pub async fn willing() -> Self {
        Self::start(None, |_| answer(200)).await
    }

    /// One that answers with `react`, which is given all that came before; over TLS if it has an
    /// identity.
    pub async fn start(
        identity: Option<Identity>,
        react: impl Fn(&[Delivery]) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let kept = Arc::clone(&deliveries);
        let origin = Origin::start(identity, move |seen| {
            let mut kept = kept.lock().unwrap();
            kept.push(Delivery::read(seen));
            let reaction = react(&kept);
            kept.last_mut().unwrap().status = reaction.status().as_u16();
            reaction
        })
        .await;
        Self { origin, deliveries }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.origin.addr
    }

    /// What a proxy is told to send to it.
    pub fn config(&self) -> OtlpConfig {
        OtlpConfig { endpoint: format!("http://{}", self.addr()), ..OtlpConfig::default() }
    }

    /// What has come so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// What has come to `path` and was answered with success.
    pub fn taken(&self, path: &str) -> Vec<Delivery> {
        let is_taken = |it: &Delivery| it.path == path && (200..300).contains(&it.status);
        self.deliveries().into_iter().filter(is_taken).collect()
    }

    /// The sequence numbers of the logs that were taken, in the order in which they came.
    pub fn sequences(&self) -> Vec<u64> {
        self.taken("/v1/logs").into_iter().flat_map(|delivery| delivery.sequences).collect()
    }

    /// The spans that were taken.
    pub fn spans(&self) -> Vec<Span> {
        self.taken("/v1/traces").into_iter().flat_map(|delivery| delivery.spans).collect()
    }

    /// Waits until `is_so` of what has come.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                tokio::task::yield_now().await;
            }
        };
        let what = || self.deliveries();
        assert!(tokio::time::timeout(HANG, wait).await.is_ok(), "{:#?}", what());
    }
}

/// An empty answer.
pub fn answer(status: u16) -> Reaction {
    let mut response = Response::new(Full::<Bytes>::default().boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The attributes of a span or a log record that are texts or whole numbers, as text.
pub fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let show = |pair: &KeyValue| {
        let text = match pair.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            _ => return None,
        };
        Some((pair.key.clone(), text))
    };
    pairs.iter().filter_map(show).collect()
}

impl Delivery {
    fn read(seen: &Seen) -> Self {
        assert_eq!(
            (&*seen.method, seen.header("content-type")),
            ("POST", "application/x-protobuf")
        );
        let is_packed = seen.header("content-encoding") == "gzip";
        let mut body = Vec::new();
        if is_packed {
            GzDecoder::new(&*seen.body).read_to_end(&mut body).unwrap();
        } else {
            body.extend_from_slice(&seen.body);
        }
        let mut spans = Vec::new();
        let sequence = |pairs: &[KeyValue]| attributes(pairs)["nono.sequence"].parse().unwrap();
        let mut instance = String::new();
        let of = |resource: Option<&Resource>| {
            attributes(&resource.unwrap().attributes)["service.instance.id"].clone()
        };
        let sequences = match &*seen.target {
            "/v1/logs" => {
                let request = ExportLogsServiceRequest::decode(&*body).unwrap();
                instance.extend(request.resource_logs.iter().map(|it| of(it.resource.as_ref())));
                let scopes = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
                let logs = scopes.flat_map(|it| &it.log_records);
                logs.map(|log| sequence(&log.attributes)).collect()
            }
            "/v1/traces" => {
                let request = ExportTraceServiceRequest::decode(&*body).unwrap();
                instance.extend(request.resource_spans.iter().map(|it| of(it.resource.as_ref())));
                let scopes = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
                spans.extend(scopes.flat_map(|it| it.spans));
                spans.iter().map(|span| sequence(&span.attributes)).collect()
            }
            other => panic!("{other}"),
        };
        Self {
            at: Instant::now(),
            path: seen.target.clone(),
            status: 0,
            sequences,
            spans,
            authorization: seen.header("authorization").to_owned(),
            instance,
            is_packed,
        }
    }
}
