//! Credentials over time: where they come from, and how they are replaced while requests run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "credentials/echo.rs"]
mod echo;
#[path = "credentials/lifetime.rs"]
mod lifetime;
#[path = "credentials/references.rs"]
mod references;
#[path = "credentials/renewal.rs"]
mod renewal;
#[path = "credentials/rotation.rs"]
mod rotation;
#[path = "credentials/sources.rs"]
mod sources;
#[path = "credentials/stage.rs"]
mod stage;
