//! Hosts: the one that was judged is the one that is dialled, however it is spelled.

use std::cell::Cell;

use nono_proxy::ProxyConfig;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use support::{Connection, TestProxy, Wire, isolated};

use crate::{for_all, runtime};

/// Spellings of 127.0.0.1, and of hosts that only look like it.
fn spelling() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Number::part(127),
        Number::part(0),
        Number::part(1),
        (0_u32..=300).prop_flat_map(Number::part),
    ];
    prop_oneof![
        4 => proptest::collection::vec(number, 1..5).prop_map(|parts| parts.join(".")),
        2 => Number::part(0x7f00_0001),
        1 => any::<u32>().prop_flat_map(Number::part),
        2 => proptest::sample::select(vec![
            "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]",
            "localhost", "LOCALHOST.", "LocalHost", "localhost..", "127.0.0.1.", "127.0.0.1.evil",
            "\u{ff11}27.0.0.1", "127\u{3002}0.0.1", "xn--127001-.0", "evil@127.0.0.1", "[::1%25lo]",
            "127.0.0.1%00", "127.0.0.1%2eevil", "metadata", "0", "0x", "1e3", "127.0.0.1,evil",
        ]).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9.:\\[\\]%@*_-]{1,12}",
    ]
}

struct Number;

impl Number {
    /// A number in one of the bases in which parsers of addresses read one.
    fn part(value: u32) -> impl Strategy<Value = String> {
        proptest::sample::select(vec![
            format!("{value}"),
            format!("0x{value:x}"),
            format!("0X{value:X}"),
            format!("0{value:o}"),
            format!("00{value:o}"),
        ])
    }
}

#[test]
fn a_tunnel_leads_to_the_host_that_its_rule_names_or_nowhere() {
    isolated("hosts::a_tunnel_leads_to_the_host_that_its_rule_names_or_nowhere", || {
        let runtime = runtime();
        let (wire, proxy) = runtime
            .block_on(async { (Wire::bind().await, TestProxy::with_hosts(&["127.0.0.1"]).await) });
        let (port, token) = (wire.addr.port(), proxy.proxy_authorization());
        let reached = Cell::new(0);
        for_all(&runtime, 600, &spelling(), async |host| {
            let target = format!("{host}:{port}");
            let mut client = Connection::open(proxy.addr()).await;
            client
                .send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{token}\r\n"))
                .await;
            let status = client.only_head().await.status();
            if status == 200 {
                // Dialled, and it is the one that the rule names.
                let mut upstream = wire.accept().await;
                client.send("ping").await;
                prop_assert_eq!(upstream.exactly(4).await, b"ping");
                let url = url::Url::parse(&format!("http://{target}/")).unwrap();
                let canonical = url.host_str().unwrap();
                // The IPv4 address, as such or in the clothes of IPv6.
                let names = ["127.0.0.1", "[::ffff:7f00:1]"];
                prop_assert!(names.contains(&canonical), "{host}: {canonical}");
                reached.set(reached.get() + 1);
                drop((client, upstream));
            } else {
                prop_assert!([400, 403].contains(&status), "{host}: {status}");
            }
            let record = proxy.records(1).await.remove(0);
            if status == 200 {
                prop_assert_eq!(&*record.target, "127.0.0.1");
            }
            Ok(())
        });
        assert!(reached.get() > 20, "only {} of the spellings", reached.get());
    });
}

#[test]
fn a_forward_names_the_host_that_was_judged() {
    isolated("hosts::a_forward_names_the_host_that_was_judged", || {
        let runtime = runtime();
        let (origin, proxy) = runtime.block_on(async {
            (Wire::bind().await.ok(), TestProxy::with_hosts(&["127.0.0.1", "localhost"]).await)
        });
        let (port, token) = (origin.addr.port(), proxy.proxy_authorization());
        for_all(&runtime, 600, &spelling(), async |host| {
            let mut client = Connection::open(proxy.addr()).await;
            let head =
                format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n{token}");
            client.send(head + "Connection: close\r\n\r\n").await;
            let before = origin.requests().len();
            let status = client.message().await.status();
            let record = proxy.records(1).await.remove(0);
            if status == 200 {
                let seen = origin.requests().pop().unwrap();
                prop_assert_eq!(seen.values("host"), [format!("{}:{port}", record.target)]);
                prop_assert!(["127.0.0.1", "localhost"].contains(&&*record.target));
            } else {
                prop_assert_eq!(origin.requests().len(), before, "{}", host);
            }
            Ok(())
        });
        assert!(origin.requests().len() > 20, "only {} of the spellings", origin.requests().len());
    });
}

#[test]
fn any_text_is_a_rule_or_a_mistake_that_names_it() {
    isolated("hosts::any_text_is_a_rule_or_a_mistake_that_names_it", || {
        let runtime = runtime();
        let text = prop_oneof![
            any::<String>(),
            "[a-z0-9.*:\\[\\]/@ -]{0,20}",
            spelling(),
            (spelling(), any::<u16>()).prop_map(|(host, port)| format!("{host}:{port}")),
            spelling().prop_map(|host| format!("*.{host}")),
        ];
        for_all(&runtime, 2000, &text, async |text| {
            for config in [
                ProxyConfig { allowed_hosts: vec![text.clone()], ..ProxyConfig::default() },
                ProxyConfig { denied_hosts: vec![text.clone()], ..ProxyConfig::default() },
            ] {
                if let Err(error) = config.check() {
                    prop_assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
                }
            }
            Ok(())
        });
    });
}
