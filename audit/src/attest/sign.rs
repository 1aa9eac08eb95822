//! Signing a session.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bundle::{BUNDLE_FILENAME, Bundle, PAYLOAD_TYPE, pae};
use super::key::SigningKey;
use super::statement::{PREDICATE_TYPE, Statement};
use crate::canonical::Node;
use crate::digest::{missing, whole_session};
use crate::{AuditAttestation, AuditIntegrity, Hash, VerifyError, session_digest};

/// What of a session a statement tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) session_id: String,
    pub(super) started: String,
    pub(super) ended: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) audit_integrity: AuditIntegrity,
}

/// What signing comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The bundle, as JSON.
    pub bundle: String,
    /// What the session keeps of it, as its `audit_attestation`.
    pub attestation: AuditAttestation,
}

/// Signs the session that `session` is as JSON: at least its `session_id`, `started`, `command` and
/// `audit_integrity`. If it is whole, its digest is signed with it. `redaction_policy` is JSON.
///
/// # Errors
/// Something that is needed is missing.
pub fn sign(
    session: &str,
    key: &SigningKey,
    redaction_policy: Option<&str>,
) -> Result<Signed, VerifyError> {
    let invalid = |reason: String| VerifyError::invalid(format!("session metadata: {reason}"));
    let node = Node::read(session).map_err(invalid)?;
    if node.get("audit_integrity").is_none_or(|node| node.text() == "null") {
        return Err(VerifyError::invalid(
            "audit attestation requires audit integrity to be enabled: the session has no \
             audit_integrity",
        ));
    }
    let subject: Subject = crate::event::read("session metadata", &node)
        .map_err(|error| VerifyError::invalid(error.to_string()))?;
    check(&subject.audit_integrity).map_err(invalid)?;
    let key_id = key.public().id();
    let attestation = AuditAttestation {
        predicate_type: PREDICATE_TYPE.to_owned(),
        key_id: key_id.clone(),
        public_key: key.public().to_base64(),
        bundle_filename: BUNDLE_FILENAME.to_owned(),
    };
    let digest = if missing(&node).is_empty() {
        let mut session = whole_session(session)?;
        session.audit_attestation = Some(attestation.clone());
        Some(session_digest(&session))
    } else {
        None
    };
    let policy = redaction_policy.map(|policy| RawValue::from_string(policy.to_owned()));
    let policy =
        policy.transpose().map_err(|error| invalid(format!("redaction_policy: {error}")))?;
    let statement = Statement::new(subject, key_id.clone(), policy, digest);
    let text = |error: serde_json::Error| VerifyError::invalid(error.to_string());
    let payload = serde_json::to_vec(&statement).map_err(text)?;
    let signature = key.sign(&pae(PAYLOAD_TYPE, &payload)).map_err(VerifyError::invalid)?;
    let bundle = Bundle::new(key_id, &payload, &signature);
    Ok(Signed { bundle: serde_json::to_string_pretty(&bundle).map_err(text)?, attestation })
}

/// Whether `integrity` is what a log comes to: no log can be held against another, and a signature
/// would vouch for it.
fn check(integrity: &AuditIntegrity) -> Result<(), String> {
    let AuditIntegrity { hash_algorithm, chain_head, merkle_root, .. } = integrity;
    if hash_algorithm != AuditIntegrity::HASH_ALGORITHM {
        let known = AuditIntegrity::HASH_ALGORITHM;
        return Err(format!("audit_integrity: hash_algorithm {hash_algorithm:?} is not {known:?}"));
    }
    for (name, digits) in [("chain_head", chain_head), ("merkle_root", merkle_root)] {
        let wrong = |wrong| format!("audit_integrity: {name} {digits:?} is {wrong}");
        digits.parse::<Hash>().map_err(wrong)?;
    }
    Ok(())
}

/// Signs a session as [`sign`] does and writes the bundle to its directory, whole or not at all.
///
/// # Errors
/// As [`sign`], and if it cannot be written.
pub fn sign_into(
    session_dir: &Path,
    session: &str,
    key: &SigningKey,
    redaction_policy: Option<&str>,
) -> Result<AuditAttestation, VerifyError> {
    let signed = sign(session, key, redaction_policy)?;
    let path = session_dir.join(BUNDLE_FILENAME);
    let write = || -> std::io::Result<()> {
        // It has the command in it: like the session, it is its owner's alone.
        let mut file = tempfile::NamedTempFile::new_in(session_dir)?;
        file.write_all(signed.bundle.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|error| VerifyError::io(&path, error))?;
    Ok(signed.attestation)
}
