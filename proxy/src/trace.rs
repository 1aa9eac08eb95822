//! The context of a trace on its way through the proxy (W3C Trace Context, level 1): the client's
//! span becomes the parent of the exchange's own, and that the parent of what the upstream does.
//!
//! Only where spans are exported: otherwise the upstream would be told of a span that nobody has
//! ever seen, and the client's fields pass as they are.

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};
use nono_audit::{Recorder, SpanContext};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The most members that a `tracestate` may have (§3.3.1.1).
const MEMBERS: usize = 32;

/// The longest name, and the longest value, of one.
const LONGEST: usize = 256;

/// Notes the client's span in `recorder`, and names the exchange's own in its place. What is no
/// context is none: the exchange begins a trace of its own.
pub(crate) fn adopt(headers: &mut HeaderMap, recorder: &Recorder) {
    let parent = parent(headers);
    if parent.is_none() || !is_state(headers) {
        headers.remove(TRACESTATE);
    }
    let mut own = None;
    recorder.note(|record| {
        record.traceparent = parent.map(Box::new);
        own = HeaderValue::try_from(SpanContext::of(record).to_string()).ok();
    });
    if let Some(own) = own {
        headers.insert(TRACEPARENT, own);
    }
}

/// The client's span, if it names one and no more.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()?.parse().ok()
}

/// Whether what is there of `tracestate`, in one field or several, is one (§3.3.1).
fn is_state(headers: &HeaderMap) -> bool {
    let mut members = 0;
    headers.get_all(TRACESTATE).into_iter().all(|value| {
        value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|member| {
            members += usize::from(!member.is_empty());
            members <= MEMBERS && (member.is_empty() || is_member(member))
        })
    })
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'=', member) else { return false };
    let (name, value) = (&member[..at], &member[at + 1..]);
    let begins = name.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_of_name =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let is_of_value = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    begins
        && name.len() <= LONGEST
        && name.iter().all(is_of_name)
        && !value.is_empty()
        && value.len() <= LONGEST
        && value.iter().all(is_of_value)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{is_state, parent};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_traceparent_is_a_parent_and_two_are_none() {
        let read = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("traceparent", *value)).collect();
            parent(&headers(&fields)).map(|parent| parent.to_string())
        };
        assert_eq!(read(&[PARENT]).as_deref(), Some(PARENT));
        assert_eq!(read(&[PARENT, PARENT]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["nonsense"]), None);
    }

    #[test]
    fn a_tracestate_is_judged_as_a_whole() {
        let judge = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("tracestate", *value)).collect();
            is_state(&headers(&fields))
        };
        let many = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for good in [
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][..],
            &["a=1", "b=2"],
            &["a=1 , ,b=x y"],
            &["0tenant@vendor=1"],
            &[""],
            &[&many(32)],
        ] {
            assert!(judge(good), "{good:?}");
        }
        for bad in [
            &["a"][..],
            &["A=1"],
            &["=1"],
            &["a="],
            &["a=1=2"],
            &["a=x\ty"],
            &[&many(33)],
            &[&many(20), &many(20)],
            &[&format!("{}=1", "a".repeat(257))],
        ] {
            assert!(!judge(bad), "{bad:?}");
        }
    }
}
