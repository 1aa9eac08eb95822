//! What is signed: an in-toto statement of a session and its log.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::sign::Subject;
use crate::{AuditIntegrity, Hash};

/// What the statement says of its subject, as a URL.
pub const PREDICATE_TYPE: &str = "https://nono.sh/attestation/audit-session/alpha";

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Named>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub(super) predicate: Predicate,
}

#[derive(Debug, Serialize, Deserialize)]
struct Named {
    name: String,
    digest: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct Digest {
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Predicate {
    version: u32,
    pub(super) session_id: String,
    pub(super) started: String,
    pub(super) ended: Option<String>,
    pub(super) command: Vec<String>,
    redaction_policy: Option<Box<RawValue>>,
    pub(super) audit_log: AuditIntegrity,
    signer: Signer,
    /// The digest of the session, this attestation included; other tools do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session_digest: Option<Hash>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signer {
    kind: String,
    key_id: String,
}

impl Statement {
    pub(super) fn new(
        subject: Subject,
        key_id: String,
        redaction_policy: Option<Box<RawValue>>,
        session_digest: Option<Hash>,
    ) -> Self {
        let digest = Digest { sha256: subject.audit_integrity.merkle_root.clone() };
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Named { name: format!("audit-session:{}", subject.session_id), digest }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                version: 1,
                session_id: subject.session_id,
                started: subject.started,
                ended: subject.ended,
                command: subject.command,
                redaction_policy,
                audit_log: subject.audit_integrity,
                signer: Signer { kind: "keyed".to_owned(), key_id },
                session_digest,
            },
        }
    }

    /// Reads a statement, signed by the key `key_id`.
    pub(super) fn read(payload: &[u8], key_id: &str) -> Result<Self, String> {
        let statement: Self = serde_json::from_slice(payload)
            .map_err(|error| format!("invalid audit attestation statement: {error}"))?;
        statement.check(key_id)?;
        Ok(statement)
    }

    fn check(&self, key_id: &str) -> Result<(), String> {
        let (predicate, signer) = (&self.predicate, &self.predicate.signer);
        let root = &predicate.audit_log.merkle_root;
        let name = format!("audit-session:{}", predicate.session_id);
        let expectations = [
            ("in-toto statement type", STATEMENT_TYPE, self.kind.as_str()),
            ("predicate type", PREDICATE_TYPE, self.predicate_type.as_str()),
            ("audit attestation signer kind", "keyed", signer.kind.as_str()),
            ("audit attestation signer key", key_id, signer.key_id.as_str()),
        ];
        for (what, expected, found) in expectations {
            if expected != found {
                return Err(format!("{what} mismatch: expected {expected}, got {found}"));
            }
        }
        if predicate.version != 1 {
            return Err(format!("audit attestation version {} is not known", predicate.version));
        }
        match self.subject.as_slice() {
            [subject] if subject.name == name && subject.digest.sha256 == *root => Ok(()),
            _ => {
                Err("audit attestation subject is not the session and Merkle root that it tells of"
                    .into())
            }
        }
    }
}
