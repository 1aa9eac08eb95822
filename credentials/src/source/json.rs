//! JSON that holds secrets: overwritten when dropped.

use serde_json::Value;
use zeroize::Zeroize as _;

/// A JSON document whose texts are overwritten when it is dropped.
pub(super) struct Document(Value);

impl Document {
    /// Parses `bytes`; what is wrong with them is not told, since that would quote them.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    pub(super) fn root(&self) -> &Value {
        &self.0
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
