//! Where names lead: every address that a name has is judged, whoever answers for it. Each test
//! has a table of hosts of its own, in a namespace from which nothing can be reached.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nono_audit::Outcome;
use nono_proxy::{Limits, ProxyConfig, ProxyHandle, RouteConfig};
use support::{Connection, Origin, Reply, TestProxy, exchange, isolated_with_hosts, route};

async fn connect(proxy: &TestProxy, target: &str) -> Reply {
    let token = proxy.proxy_authorization();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{token}\r\n");
    exchange(proxy.addr(), &head).await
}

async fn forward(proxy: &TestProxy, target: &str) -> Reply {
    let token = proxy.proxy_authorization();
    let head = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n{token}\r\n");
    exchange(proxy.addr(), &head).await
}

/// Makes a network of 10.9.9.9 that takes packets and answers none.
fn silence() {
    for command in [
        "link add silent type bridge",
        "addr add 10.9.9.1/24 dev silent",
        "link set silent up",
        "neigh add 10.9.9.9 lladdr 02:00:00:00:00:01 dev silent",
    ] {
        assert!(Command::new("ip").args(command.split(' ')).status().unwrap().success());
    }
}

/// A route to `http://{host}:{port}`, as `origin` has its port.
fn plain(host: &str, origin: SocketAddr) -> RouteConfig {
    RouteConfig { upstream: format!("http://{host}:{}", origin.port()), ..route("/api", origin) }
}

#[test]
fn a_plain_upstream_whose_name_leads_to_a_public_address_does_not_start() {
    let hosts = "8.8.8.8 public.test\n127.0.0.1 mixed.test\n8.8.4.4 mixed.test\n\
                 169.254.169.254 linked.test\n127.0.0.1 inside.test\n";
    isolated_with_hosts(
        "a_plain_upstream_whose_name_leads_to_a_public_address_does_not_start",
        hosts,
        async {
            let origin = Origin::hello().await;
            let start = async |host: &str| {
                let routes = vec![plain(host, origin.addr)];
                ProxyHandle::start(ProxyConfig { routes, ..ProxyConfig::default() }).await
            };
            for host in ["public.test", "mixed.test", "linked.test"] {
                let error = start(host).await.unwrap_err().to_string();
                assert!(error.starts_with("upstream \"http://"), "{error}");
                assert!(error.contains(host), "{error}");
            }
            start("inside.test").await.unwrap();
            // What cannot be looked up yet is judged when it is asked for.
            start("unknown.test").await.unwrap();
        },
    );
}

