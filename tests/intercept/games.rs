//! What an HTTP/2 client can play with: windows, floods, and requests that it does not mean. None
//! takes more than its share, and others are served meanwhile.

use std::time::Duration;

use http::StatusCode;
use nono_audit::{Mode, Outcome};
use nono_proxy::{Limits, ProxyConfig};
use support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame,
};
use tokio::time::timeout;

use super::Setting;
use super::http2::get;

/// Errors that a frame can state (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The largest window (§6.9.1).
const LARGEST: u32 = i32::MAX as u32;

/// As long as tests may wait for what is to be cut.
const SHORT: Duration = Duration::from_millis(300);

const HANG: Duration = Duration::from_secs(20);

/// More than any of these may grow the process, in kB, although far more is sent.
const GROWTH: u64 = 48 * 1024;

fn limits(edit: impl FnOnce(&mut Limits)) -> impl FnOnce(ProxyConfig) -> ProxyConfig {
    move |mut config| {
        edit(&mut config.limits);
        config
    }
}

/// The memory of this process, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn open(setting: &Setting) -> Frames {
    Frames::open(&setting.proxy, setting.port(), &[]).await
}

/// Another client is served.
async fn others_are_served(setting: &Setting) {
    let mut other = setting.proxy.inside_http2(setting.port()).await;
    let response = other.send_request(get(setting.port(), "/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// Waits until so many requests run.
async fn runs(setting: &Setting, count: usize) {
    let of_requests = || {
        let active = setting.proxy.active();
        active.iter().filter(|record| record.method.as_deref() != Some("CONNECT")).count()
    };
    let running = async {
        while of_requests() != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, running).await.expect("it does not run");
}

/// The records of requests, without that of the tunnel, which comes first.
async fn outcomes(setting: &Setting, count: usize) -> Vec<(Option<u16>, Outcome)> {
    let records = setting.proxy.records(count + 1).await;
    records[1..].iter().map(|record| (record.status, record.outcome)).collect()
}

/// What the last frames say before the proxy closes.
async fn is_sent_away(client: &mut Frames) -> u32 {
    let came = client.closed().await;
    came.iter().rev().find(|frame| frame.kind == GOAWAY).expect("no farewell").code()
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// CVE-2023-44487.
#[tokio::test]
async fn requests_that_are_taken_back_end_the_connection() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let taken_back = |id: u32| {
        let opening = client.request("GET /", id, END_STREAM | END_HEADERS);
        [opening, frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())].concat()
    };
    let bytes: Vec<u8> = (1..4000).step_by(2).flat_map(taken_back).collect();
    // It may be cut off while it still writes.
    let _ = client.send(&bytes).await;
    assert_eq!(is_sent_away(&mut client).await, ENHANCE_YOUR_CALM);
    assert!(setting.origin.seen().len() < 1000, "{}", setting.origin.seen().len());
    others_are_served(&setting).await;
}

#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_not_whole() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let opening = client.request("POST /", 1, END_HEADERS);
    let reset = frame(RST_STREAM, 0, 1, &NO_ERROR.to_be_bytes());
    client.send(&[opening, frame(DATA, 0, 1, b"part"), reset].concat()).await.unwrap();
    let ends = outcomes(&setting, 1).await;
    assert_eq!(ends, [(None, Outcome::ClientAbort)]);
    others_are_served(&setting).await;
    assert_eq!(setting.origin.seen().len(), 1, "{:?}", setting.origin.seen());
}

#[tokio::test]
async fn a_window_that_stays_shut_ends_the_request_and_not_the_connection() {
    let setting = Setting::with(limits(|it| it.idle = SHORT)).await;
    let shut = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &shut).await;
    client.get("/large", 1).await;
    assert_eq!(client.on(1, HEADERS).await.status(), 200);
    assert_eq!(client.on(1, RST_STREAM).await.code(), CANCEL);
    client.get("/", 3).await;
    client.send(&window(3, 100)).await.unwrap();
    assert_eq!(client.on(3, DATA).await.payload, b"GET 0");
    let ends = outcomes(&setting, 2).await;
    assert_eq!(ends, [(Some(200), Outcome::ClientAbort), (Some(200), Outcome::Complete)]);
}

