//! `.gitignore` files, at every level.

use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of the files.
pub(super) const GITIGNORE: &str = ".gitignore";

/// The rules that hold in a directory: its own, before those of the directories above.
#[derive(Clone, Debug, Default)]
pub(super) struct Ignored(Option<Arc<Level>>);

#[derive(Debug)]
struct Level {
    rules: Gitignore,
    above: Ignored,
}

impl Ignored {
    /// The rules in the directory at `relative`, whose `.gitignore` has the text `text`. Lines
    /// that are no patterns are passed over, as git does.
    pub(super) fn within(&self, relative: &Path, text: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new(relative);
        for line in String::from_utf8_lossy(text).lines() {
            let _is_no_pattern = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(rules) if !rules.is_empty() => {
                Self(Some(Arc::new(Level { rules, above: self.clone() })))
            }
            _ => self.clone(),
        }
    }

    /// Whether the entry at `relative`, in this directory, is ignored. The innermost rule that
    /// says anything decides.
    pub(super) fn covers(&self, relative: &Path, is_directory: bool) -> bool {
        let mut level = self.0.as_deref();
        while let Some(Level { rules, above }) = level {
            match rules.matched(relative, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => level = above.0.as_deref(),
            }
        }
        false
    }
}
