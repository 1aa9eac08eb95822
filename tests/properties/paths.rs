//! Paths: what was judged is what arrives, and it stays below the upstream's base path.

use nono_proxy::{ProxyConfig, RouteConfig};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use support::{Connection, Heard, TestProxy, Wire, route};
use url::Url;

use crate::{for_all, runtime};

/// Parts of paths, of which the dangerous ones are as likely as the plain ones.
const PARTS: &[&str] = &[
    "/",
    "/",
    "/",
    "a",
    "public",
    "secret",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "\\",
    ";",
    "..;",
    ";x=1",
    "%252e",
    "%c0%ae",
    "%20",
    "%",
    "%zz",
    "#",
    "?",
    "&",
    "=",
    "@",
    ":",
    "//",
    "\u{e4}",
    "\u{ff0e}",
    "%e4%bd%a0",
    "~",
    "*",
    "|",
    "{",
    "\"",
    "%00",
    "%09",
    "+",
    "v1",
    "v2",
];

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(PARTS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => (0_u8..=255).prop_map(|byte| format!("%{byte:02x}")),
    ]
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(part(), 0..8).prop_map(|parts| parts.concat())
}

/// Enough of the paths that were tried must have been let through, or nothing was shown.
const ENOUGH: usize = 50;

/// Where a path leads when every reading that a server could take is taken: escapes undone until
/// nothing changes, backslashes as slashes, parameters cut off, dot segments resolved.
fn naive(path: &str) -> Vec<String> {
    let mut text = path.to_owned();
    loop {
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let mut resolved = Vec::new();
    for segment in text.replace('\\', "/").split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(resolved.pop()),
            name => resolved.push(name.to_owned()),
        }
    }
    resolved
}

/// The target that reached the origin, if the path was let through.
async fn forwarded(proxy: &TestProxy, origin: &Heard, path: &str) -> Option<String> {
    let before = origin.requests().len();
    let mut connection = Connection::open(proxy.addr()).await;
    connection.send(proxy.begin(&format!("GET {path}")) + "Connection: close\r\n\r\n").await;
    let status = connection.message().await.status();
    let seen = origin.requests();
    assert_eq!(seen.len() - before, usize::from(status == 200), "{path:?}: {status}");
    let line = seen.get(before)?.line();
    Some(line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?.to_owned())
}

/// As `Message::line` shows text: one character for each byte.
fn shown(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

async fn setup(config: impl FnOnce(RouteConfig) -> RouteConfig) -> (Heard, TestProxy) {
    let origin = Wire::bind().await.ok();
    let routes = vec![config(route("/api", origin.addr))];
    let proxy = TestProxy::start(ProxyConfig { routes, ..ProxyConfig::default() }).await;
    (origin, proxy)
}

#[test]
fn what_a_rule_judged_is_byte_for_byte_what_arrives() {
    let runtime = runtime();
    let rules = vec![("GET".to_owned(), "/public/**".to_owned())];
    let (origin, proxy) =
        runtime.block_on(setup(|base| RouteConfig { endpoint_rules: rules, ..base }));
    let strategy = (prop_oneof![Just("/public/"), Just("/")], path());
    for_all(&runtime, 1000, &strategy, async |(start, tail)| {
        let asked = format!("{start}{tail}");
        if let Some(target) = forwarded(&proxy, &origin, &format!("/api{asked}")).await {
            prop_assert_eq!(&target, &shown(&asked));
            let path = target.split('?').next().unwrap();
            prop_assert!(path.starts_with("/public/"), "{target}");
            prop_assert_eq!(&naive(path)[0], "public", "{}", target);
            let url = Url::parse(&format!("http://origin{asked}")).unwrap();
            prop_assert!(url.path().starts_with("/public/"), "{url}");
        }
        Ok(())
    });
    assert!(origin.requests().len() > ENOUGH, "{} paths", origin.requests().len());
}

#[test]
fn no_path_leads_out_of_the_base_path() {
    let runtime = runtime();
    let (origin, proxy) = runtime.block_on(setup(|base| {
        let upstream = format!("{}/base/v1/", base.upstream);
        RouteConfig { upstream, ..base }
    }));
    for_all(&runtime, 1000, &path(), async |tail| {
        if let Some(target) = forwarded(&proxy, &origin, &format!("/api/{tail}")).await {
            prop_assert_eq!(&target, &shown(&format!("/base/v1/{tail}")));
            let path = target.split('?').next().unwrap();
            prop_assert_eq!(&naive(path)[..2], &["base".to_owned(), "v1".to_owned()][..]);
            let url = Url::parse(&format!("http://origin/base/v1/{tail}")).unwrap();
            prop_assert!(url.path().starts_with("/base/v1/"), "{url}");
        }
        Ok(())
    });
    assert!(origin.requests().len() > ENOUGH, "{} paths", origin.requests().len());
}

#[test]
fn a_path_that_nothing_governs_arrives_as_it_is() {
    let runtime = runtime();
    let (origin, proxy) = runtime.block_on(setup(|base| base));
    for_all(&runtime, 500, &path(), async |tail| {
        if let Some(target) = forwarded(&proxy, &origin, &format!("/api/{tail}")).await {
            prop_assert_eq!(target, shown(&format!("/{tail}")));
        }
        Ok(())
    });
    assert!(origin.requests().len() > ENOUGH, "{} paths", origin.requests().len());
}