/// The place of a request whose window stays shut is free when it was cut.
#[tokio::test]
async fn a_window_that_stays_shut_holds_no_place_for_ever() {
    let edit = limits(|it| it.idle = SHORT);
    let edit = |config| edit(ProxyConfig { max_connections: 1, ..config });
    let setting = Setting::with(edit).await;
    let shut = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &shut).await;
    client.get("/", 1).await;
    assert_eq!(client.on(1, RST_STREAM).await.code(), CANCEL);
    others_are_served(&setting).await;
}

#[tokio::test]
async fn a_window_of_one_byte_serves_the_whole_response_byte_by_byte() {
    let setting = Setting::new().await;
    let tiny = [(INITIAL_WINDOW_SIZE, 1)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &tiny).await;
    client.get("/", 1).await;
    let mut whole: Vec<u8> = Vec::new();
    loop {
        let data = client.on(1, DATA).await;
        assert!(data.payload.len() <= 1, "{data:?}");
        whole.extend(&data.payload);
        if data.flags & END_STREAM != 0 {
            break;
        }
        client.send(&window(1, 1)).await.unwrap();
    }
    assert_eq!(whole, b"GET 0");
    assert_eq!(outcomes(&setting, 1).await, [(Some(200), Outcome::Complete)]);
}

/// Nothing is lost or said twice where a response is cut into frames and gathered into records.
#[tokio::test]
async fn a_large_response_comes_whole() {
    let setting = Setting::new().await;
    let wide = [(INITIAL_WINDOW_SIZE, LARGEST)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &wide).await;
    client.send(&window(0, 1 << 30)).await.unwrap();
    client.get("/large", 1).await;
    let mut whole = 0;
    loop {
        let data = client.on(1, DATA).await;
        whole += data.payload.len();
        if data.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(whole, 1 << 20);
    assert_eq!(outcomes(&setting, 1).await, [(Some(200), Outcome::Complete)]);
}

/// How long responses are, and a window for them: what is behind it waits in the stream, and in the
/// connection when the stream has ended.
const PAUSED: [usize; 2] = [70_000, 60_000];
const WINDOW: usize = 50_000;

/// A client that takes as much of a response as its first window lets through, and whose request
/// the proxy has done with.
async fn pauses(setting: &Setting, length: usize) -> Frames {
    let window = [(INITIAL_WINDOW_SIZE, u32::try_from(WINDOW).unwrap())];
    let mut client = Frames::open(&setting.proxy, setting.port(), &window).await;
    client.get(&format!("/bytes/{length}"), 1).await;
    let mut taken = 0;
    while taken < WINDOW {
        taken += client.on(1, DATA).await.payload.len();
    }
    assert_eq!(outcomes(setting, 1).await, [(Some(200), Outcome::Complete)]);
    client
}

/// Gives leave for the rest, which comes.
async fn goes_on(client: &mut Frames, length: usize) {
    client.send(&window(1, LARGEST / 2)).await.unwrap();
    client.send(&window(0, LARGEST / 2)).await.unwrap();
    let mut rest = 0;
    loop {
        let data = client.on(1, DATA).await;
        rest += data.payload.len();
        if data.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(rest, length - WINDOW);
}

/// Longer than a connection on which nothing runs is kept open, or has to take leave.
async fn time_passes(client: &mut Frames) {
    for _ in 0..6 {
        client.pinged().await;
    }
}

#[tokio::test]
async fn a_client_that_pauses_gets_the_rest_of_its_response() {
    for length in PAUSED {
        let setting = Setting::with(limits(|it| it.head = SHORT)).await;
        let mut client = pauses(&setting, length).await;
        time_passes(&mut client).await;
        goes_on(&mut client, length).await;
    }
}

#[tokio::test]
async fn a_client_that_pauses_gets_the_rest_of_its_response_while_the_proxy_drains() {
    for length in PAUSED {
        let setting = Setting::with(limits(|it| it.head = SHORT)).await;
        let mut client = pauses(&setting, length).await;
        let taking = async {
            time_passes(&mut client).await;
            goes_on(&mut client, length).await;
            client.closed().await;
        };
        tokio::join!(setting.proxy.shutdown(Duration::from_mins(1)), taking);
    }
}

/// Also when the stream has ended, and only the connection holds the rest.
#[tokio::test]
async fn a_client_that_pauses_for_too_long_is_cut() {
    for length in PAUSED {
        let edit = limits(|it| (it.head, it.idle) = (SHORT, 2 * SHORT));
        let setting = Setting::with(edit).await;
        let mut client = pauses(&setting, length).await;
        let ended = client.find(|frame| matches!(frame.kind, DATA | RST_STREAM | GOAWAY)).await;
        assert!(ended.is_none_or(|frame| frame.kind == RST_STREAM), "{length}");
    }
}

#[tokio::test]
async fn a_window_that_overflows_ends_what_it_is_of() {
    let setting = Setting::new().await;
    let shut = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &shut).await;
    client.get("/", 1).await;
    client.on(1, HEADERS).await;
    client.send(&[window(1, LARGEST), window(1, 1)].concat()).await.unwrap();
    let end = client.find(|it| it.kind == RST_STREAM || it.kind == GOAWAY).await.unwrap();
    assert_eq!(end.code(), FLOW_CONTROL_ERROR, "{end:?}");
    let mut client = Frames::open(&setting.proxy, setting.port(), &shut).await;
    client.get("/", 1).await;
    client.on(1, HEADERS).await;
    client.send(&[window(0, LARGEST), window(0, 1)].concat()).await.unwrap();
    assert_eq!(is_sent_away(&mut client).await, FLOW_CONTROL_ERROR);
    others_are_served(&setting).await;
}

#[tokio::test]
async fn a_window_that_grows_by_nothing_is_a_mistake() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    client.send(&window(0, 0)).await.unwrap();
    assert_eq!(is_sent_away(&mut client).await, PROTOCOL_ERROR);
}

