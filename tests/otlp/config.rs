//! Mistakes in the options are found before anything runs, and show no secret.

use std::time::Duration;

use nono_audit::queue::QueueOptions;
use nono_proxy::{OtlpConfig, ProxyConfig};

fn mistake(otlp: OtlpConfig) -> String {
    let config = ProxyConfig { otlp: Some(otlp), ..ProxyConfig::default() };
    config.check().unwrap_err().to_string()
}

fn at(endpoint: &str) -> OtlpConfig {
    OtlpConfig { endpoint: endpoint.into(), ..OtlpConfig::default() }
}

fn with_headers(endpoint: &str, headers: &[(&str, &str)], key: Option<&str>) -> OtlpConfig {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    OtlpConfig {
        headers: headers.iter().map(pair).collect(),
        credential_key: key.map(str::to_owned),
        ..at(endpoint)
    }
}

#[test]
fn an_address_is_the_base_url_of_a_collector() {
    for (endpoint, reason) in [
        ("", "not a URL"),
        ("127.0.0.1:4318", "not a URL"),
        ("localhost:4317", "http or https"),
        ("grpc://127.0.0.1:4317", "http or https"),
        ("http://127.0.0.1:4318?x=1", "query"),
        ("http://127.0.0.1:4318/v1/logs", "base address"),
        ("http://127.0.0.1:4318/otlp/v1/traces/", "base address"),
        ("http://user:sesame@127.0.0.1:4318", "otlp_credential_key"),
    ] {
        let shown = mistake(at(endpoint));
        assert!(shown.starts_with("otlp_endpoint") && shown.contains(reason), "{shown}");
        assert!(!shown.contains("sesame"));
    }
    for endpoint in
        ["http://collector.internal:4318", "https://otlp.example/tenant/", "http://[::1]:1"]
    {
        let config = ProxyConfig { otlp: Some(at(endpoint)), ..ProxyConfig::default() };
        assert_eq!(config.check(), Ok(()), "{endpoint}");
    }
}

#[test]
fn keys_are_referred_to_and_go_where_they_are_protected() {
    let bearer = ("Authorization", "Bearer {}");
    let near = "http://127.0.0.1:4318";
    for (otlp, reason) in [
        (with_headers(near, &[("Authorization", "Bearer sesame")], None), "otlp_credential_key"),
        (with_headers(near, &[bearer], None), "needs `otlp_credential_key`"),
        (with_headers(near, &[], Some("env://K")), "no value of `otlp_headers`"),
        (with_headers(near, &[bearer, ("authorization", "{}")], Some("env://K")), "set twice"),
        (with_headers(near, &[("Content-Type", "text/plain")], None), "itself sets"),
        (with_headers(near, &[("Connection", "close")], None), "itself sets"),
        (with_headers(near, &[("X-A", "sesame\n")], None), "no header may hold"),
        (with_headers(near, &[bearer], Some("nowhere://K")), "unknown credential source"),
        (with_headers("http://collector.example", &[bearer], Some("env://K")), "use https"),
        (with_headers("http://8.8.8.8:4318", &[bearer], Some("env://K")), "use https"),
    ] {
        let shown = format!("{} {otlp:?}", mistake(otlp.clone()));
        assert!(shown.contains(reason), "{shown}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
    let told = mistake(with_headers(near, &[], Some("sk-sesame")));
    assert!(told.contains("looks like a key") && !told.contains("sesame"), "{told}");
    for endpoint in [near, "http://10.0.0.7:4318", "https://otlp.example"] {
        let otlp = with_headers(endpoint, &[bearer, ("X-Scope-OrgID", "me")], Some("env://K"));
        let config = ProxyConfig { otlp: Some(otlp), ..ProxyConfig::default() };
        assert_eq!(config.check(), Ok(()), "{endpoint}");
    }
}

fn with_queue(directory: &str, max_bytes: u64) -> OtlpConfig {
    let queue = QueueOptions { directory: directory.into(), max_bytes };
    OtlpConfig { queue: Some(queue), ..at("http://127.0.0.1:4318") }
}

#[test]
fn limits_names_and_files_are_judged_too() {
    let near = at("http://127.0.0.1:4318");
    let twice = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    for (otlp, field) in [
        (OtlpConfig { timeout: Duration::ZERO, ..near.clone() }, "otlp_timeout"),
        (OtlpConfig { flush: Duration::MAX, ..near.clone() }, "otlp_flush"),
        (OtlpConfig { service_name: String::new(), ..near.clone() }, "otlp_service_name"),
        (OtlpConfig { resource_attributes: twice, ..near.clone() }, "otlp_resource_attributes"),
        (OtlpConfig { tls_ca: Some("/ca.pem".into()), ..near }, "otlp_endpoint"),
        (
            OtlpConfig { tls_ca: Some("/no/such/file".into()), ..at("https://localhost") },
            "otlp_tls_ca",
        ),
        (with_queue("/queue", 1000), "otlp_queue_bytes"),
        (with_queue("", 1 << 20), "otlp_queue_dir"),
    ] {
        let shown = mistake(otlp);
        assert!(shown.starts_with(field), "{shown}");
    }
}
