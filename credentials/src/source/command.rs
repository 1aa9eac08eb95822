//! `cmd://name`: what a program prints, given by its arguments in the configuration:
//! `gcloud auth print-access-token` and the like.

use std::time::Duration;

use super::process::run;
use super::{Fault, Fetched, Fetching, Source, off_thread};

/// See the module.
pub(super) struct Program(pub(super) Vec<String>);

impl Source for Program {
    fn fetch(&self, limit: Duration) -> Fetching<'_> {
        let argv = self.0.clone();
        Box::pin(off_thread(limit, move || {
            let secret = run(&argv, limit, |failed| Fault::Unavailable(failed.summary()))?;
            if secret.is_empty() {
                return Err(Fault::Missing("the command printed nothing".into()));
            }
            Ok(Fetched::from(secret))
        }))
    }
}