/// More than was given leave for.
#[tokio::test]
async fn data_beyond_the_window_ends_what_it_is_of() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    client.ask("POST /", 1, END_HEADERS).await;
    // More at once than the upstream takes meanwhile.
    let much = frame(DATA, 0, 1, &[b'x'; 16_384]).repeat(512);
    let before = resident();
    for _ in 0..8 {
        if client.send(&much).await.is_err() {
            break;
        }
    }
    let end = client.find(|it| it.kind == GOAWAY || it.kind == RST_STREAM).await.unwrap();
    assert_eq!(end.code(), FLOW_CONTROL_ERROR, "{end:?}");
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    others_are_served(&setting).await;
}

/// Sends `bytes` over and over and reads nothing, until the proxy takes no more; what it does then.
async fn flood(setting: &Setting, bytes: Vec<u8>) {
    let mut client = open(setting).await;
    let before = resident();
    let flood = bytes.repeat(64 * 1024 / bytes.len());
    let flooding = async { while client.send(&flood).await.is_ok() {} };
    // It is cut, and until then others are served.
    let (cut, ()) = tokio::join!(timeout(HANG, flooding), others_are_served(setting));
    cut.expect("it is not cut");
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    others_are_served(setting).await;
}

#[tokio::test]
async fn a_flood_of_pings_whose_answers_nobody_reads_is_cut() {
    let setting = Setting::with(limits(|it| it.head = SHORT)).await;
    flood(&setting, frame(PING, 0, 0, &[7; 8])).await;
}

#[tokio::test]
async fn a_flood_of_settings_whose_answers_nobody_reads_is_cut() {
    let setting = Setting::with(limits(|it| it.head = SHORT)).await;
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &100_u32.to_be_bytes()].concat();
    flood(&setting, frame(SETTINGS, 0, 0, &settings)).await;
}

