//! The Python package: the same nouns, thin.
