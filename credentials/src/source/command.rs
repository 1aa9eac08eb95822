//! `cmd://name`: what a program prints, given by its arguments in the configuration:
//! `gcloud auth print-access-token` and the like.

use super::process::{Failed, run};
use super::{Fault, Fetched, Fetching, Inquiry, Source};

/// See the module.
pub(super) struct Program(pub(super) Vec<String>);

impl Source for Program {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let (argv, limit) = (self.0.clone(), inquiry.limit());
        Box::pin(inquiry.off_thread(move || {
            let secret = run(&argv, limit, Failed::summary)?;
            if secret.is_empty() {
                return Err(Fault::Missing("the command printed nothing".into()));
            }
            Ok(Fetched::from(secret))
        }))
    }
}
