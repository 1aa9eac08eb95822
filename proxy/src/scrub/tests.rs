use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use nono_credentials::{Loaded, Store};

use super::{Scrubber, Secrets, WORTH_PREPARING, find, headers};
use crate::config::RouteConfig;
use crate::route::Route;

const SECRET: &str = "sk-sksk-secret";

/// What the answer to a request with [`SECRET`] may echo.
async fn secrets() -> Secrets {
    Secrets { sent: loaded(SECRET).await, current: None }
}

/// `secret` as a key of a route, from a file of its own.
async fn loaded(secret: &str) -> Arc<Loaded> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, secret).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let config = RouteConfig {
        prefix: "/x".into(),
        upstream: "https://x.example".into(),
        credential_key: Some(format!("file://{}", file.display())),
        ..RouteConfig::default()
    };
    let route = Route::parse(&config).unwrap();
    let credential = route.credential.as_ref().unwrap();
    credential.load(&Store::new(Duration::from_secs(5))).await;
    Arc::clone(credential.current().as_ref().unwrap())
}

/// Scrubs `text` in pieces of `size`, and says how much was held back at most.
fn scrub(secrets: &Secrets, text: &str, size: usize) -> (String, usize) {
    let mut scrubber = Scrubber::new(secrets.clone(), &HeaderMap::new(), false);
    let (mut out, mut most) = (Vec::new(), 0);
    for piece in text.as_bytes().chunks(size) {
        out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(piece)));
        most = most.max(scrubber.held.len());
    }
    out.extend_from_slice(&scrubber.finish());
    (String::from_utf8(out).unwrap(), most)
}

#[tokio::test]
async fn every_occurrence_is_masked_however_the_body_is_cut() {
    let secrets = secrets().await;
    let stars = "*".repeat(SECRET.len());
    for (text, clean) in [
        (format!("a{SECRET}b{SECRET}"), format!("a{stars}b{stars}")),
        (format!("sk-sk-{SECRET}"), format!("sk-sk-{stars}")),
        (format!("sk-{SECRET}{SECRET}sk-"), format!("sk-{stars}{stars}sk-")),
        ("sk-sksk-secre".into(), "sk-sksk-secre".into()),
        ("nothing here".into(), "nothing here".into()),
    ] {
        for size in 1..=text.len() {
            assert_eq!(scrub(&secrets, &text, size).0, clean, "{text} by {size}");
        }
    }
}

#[tokio::test]
async fn a_secret_that_begins_another_or_itself_leaves_nothing_of_it() {
    for (sent, current, text) in [
        ("sk-secret", "sk-secret-renewed", "sk-secret-renewed"),
        ("abcdabcd", "wxyzwxyz", "abcdabcdabcd"),
    ] {
        let (sent, current) = (loaded(sent).await, loaded(current).await);
        for secrets in [
            Secrets { sent: Arc::clone(&sent), current: Some(Arc::clone(&current)) },
            Secrets { sent: Arc::clone(&current), current: Some(sent) },
        ] {
            let stars = "*".repeat(text.len());
            // Alone, and where more is let go meanwhile than is held back.
            for (before, behind) in [(0, 0), (200, 0), (0, 200), (100, 100)] {
                let (before, behind) = ("-".repeat(before), "-".repeat(behind));
                let (whole, clean) = [text, &*stars].map(|it| before.clone() + it + &behind).into();
                for size in 1..=whole.len() {
                    assert_eq!(scrub(&secrets, &whole, size).0, clean, "by {size}");
                }
            }
            let mut map = HeaderMap::new();
            map.insert("x-echo", text.parse().unwrap());
            headers(&secrets, &mut map);
            assert_eq!(map["x-echo"], stars);
        }
    }
}

#[tokio::test]
async fn what_is_found_is_masked_when_the_rest_does_not_come() {
    let text = "abcdabcdabcda";
    let masked = "************a";
    let secrets = Secrets { sent: loaded("abcdabcd").await, current: None };
    let pushed = |size: usize| {
        let mut scrubber = Scrubber::new(secrets.clone(), &HeaderMap::new(), false);
        let pieces = text.as_bytes().chunks(size).map(Bytes::from_static);
        let gone: Vec<u8> = pieces.flat_map(|piece| scrubber.push(piece)).collect();
        assert!(gone.is_empty());
        scrubber
    };
    for size in 1..=text.len() {
        assert_eq!(pushed(size).finish(), masked);
        assert_eq!(pushed(size).cut(), &masked[..text.len() - 5], "it could go on as the secret");
    }
}

#[tokio::test]
async fn an_event_is_not_held_back() {
    let secrets = secrets().await;
    for event in ["data: {\"token\": 1}\n\n", "data: sk-s\n\n", "\n"] {
        assert_eq!(scrub(&secrets, event, event.len()).1, 0, "{event:?}");
    }
}

#[tokio::test]
async fn what_is_held_back_does_not_depend_on_the_secret() {
    let secrets = secrets().await;
    for (like, unlike) in [("sk-", "abc"), ("xsk-sksk-secre", "xab-abab-secrx"), ("\nsk", "\nab")] {
        let held = |text: &str| scrub(&secrets, text, text.len()).1;
        assert_eq!(held(like), held(unlike), "{like}");
    }
}

#[tokio::test]
async fn headers_are_masked_and_encoded_bodies_left_alone() {
    let secrets = secrets().await;
    let mut map = HeaderMap::new();
    map.insert("x-echo", format!("Bearer {SECRET}").parse().unwrap());
    map.insert("x-other", "kept".parse().unwrap());
    // As it comes from the wire: a name in small letters, whatever it was sent in.
    let named = format!("X-{}-Echo", SECRET.to_uppercase()).parse::<HeaderName>().unwrap();
    map.append(&named, "1".parse().unwrap());
    map.append(&named, "2".parse().unwrap());
    headers(&secrets, &mut map);
    assert_eq!(map["x-echo"], format!("Bearer {}", "*".repeat(SECRET.len())));
    assert_eq!(map["x-other"], "kept");
    assert_eq!(map.len(), 2, "{map:?}");
    map.insert("content-encoding", "gzip".parse().unwrap());
    let mut scrubber = Scrubber::new(secrets, &map, false);
    assert_eq!(scrubber.push(SECRET.into()), SECRET);
    assert_eq!((scrubber.last(SECRET.into()), scrubber.is_holding()), (SECRET.into(), false));
}

#[test]
fn short_texts_and_long_ones_are_searched_alike() {
    for length in [0, 1, 3, 4, 7, 200, WORTH_PREPARING, WORTH_PREPARING + 1] {
        let mut text = b"abab".repeat(length / 4 + 1);
        text.truncate(length);
        assert_eq!(find(&text, b"abac"), None, "{length}");
        let places = [0, length / 2, length.saturating_sub(5), length.saturating_sub(4)];
        for at in places.into_iter().filter(|at| at + 4 <= length) {
            let mut text = text.clone();
            text[at..at + 4].copy_from_slice(b"abac");
            assert_eq!(find(&text, b"abac"), Some(at), "{length}");
        }
    }
}
