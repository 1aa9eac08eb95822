//! Checking a signed session, and saying what that has proved.

use std::io::ErrorKind;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::bundle::{BUNDLE_FILENAME, Bundle, PAYLOAD_TYPE, pae};
use super::key::PublicKey;
use super::statement::{PREDICATE_TYPE, Predicate, Statement};
use crate::canonical::Node;
use crate::digest::{missing, whole_session};
use crate::{AuditAttestation, AuditIntegrity, Hash, regular, session_digest, shape};

/// How long a bundle may be.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a check comes to. If anything is wrong, `verification_error` says it, and nothing is proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the keys of the format")]
pub struct Attested {
    /// Whether the session says that it is signed.
    pub present: bool,
    /// What the session says that the statement says.
    pub predicate_type: Option<String>,
    /// The key that the session says it is signed with.
    pub key_id: Option<String>,
    /// Whether it is.
    pub key_id_matches: bool,
    /// Whether the signature is that key's.
    pub signature_verified: bool,
    /// Whether what was signed of the log is what the session keeps of it.
    pub merkle_root_matches: bool,
    /// Whether it was this session that was signed.
    pub session_id_matches: bool,
    /// Whether it is the key that was expected, if one was.
    pub expected_public_key_matches: Option<bool>,
    /// What is wrong.
    pub verification_error: Option<String>,
    /// Whether all that is kept of the session is what was signed; `None` if its digest was not
    /// signed, or is not the same. If it was signed, nothing of the session may be left out.
    pub session_digest_matches: Option<bool>,
    /// What this has proved.
    pub proved: Vec<&'static str>,
    /// What this cannot prove, or has not.
    pub not_proved: Vec<&'static str>,
}

/// What is known of a session that may be signed: its own keys.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the keys of the format")]
struct Session {
    session_id: String,
    started: Option<String>,
    ended: Option<String>,
    command: Option<Vec<String>>,
    audit_integrity: Option<AuditIntegrity>,
    audit_attestation: Option<AuditAttestation>,
    #[serde(skip)]
    digest: Digest,
    /// Whether there is something besides, which no digest is of.
    #[serde(skip)]
    has_more: bool,
}