#[test]
fn a_name_that_moves_after_the_start_is_judged_anew() {
    let hosts = "127.0.0.1 moving.test";
    isolated_with_hosts("a_name_that_moves_after_the_start_is_judged_anew", hosts, async {
        let origin = Origin::hello().await;
        let config = ProxyConfig {
            routes: vec![plain("moving.test", origin.addr)],
            limits: Limits { workers: 1, ..Limits::default() },
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        for address in ["8.8.8.8", "169.254.169.254", "127.0.0.1\tmoving.test\n8.8.8.8"] {
            std::fs::write("/etc/hosts", format!("{address} moving.test\n")).unwrap();
            let reply = proxy.get("/api/x").await;
            assert_eq!((reply.status, reply.code()), (403, "address_refused".into()), "{address}");
        }
        std::fs::write("/etc/hosts", "127.0.0.1 moving.test\n").unwrap();
        assert_eq!(proxy.get("/api/x").await.text(), "hello");
        // The connection that was judged is kept, and not looked up again.
        std::fs::write("/etc/hosts", "8.8.8.8 moving.test\n").unwrap();
        assert_eq!(proxy.get("/api/x").await.text(), "hello");
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn what_a_name_may_lead_to_depends_on_the_rule_that_lets_it_through() {
    let hosts = "127.0.0.1 exact.test a.wild.test any.test\n169.254.169.254 meta.test\n\
                 fd20:ce::254 meta6.test\n::ffff:100.100.100.200 mapped.test\n";
    isolated_with_hosts(
        "what_a_name_may_lead_to_depends_on_the_rule_that_lets_it_through",
        hosts,
        async {
            let origin = Origin::hello().await;
            let rules = ["exact.test", "*.wild.test", "meta.test", "meta6.test", "mapped.test"];
            let listed = TestProxy::with_hosts(&rules).await;
            let all = ProxyConfig { allow_all_hosts: true, ..ProxyConfig::default() };
            let all = TestProxy::start(all).await;
            let target = |host: &str| format!("{host}:{}", origin.addr.port());
            assert_eq!(forward(&listed, &target("exact.test")).await.text(), "hello");
            for (proxy, host) in [
                (&listed, "a.wild.test"),
                (&listed, "meta.test"),
                (&listed, "meta6.test"),
                (&listed, "mapped.test"),
                (&all, "any.test"),
                (&all, "exact.test"),
                (&all, "meta.test"),
            ] {
                for reply in
                    [connect(proxy, &target(host)).await, forward(proxy, &target(host)).await]
                {
                    assert_eq!(
                        (reply.status, reply.code()),
                        (403, "address_refused".into()),
                        "{host}"
                    );
                }
            }
            assert_eq!(origin.seen().len(), 1);
        },
    );
}

#[test]
fn an_address_that_is_denied_is_reached_by_no_name_that_leads_there() {
    let hosts = "127.0.0.1 here.test localhost\n::ffff:127.0.0.1 mapped.test\n\
                 64:ff9b::127.0.0.1 translated.test\n127.0.0.1 both.test\n127.0.0.2 both.test\n\
                 127.0.0.2 beside.test\n";
    let name = "an_address_that_is_denied_is_reached_by_no_name_that_leads_there";
    isolated_with_hosts(name, hosts, async {
        let (origin, free) = (Origin::hello().await, Origin::hello().await);
        let names = ["here.test", "mapped.test", "translated.test", "both.test", "localhost"];
        let allowed = names.into_iter().chain(["beside.test", "127.0.0.1", "[64:ff9b::7f00:1]"]);
        let config = ProxyConfig {
            allowed_hosts: allowed.map(Into::into).collect(),
            denied_hosts: vec![format!("127.0.0.1:{}", origin.addr.port())],
            routes: vec![plain("here.test", origin.addr)],
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let denied = (403, "host_denied".to_owned());
        for host in
            ["mapped.test", "translated.test", "both.test", "localhost", "[64:ff9b::7f00:1]"]
        {
            let target = format!("{host}:{}", origin.addr.port());
            for reply in [connect(&proxy, &target).await, forward(&proxy, &target).await] {
                assert_eq!((reply.status, reply.code()), denied, "{host}");
            }
        }
        let through_route = proxy.get("/api/x").await;
        assert_eq!((through_route.status, through_route.code()), denied);
        let rule = format!("127.0.0.1:{}", origin.addr.port());
        for record in proxy.records(11).await {
            assert_eq!(record.rule.as_deref(), Some(&*rule), "{}", record.target);
        }
        assert_eq!(origin.connections(), 0);
        // At another port, or address, it is another place.
        let elsewhere = forward(&proxy, &format!("localhost:{}", free.addr.port())).await;
        assert_eq!(elsewhere.text(), "hello");
        let beside = forward(&proxy, &format!("beside.test:{}", origin.addr.port())).await;
        assert_eq!(beside.code(), "upstream_unreachable");
    });
}

#[tokio::test]
async fn what_leads_to_this_machine_by_its_name_is_not_reached_past_the_proxy() {
    let origin = "127.0.0.1:9".parse().unwrap();
    for (allowed, routes) in [
        (vec!["a.localhost".into()], Vec::new()),
        (vec!["A.LOCALHOST.:80".into()], Vec::new()),
        (Vec::new(), vec![plain("a.localhost", origin)]),
    ] {
        let config = ProxyConfig { allowed_hosts: allowed, routes, ..ProxyConfig::default() };
        let proxy = TestProxy::start(config).await;
        let variables = proxy.env_vars();
        let itself = proxy.addr().to_string();
        assert!(variables.contains(&("NO_PROXY".into(), itself)), "{variables:?}");
    }
}

#[test]
fn no_name_leads_to_the_proxy_itself() {
    let hosts = "127.0.0.1 own.test localhost\n127.0.0.1 both.test\n127.0.0.2 both.test\n\
                 127.0.0.2 beside.test\n";
    isolated_with_hosts("no_name_leads_to_the_proxy_itself", hosts, async {
        // The port is known before the proxy has it.
        let bind: SocketAddr = "127.0.0.1:18080".parse().unwrap();
        let config = ProxyConfig {
            bind,
            routes: vec![plain("own.test", bind)],
            allowed_hosts: ["own2.test", "both.test", "beside.test", "localhost", "a.localhost"]
                .map(Into::into)
                .into(),
            ..ProxyConfig::default()
        };
        std::fs::write("/etc/hosts", format!("127.0.0.1 own2.test\n{hosts}")).unwrap();
        let proxy = TestProxy::start(config).await;
        for host in ["own2.test", "both.test", "localhost", "a.localhost", "OWN2.test."] {
            let reply = connect(&proxy, &format!("{host}:{}", bind.port())).await;
            assert_eq!((reply.status, reply.code()), (508, "own_listener".into()), "{host}");
        }
        let through_route = proxy.get("/api/x").await;
        assert_eq!((through_route.status, through_route.code()), (508, "own_listener".into()));
        let forwarded = forward(&proxy, &format!("own2.test:{}", bind.port())).await;
        assert_eq!((forwarded.status, forwarded.code()), (508, "own_listener".into()));
        // Another address of the machine is another place.
        let beside = connect(&proxy, &format!("beside.test:{}", bind.port())).await;
        assert_eq!(beside.code(), "upstream_unreachable");
    });
}

#[test]
fn a_listener_on_every_address_is_reached_by_none_of_them() {
    let hosts = "127.0.0.1 localhost\n10.9.8.7 host.test\n";
    isolated_with_hosts("a_listener_on_every_address_is_reached_by_none_of_them", hosts, async {
        let address = ["addr", "add", "10.9.8.7/32", "dev", "lo"];
        assert!(Command::new("ip").args(address).status().unwrap().success());
        let hosts = ["10.9.8.7", "10.9.8.6", "127.0.0.9", "host.test"];
        let config = ProxyConfig {
            bind: "0.0.0.0:0".parse().unwrap(),
            allowed_hosts: hosts.map(Into::into).into(),
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let port = proxy.addr().port();
        for host in ["10.9.8.7", "127.0.0.9", "host.test"] {
            let reply = connect(&proxy, &format!("{host}:{port}")).await;
            assert_eq!((reply.status, reply.code()), (508, "own_listener".into()), "{host}");
        }
        // Nobody is there, but it is not this machine.
        let other = connect(&proxy, &format!("10.9.8.6:{port}")).await;
        assert_eq!(other.code(), "upstream_unreachable");
    });
}

#[test]
fn a_client_that_leaves_while_its_host_is_dialled_frees_its_place_at_once() {
    let hosts = "10.9.9.9 silent.test\n127.0.0.1 here.test\n";
    let name = "a_client_that_leaves_while_its_host_is_dialled_frees_its_place_at_once";
    isolated_with_hosts(name, hosts, async {
        silence();
        let origin = Origin::hello().await;
        let config = ProxyConfig {
            allowed_hosts: vec!["silent.test".into(), "10.9.9.9".into(), "here.test".into()],
            max_connections: 1,
            limits: Limits { connect: Duration::from_mins(1), ..Limits::default() },
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        let token = proxy.proxy_authorization();
        for head in [
            format!("CONNECT silent.test:80 HTTP/1.1\r\nHost: silent.test:80\r\n{token}\r\n"),
            format!("GET http://10.9.9.9/ HTTP/1.1\r\nHost: 10.9.9.9\r\n{token}\r\n"),
            // With a body that nobody asks for meanwhile, or a part of one.
            format!(
                "POST http://10.9.9.9/ HTTP/1.1\r\nHost: 10.9.9.9\r\nContent-Length: 2\r\n{token}\r\nhi"
            ),
            format!(
                "POST http://10.9.9.9/ HTTP/1.1\r\nHost: 10.9.9.9\r\nContent-Length: 9\r\n{token}\r\nhi"
            ),
        ] {
            let mut client = Connection::open(proxy.addr()).await;
            client.send(head).await;
            // It has the one place: nobody else asks for it.
            while proxy.active().is_empty() {
                tokio::task::yield_now().await;
            }
            drop(client);
            let here = format!("here.test:{}", origin.addr.port());
            while forward(&proxy, &here).await.status == 503 {}
        }
        let aborted = proxy.drain_audit();
        let aborted = aborted.iter().filter(|record| record.outcome == Outcome::ClientAbort);
        assert_eq!(aborted.count(), 4);
    });
}

#[test]
fn a_host_that_does_not_answer_is_given_up_in_time() {
    let hosts = "10.9.9.9 silent.test\n";
    isolated_with_hosts("a_host_that_does_not_answer_is_given_up_in_time", hosts, async {
        silence();
        let config = ProxyConfig {
            allowed_hosts: vec!["silent.test".into()],
            limits: Limits { connect: Duration::from_millis(100), ..Limits::default() },
            ..ProxyConfig::default()
        };
        let proxy = TestProxy::start(config).await;
        for reply in [connect(&proxy, "silent.test:80").await, forward(&proxy, "silent.test").await]
        {
            assert_eq!((reply.status, reply.code()), (504, "connect_timeout".into()));
            assert!(reply.head.contains("error=connection_timeout"), "{}", reply.head);
        }
        assert!(proxy.drain_audit().iter().all(|record| record.outcome == Outcome::Timeout));
    });
}

#[test]
fn an_address_that_is_dead_does_not_keep_the_next_one_from_being_tried() {
    let hosts = "::1 both.test\n127.0.0.1 both.test\n";
    let name = "an_address_that_is_dead_does_not_keep_the_next_one_from_being_tried";
    isolated_with_hosts(name, hosts, async {
        let origin = Origin::hello().await;
        let proxy = TestProxy::with_hosts(&["both.test"]).await;
        let reply = forward(&proxy, &format!("both.test:{}", origin.addr.port())).await;
        assert_eq!(reply.text(), "hello");
    });
}
