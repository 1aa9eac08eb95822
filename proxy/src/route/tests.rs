use http::Method;

use super::{PathRefusal, Route, RouteTable};
use crate::config::{InjectMode, RouteConfig};

fn route(prefix: &str, upstream: &str) -> RouteConfig {
    RouteConfig {
        prefix: prefix.into(),
        upstream: upstream.into(),
        ..RouteConfig::default()
    }
}

fn parse(config: &RouteConfig) -> Route {
    Route::parse(config).unwrap()
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let routes = ["/a", "/a/b", "c"].map(|prefix| parse(&route(prefix, "https://x.example")));
    let table = RouteTable::new(routes.into()).unwrap();
    let find = |path| {
        table
            .find(path)
            .map(|(route, rest)| (route.id.to_string(), rest.to_owned()))
    };
    for (path, id, rest) in [
        ("/a", "a", ""),
        ("/a/", "a", "/"),
        ("/a/x/y", "a", "/x/y"),
        ("/a/b", "a/b", ""),
        ("/a/b/c", "a/b", "/c"),
        ("/a/bc", "a", "/bc"),
        ("/c//x", "c", "//x"),
    ] {
        assert_eq!(find(path), Some((id.into(), rest.into())), "{path}");
    }
    for path in ["/", "/ab", "/A", "/x/a", "//a", ""] {
        assert_eq!(find(path), None, "{path}");
    }
}

#[test]
fn a_base_path_is_joined_and_cannot_be_left() {
    let route = parse(&route("/x", "https://x.example/v1/"));
    let path = |rest: &str| route.path(&Method::GET, rest);
    assert_eq!(path("").unwrap(), "/v1/");
    assert_eq!(path("/models").unwrap(), "/v1/models");
    for rest in [
        "/../admin",
        "/%2e%2e/admin",
        "/..;/admin",
        "/a\\..\\b",
        "/a%2fb",
    ] {
        assert!(
            matches!(path(rest), Err(PathRefusal::Ambiguous(_))),
            "{rest}"
        );
    }
}

#[test]
fn endpoint_rules_keep_a_star_within_its_segment() {
    let rules = [("GET", "/v1/*"), ("post", "/v1/chat/**"), ("*", "/health")];
    let route = parse(&RouteConfig {
        endpoint_rules: rules
            .map(|(method, path)| (method.into(), path.into()))
            .into(),
        ..route("/x", "https://x.example")
    });
    let allowed = |method: Method, rest| route.path(&method, rest).is_ok();
    assert!(allowed(Method::GET, "/v1/models"));
    assert!(allowed(Method::POST, "/v1/chat/a/b"));
    assert!(allowed(Method::DELETE, "/health"));
    assert!(!allowed(Method::GET, "/v1/a/b"));
    assert!(!allowed(Method::POST, "/v1/models"));
    assert!(!allowed(Method::GET, "/v2/models"));
    assert!(!allowed(Method::GET, "/v1/x/../models"));
}

/// Checks that each configuration is refused for the field beside it.
fn assert_refused(cases: &[(&str, RouteConfig)]) {
    for (field, config) in cases {
        let error = Route::parse(config).unwrap_err();
        assert_eq!(error.field(), *field, "{error}");
    }
}

#[test]
fn mistakes_in_prefix_and_upstream_are_named_by_field() {
    assert_refused(&[
        ("prefix", route("", "https://x.example")),
        ("prefix", route("/a//b", "https://x.example")),
        ("prefix", route("/a/../b", "https://x.example")),
        ("prefix", route("/a%20b", "https://x.example")),
        ("upstream", route("/x", "x.example")),
        ("upstream", route("/x", "ftp://x.example")),
        ("upstream", route("/x", "https://u:p@x.example")),
        ("upstream", route("/x", "https://x.example/?q")),
        ("upstream", route("/x", "http://8.8.8.8")),
        ("upstream", route("/x", "https://169.254.169.254")),
        ("upstream", route("/x", "http://metadata.google.internal")),
    ]);
}

#[test]
fn mistakes_in_the_options_are_named_by_field() {
    let some = |text: &str| Some(text.to_owned());
    let open = || route("/x", "https://x.example");
    let keyed = || RouteConfig {
        credential_key: some("env://K"),
        ..open()
    };
    let rule = |path: &str| vec![("GET".to_owned(), path.to_owned())];
    assert_refused(&[
        (
            "credential_key",
            RouteConfig {
                credential_key: some("exec://x"),
                ..open()
            },
        ),
        (
            "credential_format",
            RouteConfig {
                credential_format: some("Bearer"),
                ..keyed()
            },
        ),
        (
            "credential_format",
            RouteConfig {
                credential_format: some("{}"),
                ..open()
            },
        ),
        (
            "inject_header",
            RouteConfig {
                inject_header: "a b".into(),
                ..keyed()
            },
        ),
        (
            "inject_header",
            RouteConfig {
                inject_header: "Host".into(),
                ..keyed()
            },
        ),
        (
            "path_pattern",
            RouteConfig {
                inject_mode: InjectMode::UrlPath,
                ..keyed()
            },
        ),
        (
            "query_param_name",
            RouteConfig {
                inject_mode: InjectMode::QueryParam,
                ..keyed()
            },
        ),
        (
            "query_param_name",
            RouteConfig {
                query_param_name: some("key"),
                ..keyed()
            },
        ),
        (
            "env_var",
            RouteConfig {
                env_var: some("KEY"),
                ..open()
            },
        ),
        (
            "env_var",
            RouteConfig {
                env_var: some("LD_PRELOAD"),
                ..keyed()
            },
        ),
        (
            "env_var",
            RouteConfig {
                env_var: some("MY-KEY"),
                ..keyed()
            },
        ),
        (
            "endpoint_rules",
            RouteConfig {
                endpoint_rules: rule("v1"),
                ..open()
            },
        ),
        (
            "endpoint_rules",
            RouteConfig {
                endpoint_rules: rule("/["),
                ..open()
            },
        ),
        (
            "tls_ca",
            RouteConfig {
                tls_ca: Some("/nowhere/ca.pem".into()),
                ..open()
            },
        ),
    ]);
}

#[test]
fn two_routes_may_not_share_a_prefix_or_a_variable() {
    for (a, b) in [("/a", "a/"), ("/my-api", "/my_api")] {
        let routes = [a, b].map(|prefix| parse(&route(prefix, "https://x.example")));
        assert!(RouteTable::new(routes.into()).is_err(), "{a} {b}");
    }
}
