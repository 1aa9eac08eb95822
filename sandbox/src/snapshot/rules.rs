//! The texts of `.gitignore` files that hold for a snapshot: found when it is made, and kept with
//! it, so that a restore leaves alone what they left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;

use super::collected::check_limit;
use super::error::SnapshotError;
use super::exclusion::Verdict;
use super::hash::ContentHash;
use super::ignored::{GITIGNORE, Ignored};
use super::key::Key;
use super::manifest::SnapshotManifest;
use super::names::Names;
use super::roots::open_beneath;
use super::store::{Content, Store};
use super::tree::{Kind, Tree};
use super::visit::{Below, Visit};

/// How many bytes all `.gitignore` files of a walk may have: rules take a thousand times longer to
/// prepare than to read, and who writes what is tracked may write such files too.
const MOST: u64 = 2 << 20;

/// Texts by the paths of their files, as far as the tree does not tell them: a `.gitignore` may
/// leave out itself, as those in virtual environments and caches of tools do, or be excluded.
pub(super) type Rules = BTreeMap<Key, Content>;

/// Where the texts of a walk come from.
#[derive(Clone, Copy)]
pub(super) enum IgnoreFiles<'a> {
    /// From what is walked.
    Found,
    /// From a snapshot.
    Kept(&'a SnapshotManifest, &'a Store),
}

/// The text of a directory's `.gitignore`, or more of it than may be; none if it cannot be read, as
/// for git.
fn read(directory: &OwnedFd) -> Vec<u8> {
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = open_beneath(directory, OsStr::new(GITIGNORE), flags).ok().map(File::from);
    let read = file.map(|file| file.take(MOST + 1).read_to_end(&mut text));
    if !matches!(read, Some(Ok(_))) {
        text.clear();
    }
    text
}

/// Keeps those of `texts` that the tree of the same walk does not tell.
pub(super) fn keep_untold(
    texts: Vec<(Key, Vec<u8>)>,
    tree: &Tree,
    store: &Store,
) -> Result<Rules, SnapshotError> {
    let mut rules = Rules::new();
    for (key, text) in texts {
        let hash = ContentHash::of(&[&text]);
        let is_told = match told(tree, &key) {
            Some(content) => content.hash == hash,
            None => text.is_empty(),
        };
        if !is_told {
            let kept = store.keep_text(&text);
            rules.insert(key.clone(), kept.map_err(SnapshotError::io("keep", key.as_path()))?);
        }
    }
    Ok(rules)
}

/// The content of what is a file in a tree.
fn told(tree: &Tree, key: &Key) -> Option<Content> {
    match tree.get(key)?.kind {
        Kind::File { hash, size, .. } => Some(Content { hash, size }),
        _ => None,
    }
}

impl SnapshotManifest {
    /// The text that held for the directory of the `.gitignore` at `key`.
    pub(super) fn text_at(&self, key: &Key) -> Option<Content> {
        let kept = self.rules.as_ref().and_then(|rules| rules.get(key).copied());
        kept.or_else(|| told(&self.tree, key))
    }
}

impl<'a> Visit<'a> {
    /// The rules within a directory, with those of its own `.gitignore`.
    pub(super) fn ignored(
        &self,
        at: &Below<'a>,
        handle: &OwnedFd,
        names: &Names,
    ) -> Result<Ignored, SnapshotError> {
        let above = &at.ignored;
        if !self.walk.exclusion.config.use_gitignore {
            return Ok(above.clone());
        }
        match self.walk.ignore_files {
            IgnoreFiles::Kept(target, store) => {
                let own = at.key.join(OsStr::new(GITIGNORE));
                if let Some(content) = target.text_at(&own) {
                    self.count_rules(content.size)?;
                    let failed = SnapshotError::io("read the kept", own.as_path());
                    return Ok(above.within(at.relative(), &store.read(content).map_err(failed)?));
                }
                if target.rules.is_some() || !names.has(GITIGNORE) {
                    return Ok(above.clone());
                }
                // The snapshot does not tell. If the file leaves out itself, it may have held; but
                // without end it would only keep the rest from being restored.
                let text = read(handle);
                let length = text.len() as u64;
                if self.guessed.fetch_add(length, Ordering::Relaxed).saturating_add(length) > MOST {
                    return Ok(above.clone());
                }
                let here = above.within(at.relative(), &text);
                let is_left_out = self.verdict(at, own.as_path(), false, &here) == Verdict::Skip;
                Ok(if is_left_out { here } else { above.clone() })
            }
            IgnoreFiles::Found if names.has(GITIGNORE) => {
                let text = read(handle);
                self.count_rules(text.len() as u64)?;
                let here = above.within(at.relative(), &text);
                let own = at.key.join(OsStr::new(GITIGNORE));
                self.collect(|all| all.rules.push((own, text)));
                Ok(here)
            }
            IgnoreFiles::Found => Ok(above.clone()),
        }
    }

    fn count_rules(&self, bytes: u64) -> Result<(), SnapshotError> {
        let all = self.rules.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        check_limit("bytes of .gitignore files", all, MOST)
    }
}
