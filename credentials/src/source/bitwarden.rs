//! `bw://item` and `bw://item/field`: Bitwarden, by its command line program.

use std::time::Duration;

use super::process::{Failed, run};
use super::{Fault, Fetched, Fetching, Inquiry, Source, json};
use crate::Secret;

/// What every login has, and the program gives by itself; other fields are the user's own.
const STANDARD: [&str; 5] = ["password", "username", "totp", "uri", "notes"];

/// See the module.
pub(super) struct Item {
    pub(super) item: String,
    pub(super) field: String,
}

impl Source for Item {
    fn fetch<'a>(&'a self, inquiry: &'a Inquiry) -> Fetching<'a> {
        let (item, field) = (self.item.clone(), self.field.clone());
        let limit = inquiry.limit();
        Box::pin(inquiry.off_thread(move || {
            let secret = read(&item, &field, limit)?;
            if secret.is_empty() {
                return Err(Fault::Missing("the field is empty; fill it in Bitwarden".into()));
            }
            Ok(Fetched::from(secret))
        }))
    }
}

fn read(item: &str, field: &str, limit: Duration) -> Result<Secret, Fault> {
    let get = |object: &str| {
        let argv = ["bw", "get", object, item, "--nointeraction", "--raw"].map(str::to_owned);
        run(&argv, limit, explain)
    };
    if STANDARD.contains(&field) {
        return get(field);
    }
    let document = json::Document::parse(get("item")?.expose())
        .ok_or_else(|| Fault::Unavailable("`bw` did not print an item".into()))?;
    let fields = document.root().get("fields").and_then(|fields| fields.as_array());
    let found = fields.into_iter().flatten().find(|entry| entry["name"] == field);
    match found.and_then(|entry| entry["value"].as_str()) {
        Some(value) => Ok(Secret::copied(value.as_bytes())),
        None => Err(Fault::Missing(format!("the item has no field `{field}` in Bitwarden"))),
    }
}

fn explain(failed: &Failed) -> Fault {
    if failed.says(&["locked", "not logged in", "session key"]) {
        let hint = "Bitwarden is locked; run: export BW_SESSION=$(bw unlock --raw)";
        return Fault::Unavailable(hint.into());
    }
    if failed.says(&["more than one result"]) {
        let hint = "more than one item has this name; give its id, from: bw list items";
        return Fault::Unavailable(hint.into());
    }
    if failed.says(&["not found"]) {
        return Fault::Missing("Bitwarden has no such item; look with: bw list items".into());
    }
    failed.summary()
}
