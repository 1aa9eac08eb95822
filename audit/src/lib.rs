//! What happened: one [`Record`] for each exchange, and the channel that loses none.
//!
//! ```text
//! Sender::try_reserve ─→ Permit ─→ Recorder ─(finish, or drop)─→ Record ─→ Receiver::drain
//! ```
//!
//! A place in the channel is reserved *before* an exchange is let through, so the record of
//! an exchange that happened always fits: writing it cannot block, fail or push out another.
//! When no place is free, [`Sender::try_reserve`] says so and the caller refuses the exchange.
//!
//! A [`Recorder`] gathers what is learned while the exchange runs. It sends its record when it
//! is finished, or when it is dropped, so no way out of an exchange can forget the record.
//!
//! Nothing in this crate sees a secret: there is no field for header values or bodies, and
//! [`redact`] removes credentials from paths before they are noted.

#![forbid(unsafe_code)]

mod channel;
mod record;
mod recorder;
pub mod redact;

pub use channel::{Permit, Receiver, Sender, channel};
pub use record::{
    AuthMechanism, AuthOutcome, Decision, DenialCategory, InjectionMode, Mode, Outcome, Record,
    RecordId,
};
pub use recorder::Recorder;
