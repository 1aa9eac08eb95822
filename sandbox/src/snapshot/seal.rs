//! The digest that ends the text of a manifest.
//!
//! It is over the head, which tells the snapshots of a session apart, and over the parts of the
//! body, which is the same in two manifests of the same tree: whoever has the hashes of the parts
//! can write a text with another head without reading or hashing the body again.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use memchr::{memchr, memmem};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::hash::ContentHash;

/// What a digest begins with, so that it is one of nothing else.
const DOMAIN: &[u8] = b"nono.snapshot.text.v2\n";

/// How much of a body is hashed at once.
pub(super) const PART: usize = 1 << 20;

/// What stands before a body: the name of its first field, at the end of the head.
pub(super) const FILES: &[u8] = b"\n  \"files\": ";

/// What stands around the digest.
const BEFORE: &[u8] = b"    \"digest\": \"";
const AFTER: &[u8] = b"\"\n  }\n}\n";

/// How much more is read than a part: longer than most lines are.
const MORE: usize = 16 * 1024;

thread_local! {
    /// What a thread reads parts into.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How many digits a digest has.
const DIGITS: usize = 64;

/// How long a head is at most, with the name of the first field.
const HEAD: usize = 256;

/// Where the body of a text begins in its file, how long it is, and its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) begin: usize,
    pub(super) length: u64,
    parts: Vec<ContentHash>,
}

/// A text whose digest is right.
pub(super) struct Unsealed<T> {
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
    /// What was made of each part of the body.
    pub(super) parts: Vec<T>,
    /// What stands after the body.
    pub(super) end: Vec<u8>,
}

/// A part of a body, as it is read.
#[derive(Clone, Copy)]
pub(super) struct Part<'t> {
    /// What is hashed as one.
    pub(super) own: &'t [u8],
    /// The same, and the rest of its last line. It ends within a line if that is very long.
    pub(super) text: &'t [u8],
    pub(super) is_first: bool,
}

/// What two parts that are read one after the other both hold: a line that begins in the one and
/// ends in the other.
struct Edges {
    /// A part's own bytes up to the end of its first line, as far as the part before was read.
    begin: Vec<u8>,
    /// What was read beyond its own.
    beyond: Vec<u8>,
}

impl Edges {
    fn of(Part { own, text, .. }: Part<'_>) -> Self {
        let own_begin = own.get(..MORE).unwrap_or(own);
        let end = memchr(b'\n', own_begin).map_or(own_begin.len(), |end| end + 1);
        let begin = own_begin.get(..end).unwrap_or_default();
        let beyond = text.get(own.len()..).unwrap_or_default();
        Self { begin: begin.to_vec(), beyond: beyond.to_vec() }
    }

    /// Whether what was read beyond one of a `pair` is what was hashed as the other's: not if
    /// somebody has written into the file meanwhile.
    fn fit(pair: &[Self]) -> bool {
        let [part, next] = pair else { return true };
        next.begin.starts_with(&part.beyond)
    }
}

