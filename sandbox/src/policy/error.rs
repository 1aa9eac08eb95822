//! What can be wrong with a policy, in words that lead to what is right.

use std::path::PathBuf;

use super::overlap::Overlap;

/// Why a policy cannot be taken, or groups of it not be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is no policy.
    #[error(
        "Configuration parse error: Failed to parse policy.json: {source}{}{}",
        within(place), did_you_mean(nearest.as_ref())
    )]
    Format {
        /// Where, as the names and numbers on the way there; empty at the top.
        place: String,
        /// What comes nearest to a name that is not known.
        nearest: Option<String>,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// There is no group of this name.
    #[error(
        "Configuration parse error: unknown policy group `{name}`{}",
        did_you_mean(nearest.as_ref())
    )]
    UnknownGroup {
        /// The name as it was given.
        name: String,
        /// What comes nearest to it.
        nearest: Option<String>,
    },
    /// A group was to be left out that cannot be.
    #[error("Configuration parse error: group `{name}` is required and cannot be excluded")]
    RequiredGroup {
        /// The group.
        name: String,
    },
    /// A path has a variable whose value is none that a path can begin with.
    #[error("Configuration parse error: the path `{path}`: {variable} {fault}")]
    Variable {
        /// The path as it is written.
        path: String,
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value.
        fault: &'static str,
    },
    /// A path could not be granted or denied, though it exists.
    #[error("group `{group}`: `{}` cannot be {}", path.display(), if *is_denied { "denied" } else { "granted" })]
    Path {
        /// The group.
        group: String,
        /// The path.
        path: PathBuf,
        /// Whether it was to be denied.
        is_denied: bool,
        /// What went wrong.
        source: Box<crate::Error>,
    },
    /// Two groups want different things where there can be one.
    #[error(
        "Configuration parse error: Conflicting {what} values: group `{first}` and group \
         `{second}` differ"
    )]
    Conflict {
        /// What there can be one of.
        what: String,
        /// The group that comes first.
        first: String,
        /// The other.
        second: String,
    },
    /// A group blocks the network that one opens.
    #[error(
        "Configuration parse error: group {blocking} blocks the network, and {opening} opens \
         {opened}: choose one"
    )]
    Blocked {
        /// The group that blocks it.
        blocking: String,
        /// The group that opens some of it, which may be the same.
        opening: String,
        /// What it opens.
        opened: String,
    },
    /// Credentials are named whose place is not known.
    #[error(
        "Configuration parse error: group `{group}` lists `credentials` by name; say where they \
         are kept instead: `custom_credentials: {{\"NAME\": {{\"preset\": \"openai\", \
         \"credential_key\": \"env://KEY\"}}}}`"
    )]
    CredentialsByName {
        /// The group.
        group: String,
    },
    /// Nobody can say where a path leads that is to be denied.
    #[error("deny-overlap: what is to be denied cannot be found out")]
    Unresolved {
        /// What went wrong.
        source: Box<crate::Error>,
    },
    /// Paths are to be denied that the set grants.
    #[error(
        "deny-overlap: these denials are not enforceable beside what is allowed:{}",
        lines(overlaps)
    )]
    Overlaps {
        /// All of them, sorted.
        overlaps: Vec<Overlap>,
    },
}

impl PolicyError {
    /// Finds the name that may have been meant in an error of the parser.
    pub(super) fn format(place: String, source: serde_json::Error) -> Self {
        let text = source.to_string();
        let nearest = (text.starts_with("unknown field") || text.starts_with("unknown variant"))
            .then(|| {
                // The names are what stands between backticks: first the one that is not known.
                let mut names = text.split('`').skip(1).step_by(2);
                let unknown = names.next()?;
                nearest(unknown, names)
            })
            .flatten();
        Self::Format { place, nearest, source }
    }
}

/// The known name that `name` is most likely a slip of.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let most = (name.chars().count() / 3).max(1);
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known.to_owned())
}

fn within(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(", in `{place}`") }
}

fn did_you_mean(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn lines(overlaps: &[Overlap]) -> String {
    overlaps.iter().flat_map(|overlap| ["\n  ".to_owned(), overlap.to_string()]).collect()
}
