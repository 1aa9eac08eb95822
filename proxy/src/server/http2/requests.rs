//! Which requests of a connection run, as its frames tell (RFC 9113 §5.1). The library has none
//! left to run when it still holds the end of a response that the client gives no leave for.

/// A kind of frame (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The length of a frame's head, and of what a client sends before its first frame.
const HEAD: usize = 9;
const PREFACE: usize = 24;

/// See the module. A request runs from the end of its head on, until the end of its response has
/// been written, or either side has reset it.
#[derive(Debug)]
pub(super) struct Requests {
    came: Frames,
    went: Frames,
    /// The streams of those that run: few, in no order.
    running: Vec<u32>,
    /// The last that began, and how many did.
    last: u32,
    begun: usize,
    /// Counts those that began and the frames of responses that went.
    moves: usize,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            came: Frames { skip: PREFACE, ..Frames::default() },
            went: Frames::default(),
            running: Vec::new(),
            last: 0,
            begun: 0,
            moves: 0,
        }
    }

    /// Whether any runs.
    pub(super) fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// How many have begun.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// Another number each time that something happened to one.
    pub(super) fn moves(&self) -> usize {
        self.moves
    }

    /// Notes what came from the client.
    pub(super) fn came(&mut self, bytes: &[u8]) {
        let Self { came, running, last, begun, moves, .. } = self;
        came.pass(bytes, |kind, flags, stream| match kind {
            // What has the same number again is the trailers of the same.
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 && stream > *last => {
                *last = stream;
                *begun += 1;
                *moves = moves.wrapping_add(1);
                running.push(stream);
            }
            RST_STREAM => end(running, stream),
            _ => {}
        });
    }

    /// Notes what has been written to the client.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        let Self { went, running, moves, .. } = self;
        went.pass(bytes, |kind, flags, stream| match kind {
            DATA | HEADERS | RST_STREAM => {
                *moves = moves.wrapping_add(1);
                if kind == RST_STREAM || flags & END_STREAM != 0 {
                    end(running, stream);
                }
            }
            _ => {}
        });
    }
}

fn end(running: &mut Vec<u32>, stream: u32) {
    if let Some(at) = running.iter().position(|one| *one == stream) {
        running.swap_remove(at);
    }
}

/// Tells frames apart in bytes that pass in pieces.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// How much of the head has passed.
    filled: usize,
    /// How much is to pass before the next.
    skip: usize,
}

impl Frames {
    /// Calls `ended` with the kind, the flags and the stream of each frame that ends in `bytes`.
    fn pass(&mut self, mut bytes: &[u8], mut ended: impl FnMut(u8, u8, u32)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip == 0 && self.filled == HEAD {
                let [_, _, _, kind, flags, stream @ ..] = self.head;
                // Without the bit that means nothing.
                ended(kind, flags, u32::from_be_bytes(stream) & (u32::MAX >> 1));
                self.filled = 0;
            }
            if bytes.is_empty() {
                return;
            }
            let taken = bytes.len().min(HEAD - self.filled);
            self.head[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                let [a, b, c, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, Requests,
    };

    fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
        let head = [&[0, 0, length, kind, flags][..], &stream.to_be_bytes()].concat();
        [head, vec![0xff; length.into()]].concat()
    }

    fn running(came: &[Vec<u8>], went: &[Vec<u8>]) -> Vec<u32> {
        let came = [vec![0xff; PREFACE], came.concat()].concat();
        // However it is cut into pieces.
        let all = [1, 3, 9, 1000].map(|piece| {
            let mut requests = Requests::new();
            came.chunks(piece).for_each(|bytes| requests.came(bytes));
            went.concat().chunks(piece).for_each(|bytes| requests.went(bytes));
            assert_eq!(requests.are_running(), !requests.running.is_empty());
            assert!(requests.begun() >= requests.running.len());
            requests.running
        });
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0].clone()
    }

    #[test]
    fn a_request_runs_from_the_end_of_its_head_to_the_end_of_its_response() {
        let asked = [
            frame(4, 0, 0, 6),
            frame(HEADERS, END_HEADERS, 1, 20),
            frame(HEADERS, END_STREAM, 3, 20),
            frame(CONTINUATION, END_HEADERS, 3, 0),
            frame(HEADERS, END_STREAM, 5, 20),
        ];
        assert_eq!(running(&asked, &[]), [1, 3]);
        let head = frame(HEADERS, END_HEADERS, 1, 9);
        let part = frame(DATA, 0, 1, 200);
        let begun = [frame(4, 1, 0, 0), head, part];
        assert_eq!(running(&asked, &begun), [1, 3]);
        let ended = [&begun[..], &[frame(DATA, END_STREAM, 1, 0)]].concat();
        assert_eq!(running(&asked, &ended), [3]);
        let whole = [&ended[..], &[frame(HEADERS, END_HEADERS | END_STREAM, 3, 7)]].concat();
        assert!(running(&asked, &whole).is_empty());
    }

    #[test]
    fn an_end_counts_only_when_all_of_it_has_gone() {
        let asked = [frame(HEADERS, END_HEADERS, 1, 20)];
        let mut last = frame(DATA, END_STREAM, 1, 100);
        last.pop();
        assert_eq!(running(&asked, &[last]), [1]);
    }

    #[test]
    fn either_side_ends_a_request_with_a_reset() {
        let asked = [1, 3, 5].map(|stream| frame(HEADERS, END_HEADERS, stream, 20));
        let came = [&asked[..], &[frame(RST_STREAM, 0, 5, 4)]].concat();
        assert_eq!(running(&came, &[frame(RST_STREAM, 0, 1, 4)]), [3]);
    }

    #[test]
    fn trailers_begin_nothing() {
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, 20);
        let came = [frame(HEADERS, END_HEADERS, 1, 20), frame(DATA, 0, 1, 3), trailers];
        assert!(running(&came, &[frame(RST_STREAM, 0, 1, 4)]).is_empty());
        let mut requests = Requests::new();
        requests.came(&[vec![0; PREFACE], came.concat()].concat());
        assert_eq!(requests.begun(), 1);
    }
}