/// Who reads the answers pays as much as the proxy does.
#[tokio::test]
async fn a_flood_of_pings_takes_no_turn_of_others() {
    let setting = Setting::with(limits(|it| it.workers = 1)).await;
    let mut client = open(&setting).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let before = resident();
    let flooding = async {
        loop {
            client.send(&pings).await.unwrap();
            for _ in 0..1000 {
                let answer = client.find(|it| it.kind == PING && it.flags == ACK).await;
                assert!(answer.is_some());
            }
        }
    };
    let serving = async {
        for _ in 0..10 {
            others_are_served(&setting).await;
        }
    };
    tokio::select! {
        () = flooding => {}
        served = timeout(HANG, serving) => served.expect("others wait"),
    }
    assert!(resident() < before + GROWTH, "{before} {}", resident());
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection_and_reaches_nobody() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let before = resident();
    client.ask("GET /", 1, END_STREAM).await;
    // Of a name and a value, of 4 bytes each.
    let more = frame(CONTINUATION, 0, 1, &b"\0\x04name\x04more".repeat(1000));
    let mut sent = 0;
    while client.send(&more).await.is_ok() {
        sent += more.len();
        assert!(sent < 256 << 20, "it takes all");
    }
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    assert!(setting.origin.seen().is_empty());
    others_are_served(&setting).await;
}

/// The same with frames that add nothing to the head.
#[tokio::test]
async fn a_head_that_goes_on_with_nothing_ends_the_connection() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    client.ask("GET /", 1, END_STREAM).await;
    let more = frame(CONTINUATION, 0, 1, &[]).repeat(1000);
    let mut sent = 0;
    while client.send(&more).await.is_ok() {
        sent += more.len();
        assert!(sent < 256 << 20, "it takes all");
    }
    assert!(setting.origin.seen().is_empty());
    others_are_served(&setting).await;
}

/// A field that was named once is a byte from then on (RFC 7541 §6.1): 64 kB become 230 MB.
#[tokio::test]
async fn a_head_that_unpacks_to_much_is_refused() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let before = resident();
    let mut head = fields("GET /", &client.target);
    head.extend(b"\x40\x04bomb");
    // Its length, 3500, with a prefix of seven bits (§5.1).
    head.extend([0x7f, 0xad, 0x1a]);
    head.resize(head.len() + 3500, b'x');
    head.resize(16_000, 0xbe);
    let mut bytes = frame(HEADERS, END_STREAM, 1, &head);
    for _ in 0..3 {
        bytes.extend(frame(CONTINUATION, 0, 1, &[0xbe; 16_000]));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[0xbe; 100]));
    let _ = client.send(&bytes).await;
    let end = client.find(|it| matches!(it.kind, HEADERS | RST_STREAM | GOAWAY)).await;
    assert!(end.is_none_or(|it| it.kind != HEADERS || it.status() == 431));
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    assert!(setting.origin.seen().is_empty());
    others_are_served(&setting).await;
}

#[tokio::test]
async fn more_requests_at_once_than_may_be_are_refused_each() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let ids = (1..400).step_by(2);
    let bytes: Vec<u8> = ids.flat_map(|id| client.request("POST /", id, END_HEADERS)).collect();
    client.send(&bytes).await.unwrap();
    for _ in 128..200 {
        let refused = client.find(|it| it.kind == RST_STREAM).await.unwrap();
        assert_eq!(refused.code(), REFUSED_STREAM);
    }
    client.send(&frame(DATA, END_STREAM, 1, b"x")).await.unwrap();
    assert_eq!(client.on(1, HEADERS).await.status(), 200);
    drop(client);
    let records = setting.proxy.records(130).await;
    let unread: Vec<_> =
        records.iter().filter(|record| record.outcome == Outcome::Refused).collect();
    assert_eq!(unread.len(), 1, "{unread:#?}");
    assert!(unread[0].reason.as_deref().unwrap().contains(": 72;"), "{unread:#?}");
    assert_eq!((unread[0].mode, unread[0].port), (Mode::ConnectIntercept, Some(setting.port())));
}

