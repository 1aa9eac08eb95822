//! Policies: documents that name groups of grants, denials and network rules, so that people choose
//! by name what a program may do.
//!
//! Nothing in a document is guessed at or skipped: a field that is not known, a path that cannot be
//! meant, or a group that does not exist is an error that says where it stands and what comes
//! nearest. Choosing groups changes a [`CapabilitySet`](crate::CapabilitySet) wholly or not at all.
//!
//! What a document says of the network beyond this machine's own ports is data here
//! ([`NetworkPlan`]): the proxy judges and enforces it.

mod document;
mod error;
mod expand;
mod network;
mod overlap;
mod resolve;
mod value;

pub use document::{
    Audit, Endpoint, Group, InjectMode, Limits, OAuth2, Platform, Route, RouteFields, Vault,
};
pub use error::PolicyError;
pub use expand::{PathRule, Variables};
pub use network::NetworkPlan;
pub use overlap::{Overlap, check_overlaps};
pub use resolve::{Resolved, Rule, RuleKind};
pub use value::{Amount, Count};

use std::collections::BTreeMap;

use document::Document;

/// The policy that comes with this library.
pub const EMBEDDED: &str = include_str!("policy/embedded.json");

/// The JSON Schema (draft 2020-12) of policies. What it accepts can be parsed.
pub const SCHEMA: &str = include_str!("policy/schema.json");

/// A parsed document.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    document: Document,
}

impl Policy {
    /// Parses a document.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Format`] with the line, the column, the place in the document and, for a
    /// name that is not known, the nearest that is.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self { document: Document::parse(text)? })
    }

    /// The names of all groups, sorted.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.document.groups.keys().map(String::as_str)
    }

    /// The names of the groups that hold whatever else is chosen, on this platform.
    pub fn required_groups(&self) -> impl Iterator<Item = &str> {
        let is_required = |group: &Group| group.is_required() && group.is_for_here();
        self.document
            .groups
            .iter()
            .filter(move |(_, group)| is_required(group))
            .map(|(name, _)| name.as_str())
    }

    /// A group.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`], with the nearest name that there is.
    pub fn group(&self, name: &str) -> Result<&Group, PolicyError> {
        self.document.groups.get(name).ok_or_else(|| PolicyError::UnknownGroup {
            name: name.to_owned(),
            nearest: error::nearest(name, self.group_names()),
        })
    }

    /// What is kept of what happens.
    pub fn audit(&self) -> &Audit {
        &self.document.audit
    }

    /// The limits of a run under these groups: of each the smallest.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownGroup`].
    pub fn limits(&self, names: &[String]) -> Result<Limits, PolicyError> {
        Ok(self
            .select(names)?
            .values()
            .fold(Limits::default(), |limits, group| limits.smallest(&group.limits)))
    }

    /// Refuses to leave out a group that holds whatever else is chosen.
    ///
    /// # Errors
    ///
    /// [`PolicyError::RequiredGroup`] for the first such name. Names that are not known are not
    /// this method's matter.
    pub fn check_exclusions(&self, names: &[String]) -> Result<(), PolicyError> {
        let groups = &self.document.groups;
        match names.iter().find(|name| groups.get(*name).is_some_and(Group::is_required)) {
            Some(name) => Err(PolicyError::RequiredGroup { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// The groups of these names that are for this platform, each once.
    fn select<'a>(
        &'a self,
        names: &'a [String],
    ) -> Result<BTreeMap<&'a str, &'a Group>, PolicyError> {
        let mut chosen = BTreeMap::new();
        for name in names {
            let group = self.group(name)?;
            if group.is_for_here() {
                chosen.insert(name.as_str(), group);
            }
        }
        Ok(chosen)
    }
}
