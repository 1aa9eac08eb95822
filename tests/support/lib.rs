//! Fixtures.

pub mod sandboxed;
