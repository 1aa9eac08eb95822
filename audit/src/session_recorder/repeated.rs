//! What `session.json` repeats of the events of the network in its log. The log is a file and has them
//! all; this is held in memory, and read by others in one piece, so it has an end.

use crate::{EVENTS_FILENAME, NetworkEvent};

/// So many events are repeated.
const MOST: usize = 10_000;
/// And no more than what takes so many bytes in the log, where each event stands twice.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    events: Vec<NetworkEvent>,
    bytes: usize,
    /// How many more there are in the log.
    more: u64,
}

impl Repeated {
    /// Takes an event that takes `bytes` in the log; counts it if there is no room, and from then on
    /// all: what is repeated is the beginning.
    pub(super) fn push(&mut self, event: NetworkEvent, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.more > 0 || self.events.len() >= MOST || self.bytes > MOST_BYTES {
            self.more += 1;
        } else {
            self.events.push(event);
        }
    }

    /// The events, with one behind them for those that were counted.
    pub(super) fn into_events(self) -> Vec<NetworkEvent> {
        let more = (self.more > 0).then(|| {
            let count = self.more;
            NetworkEvent::gap(format!(
                "no request, but {count} that are in {EVENTS_FILENAME} alone"
            ))
        });
        self.events.into_iter().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str) -> NetworkEvent {
        NetworkEvent { path: Some(path.to_owned()), ..NetworkEvent::gap(String::new()) }
    }

    #[test]
    fn what_is_repeated_is_the_beginning_and_has_an_end() {
        let mut many = Repeated::default();
        for number in 0..MOST + 7 {
            many.push(event(&number.to_string()), 1);
        }
        let many = many.into_events();
        assert_eq!(many.len(), MOST + 1);
        assert_eq!(many[MOST - 1].path, Some((MOST - 1).to_string()));
        let last = many[MOST].reason.as_deref().unwrap();
        assert!(last.contains("no request, but 7 that are in audit-events.ndjson"), "{last}");
    }

    #[test]
    fn few_that_are_long_are_many_too() {
        let mut long = Repeated::default();
        for bytes in [MOST_BYTES - 1, 2, 1, 1] {
            long.push(event("/"), bytes);
        }
        let long = long.into_events();
        assert_eq!(long.len(), 2);
        assert!(long[1].reason.as_deref().unwrap().contains("but 3 that"));
        let mut few = Repeated::default();
        few.push(event("/"), MOST_BYTES);
        assert_eq!(few.into_events().len(), 1);
    }
}