impl Body {
    /// Reads a text, on all processors: each part is hashed and looked at as soon as it is read,
    /// in memory that the next one uses again. `None` if the text has no digest, or a wrong one.
    pub(super) fn read<T: Send>(
        file: &File,
        look: impl Fn(Part<'_>) -> T + Sync,
    ) -> io::Result<Option<Unsealed<T>>> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut head = vec![0; length.min(HEAD)];
        file.read_exact_at(&mut head, 0)?;
        let begin = memmem::find(&head, FILES).map(|at| at + FILES.len());
        let end = length.checked_sub(BEFORE.len() + DIGITS + AFTER.len());
        let Some((begin, end)) = begin.zip(end).filter(|(begin, end)| begin <= end) else {
            return Ok(None);
        };
        head.truncate(begin);
        let mut seal = vec![0; length - end];
        file.read_exact_at(&mut seal, end as u64)?;
        if !(seal.starts_with(BEFORE) && seal.ends_with(AFTER)) {
            return Ok(None);
        }
        let one = |place: usize| {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize((end - place).min(PART + MORE), 0);
                file.read_exact_at(buffer, place as u64)?;
                let (own, more) = buffer.split_at(buffer.len().min(PART));
                let end = memchr(b'\n', more).map_or(buffer.len(), |rest| own.len() + rest + 1);
                let text = buffer.get(..end).unwrap_or_default();
                let part = Part { own, text, is_first: place == begin };
                let edges = Edges::of(part);
                Ok((edges, (ContentHash::of(&[own]), look(part))))
            })
        };
        let places: Vec<_> = (begin..end).step_by(PART).collect();
        let read: io::Result<Vec<_>> = places.into_par_iter().map(one).collect();
        let (edges, read): (Vec<_>, Vec<_>) = read?.into_iter().unzip();
        let (hashes, parts) = read.into_iter().unzip();
        let body = Self { begin, length: (end - begin) as u64, parts: hashes };
        let is_right = edges.windows(2).all(Edges::fit) && body.end(&head) == seal;
        Ok(is_right.then_some(Unsealed { head, body, parts, end: seal }))
    }

    fn digest(&self, head: &[u8]) -> ContentHash {
        let mut hasher = Sha256::new_with_prefix(DOMAIN);
        hasher.update(ContentHash::of(&[head]).as_bytes());
        for part in &self.parts {
            hasher.update(part.as_bytes());
        }
        ContentHash::finish(hasher)
    }

    /// What stands after the body: the digest, and the end of the text.
    fn end(&self, head: &[u8]) -> Vec<u8> {
        [BEFORE, self.digest(head).to_string().as_bytes(), AFTER].concat()
    }
}

/// All of a text, and whether its digest is right.
pub(super) fn whole(mut file: &File) -> io::Result<(Vec<u8>, bool)> {
    if let Some(read) = Body::read(file, |part| part.own.to_vec())? {
        return Ok(([read.head, read.parts.concat(), read.end].concat(), true));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok((text, false))
}

/// A text that is hashed while it is written.
pub(super) struct Sealed<W> {
    out: W,
    head: Vec<u8>,
    /// Less than a part.
    pending: Vec<u8>,
    body: Body,
}

impl<W: Write + Send> Sealed<W> {
    /// A text that begins with `head`.
    pub(super) fn new(head: Vec<u8>, mut out: W) -> io::Result<Self> {
        out.write_all(&head)?;
        let body = Body { begin: head.len(), length: 0, parts: Vec::new() };
        Ok(Self { out, head, pending: Vec::new(), body })
    }

    /// Adds to the body.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.body.length += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() - self.pending.len() % PART;
        let (out, parts) = (&mut self.out, &mut self.body.parts);
        for part in self.pending.get(..whole).unwrap_or_default().chunks(PART) {
            let (hash, written) = rayon::join(|| ContentHash::of(&[part]), || out.write_all(part));
            written?;
            parts.push(hash);
        }
        self.pending.drain(..whole);
        Ok(())
    }

    /// Ends the text with its digest.
    pub(super) fn seal(mut self) -> io::Result<Body> {
        if !self.pending.is_empty() {
            self.body.parts.push(ContentHash::of(&[&self.pending]));
        }
        self.out.write_all(&self.pending)?;
        self.out.write_all(&self.body.end(&self.head))?;
        Ok(self.body)
    }
}

/// Writes a text with the body that another has in `file`. The kernel copies it, or has both
/// files share it; if it is not what it was, the digest tells whoever reads the text.
pub(super) fn copy(
    head: &[u8],
    body: &Body,
    mut file: &File,
    out: &mut io::BufWriter<&File>,
) -> io::Result<Body> {
    out.write_all(head)?;
    // What is left in the buffer would have to be copied by hand.
    out.flush()?;
    file.seek(SeekFrom::Start(body.begin as u64))?;
    if io::copy(&mut file.take(body.length), out)? != body.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let body = Body { begin: head.len(), ..body.clone() };
    out.write_all(&body.end(head))?;
    Ok(body)
}
