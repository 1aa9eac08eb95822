//! What is not tracked, by name.

use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::error::SnapshotError;

/// What a snapshot leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExclusionConfig {
    /// Whether `.gitignore` files count, at every level of a tracked directory.
    pub use_gitignore: bool,
    /// Without a `/`: the name of a file or directory beneath a tracked path. With one: a part of
    /// the whole path.
    pub exclude_patterns: Vec<String>,
    /// Globs over the names of files, and of directories beneath a tracked path.
    pub exclude_globs: Vec<String>,
    /// Patterns as above for what is tracked whatever else says not to.
    pub force_include: Vec<String>,
}

impl Default for ExclusionConfig {
    fn default() -> Self {
        Self {
            use_gitignore: true,
            exclude_patterns: Vec::new(),
            exclude_globs: Vec::new(),
            force_include: Vec::new(),
        }
    }
}

/// An [`ExclusionConfig`] that is ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Exclusion {
    pub(super) config: ExclusionConfig,
    globs: GlobSet,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Track,
    /// Not tracked, but something beneath it may be.
    Pass,
    Skip,
}

/// What is known of an entry by its name alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// The whole path.
    pub(super) path: &'a Path,
    /// The part beneath the tracked root.
    pub(super) relative: &'a Path,
    pub(super) is_directory: bool,
    /// Whether a `.gitignore` leaves it out.
    pub(super) is_ignored: bool,
    /// Whether the directory that it is in is left out.
    pub(super) is_beneath_excluded: bool,
}

impl Exclusion {
    pub(super) fn new(config: ExclusionConfig) -> Result<Self, SnapshotError> {
        let mut globs = GlobSetBuilder::new();
        for pattern in &config.exclude_globs {
            let fault = |source| SnapshotError::Glob { pattern: pattern.clone(), source };
            globs.add(Glob::new(pattern).map_err(fault)?);
        }
        let fault = |source| SnapshotError::Glob { pattern: String::new(), source };
        Ok(Self { globs: globs.build().map_err(fault)?, config })
    }

    pub(super) fn verdict(&self, candidate: Candidate<'_>) -> Verdict {
        let any = |patterns: &[String]| patterns.iter().any(|p| matches(p, candidate));
        if any(&self.config.force_include) {
            return Verdict::Track;
        }
        let by_name = || {
            // A directory that is tracked itself is meant, whatever it is called.
            let is_root = candidate.is_directory && candidate.relative.as_os_str().is_empty();
            !self.globs.is_empty()
                && !is_root
                && candidate.path.file_name().is_some_and(|name| self.globs.is_match(name))
        };
        let is_excluded = candidate.is_beneath_excluded
            || candidate.is_ignored
            || any(&self.config.exclude_patterns)
            || by_name();
        match is_excluded {
            false => Verdict::Track,
            true if candidate.is_directory && !self.config.force_include.is_empty() => {
                Verdict::Pass
            }
            true => Verdict::Skip,
        }
    }
}

fn matches(pattern: &str, candidate: Candidate<'_>) -> bool {
    if pattern.contains('/') {
        return candidate.path.to_string_lossy().contains(pattern);
    }
    candidate.relative.components().any(|part| part.as_os_str() == pattern)
}