/// Too long, without a method, and of a method that has no body.
#[tokio::test]
async fn heads_that_the_library_refuses_are_recorded() {
    let setting = Setting::new().await;
    let long = (0..3).map(|_| [&b"\0\x01x\x7f\xf1\xaa\x01"[..], &vec![b'x'; 22_000]].concat());
    let target = format!("localhost:{}", setting.port());
    let none = fields("GET /", &target)[1..].to_vec();
    for more in [[fields("GET /", &target), long.collect::<Vec<_>>().concat()].concat(), none] {
        let mut client = open(&setting).await;
        let mut pieces = more.chunks(16_000).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            flags |= if pieces.peek().is_none() { END_HEADERS } else { 0 };
            client.send(&frame(kind, flags, 1, piece)).await.unwrap();
            (kind, flags) = (CONTINUATION, 0);
        }
        let end = client.find(|it| matches!(it.kind, HEADERS | RST_STREAM)).await.unwrap();
        assert!(end.kind == RST_STREAM || end.status() == 431, "{end:?}");
        drop(client);
        assert_eq!(outcomes(&setting, 1).await, [(None, Outcome::Refused)]);
    }
    assert!(setting.origin.seen().is_empty());
}

/// It is neither kept nor passed on, and what it takes of the window is given back or not: others
/// on the connection can be starved by its own client alone.
#[tokio::test]
async fn data_for_a_request_that_was_refused_is_thrown_away() {
    let setting = Setting::with(|mut config| {
        config.routes[0].endpoint_rules = vec![("GET".into(), "/**".into())];
        config
    })
    .await;
    let mut client = open(&setting).await;
    client.ask("POST /", 1, END_HEADERS).await;
    assert_eq!(client.on(1, HEADERS).await.status(), 403);
    let before = resident();
    let much = frame(DATA, 0, 1, &[b'x'; 16_384]);
    for _ in 0..4096 {
        // The connection may end for it.
        if client.send(&much).await.is_err() {
            break;
        }
    }
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    assert!(setting.origin.seen().is_empty());
    assert_eq!(outcomes(&setting, 1).await, [(Some(403), Outcome::Refused)]);
    others_are_served(&setting).await;
}

#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    let before = resident();
    client.ask("POST /", 1, END_HEADERS).await;
    runs(&setting, 1).await;
    let empty = frame(DATA, 0, 1, b"").repeat(10_000);
    let mut sent = 0;
    while sent < 64 << 20 && client.send(&empty).await.is_ok() {
        sent += empty.len();
    }
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    let came = client.closed().await;
    assert!(came.iter().any(|it| it.kind == GOAWAY && it.code() == ENHANCE_YOUR_CALM), "{came:?}");
    assert_eq!(outcomes(&setting, 1).await, [(None, Outcome::ClientAbort)]);
    others_are_served(&setting).await;
}

#[tokio::test]
async fn a_connection_that_never_begins_or_stops_within_a_head_is_closed() {
    let setting = Setting::with(limits(|it| it.head = SHORT)).await;
    let mut silent = Frames::silent(&setting.proxy, setting.port()).await;
    silent.closed().await;
    let mut half = open(&setting).await;
    half.ask("GET /", 1, END_STREAM).await;
    half.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_all_of_its_requests() {
    let setting = Setting::new().await;
    let mut client = open(&setting).await;
    for id in [1, 3, 5] {
        client.ask("POST /", id, END_HEADERS).await;
    }
    runs(&setting, 3).await;
    drop(client);
    let ends = outcomes(&setting, 3).await;
    assert!(ends.iter().all(|end| *end == (None, Outcome::ClientAbort)), "{ends:?}");
    runs(&setting, 0).await;
}

/// It says neither that it is there nor takes its response.
#[tokio::test]
async fn a_client_that_answers_no_ping_is_cut() {
    let setting = Setting::with(limits(|it| it.head = SHORT)).await;
    let shut = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = Frames::open(&setting.proxy, setting.port(), &shut).await;
    client.get("/large", 1).await;
    client.closed().await;
    assert_eq!(outcomes(&setting, 1).await, [(Some(200), Outcome::ClientAbort)]);
}