/// The digest of a session.
#[derive(Debug)]
enum Digest {
    /// Of all that is kept of it.
    Whole(Hash),
    /// There is none, since these are missing.
    Missing(Vec<&'static str>),
}

impl Default for Digest {
    fn default() -> Self {
        Self::Missing(Vec::new())
    }
}

impl Session {
    fn read(json: &str) -> Result<Self, String> {
        let node = Node::read(json).map_err(|reason| format!("session metadata: {reason}"))?;
        let mut session: Self =
            crate::event::read("session metadata", &node).map_err(|error| error.to_string())?;
        let missing = missing(&node);
        session.digest = if missing.is_empty() {
            let whole = whole_session(json).map_err(|error| error.to_string())?;
            session.has_more = shape::has_more(&node, &whole)?;
            Digest::Whole(session_digest(&whole))
        } else {
            Digest::Missing(missing)
        };
        Ok(session)
    }
}

/// What the session that `json` is says of its signature.
fn claimed(json: &str) -> Result<Attested, String> {
    let nothing = Attested { not_proved: ALL.to_vec(), ..Attested::default() };
    let node = Node::read(json).map_err(|reason| format!("session metadata: {reason}"))?;
    let Some(claim) = node.get("audit_attestation").filter(|claim| claim.text() != "null") else {
        return Ok(nothing);
    };
    let text = |key: &str| serde_json::from_str(&claim.get(key)?.text()).ok();
    let (predicate_type, key_id) = (text("predicate_type"), text("key_id"));
    Ok(Attested { present: true, predicate_type, key_id, ..nothing })
}

/// All that could be proved.
const ALL: [&str; 9] = [
    "signature",
    "session_id",
    "started",
    "ended",
    "command",
    "audit_integrity",
    "session_metadata",
    "signer",
    "events",
];

/// Checks `bundle` against the session that `session` is as JSON. `expected` is the key that must have
/// signed, as [`PublicKey::parse`] takes it: without it, anybody's key is as good.
pub fn verify(bundle: &str, session: &str, expected: Option<&[u8]>) -> Attested {
    judged(session, expected, |_| {
        if bundle.len() as u64 > MAX_BYTES {
            return Err(format!("the audit attestation bundle is longer than {MAX_BYTES} bytes"));
        }
        Ok(bundle.to_owned())
    })
}

/// Checks the bundle in `session_dir` that the session names, as [`verify`] does. The name is that of a
/// file in that very directory, or is refused.
pub fn verify_in(session_dir: &Path, session: &str, expected: Option<&[u8]>) -> Attested {
    judged(session, expected, |attestation| read_bundle(session_dir, &attestation.bundle_filename))
}

fn judged(
    session: &str,
    expected: Option<&[u8]>,
    bundle: impl FnOnce(&AuditAttestation) -> Result<String, String>,
) -> Attested {
    let fault = |attested: Attested, reason| Attested {
        verification_error: Some(reason),
        // That it is the right key is of no worth without what it has signed.
        expected_public_key_matches: attested
            .expected_public_key_matches
            .filter(|matches| !matches),
        ..attested
    };
    match claimed(session) {
        Err(reason) => fault(Attested { not_proved: ALL.to_vec(), ..Attested::default() }, reason),
        Ok(attested) if !attested.present && expected.is_some() => {
            fault(attested, "the session is not signed, and should be, by the expected key".into())
        }
        Ok(attested) if !attested.present => attested,
        Ok(mut attested) => match check(session, expected, bundle, &mut attested) {
            Ok(()) => attested,
            Err(reason) => fault(attested, reason),
        },
    }
}

fn check(
    session: &str,
    expected: Option<&[u8]>,
    bundle: impl FnOnce(&AuditAttestation) -> Result<String, String>,
    attested: &mut Attested,
) -> Result<(), String> {
    let session = Session::read(session)?;
    let attestation = session.audit_attestation.as_ref().ok_or("it is not signed")?;
    let key = signer(attestation, expected, attested)?;
    let (payload, signature) = Bundle::read(&bundle(attestation)?)?.open()?;
    if !key.verifies(&pae(PAYLOAD_TYPE, &payload), &signature) {
        return Err("ECDSA signature verification failed".into());
    }
    let statement = Statement::read(&payload, &attestation.key_id)?;
    let digest_matches = compare(&statement.predicate, &session)?;
    attested.key_id_matches = true;
    attested.signature_verified = true;
    attested.merkle_root_matches = true;
    attested.session_id_matches = true;
    attested.session_digest_matches = digest_matches;
    let is_proved = |what: &&str| match *what {
        "started" => session.started.is_some(),
        // Signed before its end, it says nothing of that.
        "ended" => statement.predicate.ended.is_some(),
        "command" => session.command.is_some(),
        "session_metadata" => digest_matches == Some(true) && !session.has_more,
        "signer" => expected.is_some(),
        "events" => false,
        _ => true,
    };
    (attested.proved, attested.not_proved) = ALL.iter().partition(|what| is_proved(what));
    Ok(())
}

/// The key that the session says it is signed with, if that is the one that is expected.
fn signer(
    attestation: &AuditAttestation,
    expected: Option<&[u8]>,
    attested: &mut Attested,
) -> Result<PublicKey, String> {
    if attestation.predicate_type != PREDICATE_TYPE {
        let found = &attestation.predicate_type;
        return Err(format!("predicate type mismatch: expected {PREDICATE_TYPE}, got {found}"));
    }
    let key = PublicKey::parse(attestation.public_key.as_bytes())
        .map_err(|reason| format!("public_key of the session: {reason}"))?;
    if key.id() != attestation.key_id {
        return Err(format!(
            "audit attestation metadata key mismatch: expected {}, got {}",
            attestation.key_id,
            key.id()
        ));
    }
    if let Some(expected) = expected {
        let expected = PublicKey::parse(expected)
            .map_err(|reason| format!("expected public key: {reason}"))?;
        attested.expected_public_key_matches = Some(expected == key);
        if expected != key {
            return Err("provided public key does not match the attested signer key".into());
        }
    }
    Ok(key)
}

/// Whether what was signed is this session; if so, whether its digest was signed and is this one.
fn compare(signed: &Predicate, session: &Session) -> Result<Option<bool>, String> {
    let integrity = session.audit_integrity.as_ref();
    let integrity = integrity.ok_or("the session has no audit_integrity to compare with")?;
    if signed.session_id != session.session_id {
        return Err(format!(
            "audit attestation session_id mismatch: expected {}, got {}",
            session.session_id, signed.session_id
        ));
    }
    let log = &signed.audit_log;
    let is_same = [
        ("Merkle root", log.merkle_root.eq_ignore_ascii_case(&integrity.merkle_root)),
        ("chain_head", log.chain_head.eq_ignore_ascii_case(&integrity.chain_head)),
        ("event_count", log.event_count == integrity.event_count),
        ("hash_algorithm", log.hash_algorithm == integrity.hash_algorithm),
    ];
    for (what, is_same) in is_same {
        if !is_same {
            return Err(format!(
                "audit attestation {what} does not match session integrity summary"
            ));
        }
    }
    let is_same = [
        ("started", session.started.as_ref().is_none_or(|started| signed.started == *started)),
        ("ended", signed.ended.is_none() || signed.ended == session.ended),
        ("command", session.command.as_ref().is_none_or(|command| signed.command == *command)),
    ];
    for (what, is_same) in is_same {
        if !is_same {
            return Err(format!("the session's {what} is not the one that was signed"));
        }
    }
    match (signed.session_digest, &session.digest) {
        (None, _) => Ok(None),
        (Some(signed), Digest::Whole(found)) if signed == *found => Ok(Some(true)),
        (Some(signed), Digest::Whole(found)) => Err(format!(
            "the session is not the one that was signed: its digest was {signed} and is {found}"
        )),
        (Some(_), Digest::Missing(keys)) => Err(format!(
            "the session is not the one that was signed: its digest was, and it lacks {}",
            keys.join(", ")
        )),
    }
}

fn read_bundle(session_dir: &Path, name: &str) -> Result<String, String> {
    let mut components = Path::new(name).components();
    let is_plain = matches!(components.next(), Some(Component::Normal(only)) if *only == *name);
    if !is_plain || name.contains('\0') {
        return Err(format!(
            "bundle_filename {name:?} is no name of a file in the session's directory, such as \
             {BUNDLE_FILENAME:?}"
        ));
    }
    let path = session_dir.join(name);
    let shown = path.display();
    regular::read_unlinked(&path, MAX_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("missing audit attestation bundle: {shown}"),
        _ => format!("failed to read audit attestation bundle {shown}: {error}"),
    })
}
