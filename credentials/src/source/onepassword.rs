//! `op://vault/item/field`: 1Password, by its command line program.

use super::process::{Failed, run};
use super::{Fault, Fetched, Fetching, Inquiry, Source};

/// See the module; the whole reference, as the program takes it.
pub(super) struct Field(pub(super) String);

impl Source for Field {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let argv = ["op", "read", "--no-newline", &self.0].map(str::to_owned);
        let limit = inquiry.limit();
        Box::pin(inquiry.off_thread(move || {
            let secret = run(&argv, limit, explain)?;
            if secret.is_empty() {
                return Err(Fault::Missing("the field is empty; fill it in 1Password".into()));
            }
            Ok(Fetched::from(secret))
        }))
    }
}

fn explain(failed: &Failed) -> Fault {
    if failed.says(&["signed in", "sign in", "signin", "session expired", "no account"]) {
        return Fault::Unavailable("1Password is locked; sign in with: eval $(op signin)".into());
    }
    if failed.says(&["isn't an item", "isn't a vault", "isn't a field", "not find", "not found"]) {
        return Fault::Missing("1Password has no such field; look with: op item list".into());
    }
    failed.summary()
}
