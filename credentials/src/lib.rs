//! Where secrets come from, and how they are rendered for the wire.
