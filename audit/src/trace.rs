//! Places in a trace, as the W3C's Trace Context (Recommendation, level 1) names them.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use crate::{Record, RecordId};

/// The bit of `trace-flags` that says that the caller may have recorded the trace.
const SAMPLED: u8 = 1;

/// A span of a trace. Text is the value of a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace.
    pub trace: NonZeroU128,
    /// The span in it.
    pub span: NonZeroU64,
    /// Whether the trace is recorded, as far as its caller knows.
    pub is_sampled: bool,
}

impl SpanContext {
    /// The span of the exchange that `record` tells of: in the trace of its parent, or in one of
    /// its own.
    pub fn of(record: &Record) -> Self {
        let own = Self::root(record.id);
        match record.traceparent.as_deref() {
            Some(Self { trace, is_sampled, .. }) => {
                Self { trace: *trace, is_sampled: *is_sampled, span: own.span }
            }
            None => own,
        }
    }

    /// The span of the exchange `id`, in a trace of its own. The same each time it is asked for,
    /// so that what is delivered twice can be seen to be the same.
    fn root(id: RecordId) -> Self {
        let (session, number) = (id.session.0, id.number);
        let high = mixed(session ^ mixed(number));
        let low = mixed(session.rotate_left(32).wrapping_add(mixed(!number)));
        let span = mixed(session.wrapping_add(mixed(number.rotate_left(32))));
        Self {
            trace: NonZeroU128::new(u128::from(high) << 64 | u128::from(low))
                .unwrap_or(NonZeroU128::MIN),
            span: NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN),
            is_sampled: true,
        }
    }
}

/// The step of `SplitMix64`: no two numbers have the same, and close ones have very different ones.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled) * SAMPLED;
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

impl FromStr for SpanContext {
    type Err = &'static str;

    /// §3.2 of the recommendation. Of a later version than ours, what ours knows is read.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not a traceparent";
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits)?;
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            field.bytes().all(is_hex).then_some(field)
        };
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (field(2), field(32), field(16), field(2))
        else {
            return Err(wrong);
        };
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return Err(wrong);
        }
        Ok(Self {
            trace: u128::from_str_radix(trace, 16).ok().and_then(NonZeroU128::new).ok_or(wrong)?,
            span: u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new).ok_or(wrong)?,
            is_sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & SAMPLED != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::SpanContext;
    use crate::{RecordId, Session};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context: SpanContext = PARENT.parse().unwrap();
        assert_eq!(context.trace.get(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.span.get(), 0x00f0_67aa_0ba9_02b7);
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), PARENT);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for text in [PARENT.replacen("00", "cc", 1), PARENT.replacen("00", "cc", 1) + "-more"] {
            assert_eq!(text.parse::<SpanContext>().unwrap().to_string(), PARENT, "{text}");
        }
        let unknown_flags = PARENT.replace("-01", "-fe");
        assert!(!unknown_flags.parse::<SpanContext>().unwrap().is_sampled);
    }

    #[test]
    fn what_the_recommendation_forbids_is_no_traceparent() {
        for text in [
            "",
            "00",
            &PARENT.replace("-01", ""),
            &PARENT.replace("-01", "-1"),
            &PARENT.replace("-01", "-0x"),
            &(PARENT.to_owned() + "-more"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0", 1),
            &PARENT.to_uppercase(),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            &format!(" {PARENT}"),
        ] {
            assert!(text.parse::<SpanContext>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn exchanges_have_spans_of_their_own() {
        let ids = (0..10).flat_map(|session| {
            (0..1000).map(move |number| RecordId { session: Session(session), number })
        });
        let spans: Vec<_> = ids.map(SpanContext::root).collect();
        assert_eq!(spans.iter().map(|own| own.trace).collect::<HashSet<_>>().len(), spans.len());
        assert_eq!(spans.iter().map(|own| own.span).collect::<HashSet<_>>().len(), spans.len());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-0[01]") {
            if let Ok(context) = text.parse::<SpanContext>() {
                prop_assert_eq!(&context.to_string()[2..], &text[2..]);
            }
        }

        #[test]
        fn any_text_is_read_or_not(text in "\\PC{0,80}") {
            if let Ok(context) = text.parse::<SpanContext>() {
                prop_assert_eq!(context.to_string().parse(), Ok(context));
            }
        }
    }
}
