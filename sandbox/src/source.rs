//! Who granted a path: for people who review a set, and for what wins when grants are merged.

use std::fmt::{self, Display, Formatter};

/// Who granted a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The program that built the set.
    #[default]
    User,
    /// A profile that the user chose.
    Profile,
    /// The group of this name in a policy.
    Group(String),
    /// The library itself: what programs need to start.
    System,
}

impl Source {
    /// Whether somebody asked for just this path.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self, Self::User | Self::Profile)
    }

    /// Reads what [`Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "user" => Self::User,
            "profile" => Self::Profile,
            "system" => Self::System,
            _ => {
                Self::Group(text.strip_prefix("group:").filter(|name| !name.is_empty())?.to_owned())
            }
        })
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Profile => f.write_str("profile"),
            Self::System => f.write_str("system"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}
