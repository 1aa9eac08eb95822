//! What happened: one [`Record`] for each exchange, and the log that loses none.
//!
//! ```text
//! Sender::try_reserve ─→ Permit ─→ Recorder ─(finish, or drop)─→ Record ─→ Log ─→ Consumer, …
//!                                                                           └──→ Sink, …
//! ```
//!
//! A place in the log is reserved *before* an exchange is let through, so the record of an
//! exchange that happened always fits: writing it cannot block, fail or push out another. When no
//! place is free, [`Sender::try_reserve`] says so and the caller refuses the exchange.
//!
//! A [`Recorder`] gathers what is learned while the exchange runs. It sends its record when it
//! is finished, or when it is dropped, so no way out of an exchange can forget the record.
//!
//! The [`Log`] holds each record until every [`Consumer`] and every [`Sink`] has it: in memory,
//! and past a bound on disk. Clients that have not shown the session token have a share of it
//! that they cannot exceed; what is beyond is counted in a record of [`Phase::Gap`].
//!
//! A [`FileSink`] writes the log as hash-chained JSON Lines, which [`verify`] checks. [`otlp`]
//! makes messages of records, for who sends them to a collector of OpenTelemetry, and a [`queue`]
//! keeps them on disk for it, also when the process ends before they are sent.
//!
//! A [`SessionLog`] writes the log of a session in the same chained form, and [`verify_log`] checks
//! it against what [`SessionMetadata`] keeps of it. [`verify_ledger`] looks for a session in a ledger
//! of many, and [`attest`] signs one, and checks that.
//!
//! Nothing in this crate keeps a secret: there is no field for header values or bodies, and a path
//! is a [`redact::RedactedPath`], which is made by removing credentials, or by reading a record that
//! was written.

#![forbid(unsafe_code)]

mod active;
mod apart;
pub mod attest;
mod canonical;
mod chain;
mod claim;
mod consumer;
mod digest;
mod error;
mod event;
mod file;
mod hash;
mod json;
mod ledger;
mod lines;
mod log;
mod merkle;
mod metrics;
mod network_event;
pub mod otlp;
pub mod queue;
mod reader;
mod record;
mod recorder;
pub mod redact;
mod regular;
mod segment;
mod session;
mod session_log;
mod session_recorder;
mod shape;
mod texts;
mod trace;
mod words;
mod writer;

pub use consumer::{Batch, Consumer, Peeked, Waited, Waiter};
pub use digest::{session_digest, whole_session};
pub use error::VerifyError;
pub use event::{
    Access, Approval, AuditEntry, CapabilityDecision, CapabilityRequest, Denial, InvalidEvent,
    Network, ScrubPolicyDiff, SessionEnded, SessionEvent, SessionStarted, UrlOpen, UrlOpenRequest,
    normalised,
};
pub use file::{Fault, FileOptions, FileSink, Verified, verify};
pub use hash::Hash;
pub use ledger::{LedgerRecord, LedgerVerification, check_session_id, verify_ledger};
pub use log::{Bounds, Overflow, Permit, Sender};
pub use merkle::{InclusionProof, Sibling, Side};
pub use metrics::{Metrics, Now};
pub use network_event::{EventDecision, EventMode, NetworkEvent};
pub use reader::{Filling, Reader};
pub use record::{Record, RecordId, Session};
pub use recorder::{Recorder, unix_ms};
pub use session::{
    AuditAttestation, AuditIntegrity, ExecutableIdentity, SessionMetadata, timestamp,
};
pub use session_log::{
    EVENTS_FILENAME, LogVerification, SESSION_FILENAME, SessionLog, StoredIntegrity, verify_log,
};
pub use session_recorder::{Ending, RecordError, SessionRecorder};
pub use trace::SpanContext;
pub use words::{
    AuthMechanism, AuthOutcome, Decision, DenialCategory, InjectionMode, Mode, Outcome, Phase,
    Protocol,
};
pub use writer::{Log, Sink};
