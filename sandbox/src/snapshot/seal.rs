//! The digest that ends the text of a manifest.
//!
//! It is over the head, which tells the snapshots of a session apart, and over the parts of the
//! body, which is the same in two manifests of the same tree: whoever has the hashes of the parts
//! can write a text with another head without reading or hashing the body again.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use memchr::memmem;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::hash::ContentHash;

/// What a digest begins with, so that it is one of nothing else.
const DOMAIN: &[u8] = b"nono.snapshot.text.v2\n";

/// How much of a body is hashed at once.
const PART: usize = 1 << 20;

/// What stands before a body: the name of its first field, at the end of the head.
pub(super) const FILES: &[u8] = b"\n  \"files\": ";

/// What stands around the digest.
const BEFORE: &[u8] = b"    \"digest\": \"";
const AFTER: &[u8] = b"\"\n  }\n}\n";

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

impl Body {
    /// Reads a text, and its body if its digest is right: the parts on all processors, each of
    /// them hashed as soon as it is read.
    pub(super) fn read(file: &File) -> io::Result<(Vec<u8>, Option<Self>)> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // Asked first: there is no error if there is no room for what is only to be zero.
        Vec::<u8>::new().try_reserve_exact(length)?;
        let mut text = vec![0; length];
        let (start, _) = text.split_at_mut(length.min(HEAD));
        file.read_exact_at(start, 0)?;
        let begin = memmem::find(start, FILES).map(|at| at + FILES.len());
        let end = length.checked_sub(BEFORE.len() + DIGITS + AFTER.len());
        let Some((begin, end)) = begin.zip(end).filter(|(begin, end)| begin <= end) else {
            file.read_exact_at(&mut text, 0)?;
            return Ok((text, None));
        };
        let (rest, seal) = text.split_at_mut(end);
        let (head, body) = rest.split_at_mut(begin);
        file.read_exact_at(seal, end as u64)?;
        let read = |(number, part): (usize, &mut [u8])| {
            file.read_exact_at(part, (begin + number * PART) as u64)?;
            Ok(ContentHash::of(&[part]))
        };
        let parts: io::Result<_> = body.par_chunks_mut(PART).enumerate().map(read).collect();
        let found = Self { begin, length: body.len() as u64, parts: parts? };
        let is_right = found.end(head) == seal;
        Ok((text, is_right.then_some(found)))
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
