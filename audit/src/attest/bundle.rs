//! The envelope of a signed statement: DSSE, in a Sigstore bundle of a key that is known.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::error::whole_object;

/// The bundle of a session, in its directory.
pub const BUNDLE_FILENAME: &str = "audit-attestation.bundle";
/// What the envelope says that it holds.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Every version of it.
const MEDIA_TYPES: &str = "application/vnd.dev.sigstore.bundle";

/// A bundle as far as it is looked at. What else it has is passed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Hint,
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
    #[serde(default)]
    timestamp_verification_data: serde_json::Map<String, serde_json::Value>,
}

/// Which key signed: a hint, since it is not signed itself.
#[derive(Debug, Serialize, Deserialize)]
struct Hint {
    hint: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signature {
    sig: String,
}

impl Bundle {
    pub(super) fn new(key_id: String, payload: &[u8], signature: &[u8]) -> Self {
        Self {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Material {
                public_key: Hint { hint: key_id },
                tlog_entries: Vec::new(),
                timestamp_verification_data: serde_json::Map::new(),
            },
            dsse_envelope: Envelope {
                payload_type: PAYLOAD_TYPE.to_owned(),
                payload: URL_SAFE_NO_PAD.encode(payload),
                signatures: vec![Signature { sig: URL_SAFE_NO_PAD.encode(signature) }],
            },
        }
    }

    /// Reads a bundle.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        let wrong = |reason: String| format!("invalid audit attestation bundle: {reason}");
        let bundle: Self = whole_object(json).map_err(wrong)?;
        if !bundle.media_type.starts_with(MEDIA_TYPES) {
            return Err(wrong(format!("mediaType {:?} is no Sigstore bundle", bundle.media_type)));
        }
        Ok(bundle)
    }

    /// The payload and its one signature.
    pub(super) fn open(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let envelope = &self.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            let found = &envelope.payload_type;
            return Err(format!(
                "unexpected DSSE payloadType: expected {PAYLOAD_TYPE}, got {found}"
            ));
        }
        let [signature] = envelope.signatures.as_slice() else {
            let count = envelope.signatures.len();
            return Err(format!(
                "audit attestation DSSE envelope has {count} signatures, and should have 1"
            ));
        };
        Ok((unbase64(&envelope.payload)?, unbase64(&signature.sig)?))
    }
}

/// What a DSSE signature is of.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut text =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

/// Bytes in plain base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64 in either alphabet, padded or not, as DSSE wants readers to take it.
pub(super) fn unbase64(text: &str) -> Result<Vec<u8>, String> {
    let url_safe = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    URL_SAFE_NO_PAD.decode(url_safe).map_err(|error| format!("invalid base64: {error}"))
}
