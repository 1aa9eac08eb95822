use http::Method;
use nono_credentials::{OAuth2Config, VaultConfig};

use super::{PathRefusal, Route, RouteTable};
use crate::config::{InjectMode, RouteConfig};

fn route(prefix: &str, upstream: &str) -> RouteConfig {
    RouteConfig { prefix: prefix.into(), upstream: upstream.into(), ..RouteConfig::default() }
}

fn parse(config: &RouteConfig) -> Route {
    Route::parse(config).unwrap()
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let routes = ["/a", "/a/b", "c"].map(|prefix| parse(&route(prefix, "https://x.example")));
    let table = RouteTable::new(routes.into()).unwrap();
    let find = |path| table.find(path).map(|(route, rest)| (route.id.to_string(), rest.to_owned()));
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
    let path = |rest: &str| route.path(&Method::GET, rest).map(|(path, _)| path.concat());
    assert_eq!(path("").unwrap(), "/v1/");
    assert_eq!(path("/models").unwrap(), "/v1/models");
    for rest in ["/../admin", "/%2e%2e/admin", "/..;/admin", "/a\\..\\b", "/a%2fb"] {
        assert!(matches!(path(rest), Err(PathRefusal::Ambiguous(_))), "{rest}");
    }
}

#[test]
fn endpoint_rules_keep_a_star_within_its_segment() {
    let rules = [("GET", "/v1/*"), ("post", "/v1/chat/**"), ("*", "/health")];
    let route = parse(&RouteConfig {
        endpoint_rules: rules.map(|(method, path)| (method.into(), path.into())).into(),
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

/// What allows each file does not allow what a server makes of a name that it cuts off or unescapes.
#[test]
fn endpoint_rules_hold_for_each_way_to_read_a_path() {
    let rules = [
        ("DELETE", "/files/*"),
        ("GET", "/files/[!s]*"),
        ("GET", "/data/*.json"),
        ("GET", "/data/*;v=*"),
        ("GET", "/%7euser/*"),
        ("GET", "/matrix;of=*"),
    ];
    let mut rules = rules.map(|(method, path)| (method.to_owned(), path.to_owned()));
    // Whatever the order.
    for _ in 0..2 {
        rules.reverse();
        hold_for_each_way(&rules);
    }
}

fn hold_for_each_way(rules: &[(String, String)]) {
    let route =
        parse(&RouteConfig { endpoint_rules: rules.to_vec(), ..route("/x", "https://x.example") });
    let path = |method: Method, rest| route.path(&method, rest).map(|(path, _)| path.concat());
    for rest in ["/files/;x", "/files/;"] {
        assert!(matches!(path(Method::DELETE, rest), Err(PathRefusal::Ambiguous(_))), "{rest}");
    }
    assert!(matches!(path(Method::GET, "/data/key;.json"), Err(PathRefusal::Ambiguous(_))));
    for rest in ["/files/secret", "/files/%73ecret", "/files/%73;x"] {
        assert_eq!(path(Method::GET, rest), Err(PathRefusal::NoRule), "{rest}");
    }
    // What is allowed arrives as it came.
    for rest in ["/data/a;v=1.json", "/files/a;v=1", "/files/%61", "/~user/a", "/%7Euser/a"] {
        assert_eq!(path(Method::GET, rest).as_deref(), Ok(rest));
    }
    assert_eq!(path(Method::GET, "/matrix;of=a").unwrap(), "/matrix;of=a");
    assert_eq!(path(Method::DELETE, "/files/a;v=1").unwrap(), "/files/a;v=1");
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
    let edited = |key: Option<&str>, edit: fn(&mut RouteConfig)| {
        let mut config = route("/x", "https://x.example");
        config.credential_key = key.map(Into::into);
        edit(&mut config);
        config
    };
    let open = |edit| edited(None, edit);
    let keyed = |edit| edited(Some("env://K"), edit);
    assert_refused(&[
        ("credential_key", open(|c| c.credential_key = Some("exec://x".into()))),
        ("credential_format", keyed(|c| c.credential_format = Some("Bearer".into()))),
        ("credential_format", open(|c| c.credential_format = Some("{}".into()))),
        ("inject_header", keyed(|c| c.inject_header = "a b".into())),
        ("inject_header", keyed(|c| c.inject_header = "Host".into())),
        ("inject_mode", keyed(|c| c.inject_mode = InjectMode::UrlPath)),
        ("inject_mode", keyed(|c| c.inject_mode = InjectMode::QueryParam)),
        ("query_param_name", keyed(|c| c.query_param_name = Some("key".into()))),
        ("env_var", open(|c| c.env_var = Some("KEY".into()))),
        ("env_var", keyed(|c| c.env_var = Some("LD_PRELOAD".into()))),
        ("env_var", keyed(|c| c.env_var = Some("MY-KEY".into()))),
        ("endpoint_rules", open(|c| c.endpoint_rules = vec![("GET".into(), "v1".into())])),
        ("endpoint_rules", open(|c| c.endpoint_rules = vec![("GET".into(), "/[".into())])),
        ("tls_ca", open(|c| c.tls_ca = Some("/nowhere/ca.pem".into()))),
    ]);
}

#[test]
fn a_password_in_a_url_of_a_source_is_never_shown() {
    for url in ["https://user:sesame@x.example/token", "user:sesame@x", "https://sesame@", "s@se@"]
    {
        let oauth2 = OAuth2Config {
            token_url: url.into(),
            client_id: "id".into(),
            client_secret: Some("env://S".into()),
            ..OAuth2Config::default()
        };
        let vault = VaultConfig {
            address: url.into(),
            token_key: "env://T".into(),
            namespace: None,
            tls_ca: None,
        };
        let base = route("/x", "https://x.example");
        let key = Some("vault://a/b#c".into());
        for config in [
            RouteConfig { oauth2: Some(oauth2), ..base.clone() },
            RouteConfig { vault: Some(vault.clone()), ..base.clone() },
            RouteConfig { vault: Some(vault), credential_key: key, ..base },
        ] {
            let error = Route::parse(&config).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("se@"), "{error}");
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error}");
        }
    }
}

#[test]
fn two_routes_may_not_share_a_prefix_or_a_variable() {
    for (a, b) in [("/a", "a/"), ("/my-api", "/my_api")] {
        let routes = [a, b].map(|prefix| parse(&route(prefix, "https://x.example")));
        assert!(RouteTable::new(routes.into()).is_err(), "{a} {b}");
    }
}
