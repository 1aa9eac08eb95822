//! What `nono_py.audit` calls: logs, ledgers and signatures of sessions. Values with many keys go in
//! and out as JSON, which both sides have anyway.

use std::fmt;
use std::path::PathBuf;

use nono_audit::attest::{self, SigningKey};
use nono_audit::{
    Hash, InclusionProof, LedgerRecord, SessionEvent, SessionLog, StoredIntegrity, VerifyError,
    check_session_id, normalised, session_digest, verify_ledger, verify_log, whole_session,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::arguments::OsArgument;
use crate::error::{argument_error, key_error, verify_error};

/// A hash: its 32 bytes, or as many in hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashArgument(Hash);

impl FromPyObject<'_, '_> for HashArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let invalid = |reason| verify_error(VerifyError::Invalid(reason));
        if let Ok(bytes) = object.cast::<PyBytes>() {
            let (bytes, len) = (bytes.as_bytes(), bytes.as_bytes().len());
            let hash = <[u8; 32]>::try_from(bytes)
                .map_err(|_| invalid(format!("expected 32-byte SHA-256, got {len} bytes")))?;
            return Ok(Self(hash.into()));
        }
        let Ok(text) = object.cast::<PyString>() else {
            return Err(PyTypeError::new_err("a hash is bytes or str"));
        };
        let text = text.to_string();
        let hash =
            text.parse().map_err(|wrong| invalid(format!("invalid hex: {text:?} is {wrong}")));
        Ok(Self(hash?))
    }
}

/// Bytes, or text as UTF-8: a key.
pub(crate) struct KeyArgument(Zeroizing<Vec<u8>>);

impl fmt::Debug for KeyArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyArgument(..)")
    }
}

impl FromPyObject<'_, '_> for KeyArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            // What is no text is no key either, and will be called so.
            let text = text.to_string_lossy();
            return Ok(Self(text.as_bytes().to_vec().into()));
        }
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self(bytes.as_bytes().to_vec().into())),
            Err(_) => Err(PyTypeError::new_err("a key is bytes or str")),
        }
    }
}

fn json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| argument_error(error.to_string()))
}

/// Check what the model `name` is made of, and put it into the form of the format.
#[pyfunction(name = "_audit_model")]
pub(crate) fn audit_model(name: &str, text: &str) -> PyResult<String> {
    normalised(name, text).map_err(|error| argument_error(error.to_string()))
}

/// How far a log has come. It never changes: an event makes another one.
#[pyclass(name = "_SessionLog", module = "nono_py._nono_py", frozen)]
#[derive(Debug, Clone, Default)]
pub(crate) struct PySessionLog(SessionLog);

#[pymethods]
impl PySessionLog {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.0.sequence()
    }

    #[getter]
    fn chain_head(&self) -> Option<String> {
        self.0.chain_head().map(|head| head.to_string())
    }

    /// Return the line of an event, and the log behind it.
    fn then(&self, event: &str) -> PyResult<(String, Self)> {
        let event =
            SessionEvent::from_json(event).map_err(|error| argument_error(error.to_string()))?;
        let (mut next, mut line) = (self.0.clone(), Vec::with_capacity(1024));
        next.append(&event, &mut line)?;
        let line = String::from_utf8(line).map_err(|error| argument_error(error.to_string()))?;
        Ok((line, Self(next)))
    }

    /// Return what it comes to, as JSON; `null` if it is empty.
    fn integrity(&self) -> PyResult<String> {
        json(&self.0.integrity())
    }
}

#[pyfunction(name = "_verify_log")]
pub(crate) fn verify_session_log(
    py: Python<'_>,
    session_dir: OsArgument,
    stored: Option<&str>,
) -> PyResult<String> {
    let stored = stored.map(StoredIntegrity::from_json).transpose().map_err(verify_error)?;
    let session_dir = PathBuf::from(session_dir.0);
    json(&py.detach(|| verify_log(&session_dir, stored)).map_err(verify_error)?)
}

#[pyfunction(name = "_inclusion_proof")]
#[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
pub(crate) fn inclusion_proof(leaves: Vec<HashArgument>, leaf_index: i128) -> PyResult<String> {
    let leaves: Vec<_> = leaves.iter().map(|leaf| leaf.0).collect();
    let index = usize::try_from(leaf_index).ok();
    let proof = index.and_then(|index| InclusionProof::build(&leaves, index));
    let wrong = || match leaves.len() {
        0 => "cannot build an audit inclusion proof for an empty log".to_owned(),
        count => format!(
            "audit inclusion proof leaf index {leaf_index} is out of range for {count} leaves"
        ),
    };
    json(&proof.ok_or_else(|| verify_error(VerifyError::Invalid(wrong())))?)
}

/// Whether `proof`, as JSON, is one, and of `expected_root` if that is given.
#[pyfunction(name = "_verify_inclusion_proof")]
pub(crate) fn verify_inclusion_proof(proof: &str, expected_root: Option<&str>) -> bool {
    let Ok(proof) = InclusionProof::from_json(proof) else {
        return false;
    };
    let is_expected = expected_root.is_none_or(|root| root.parse() == Ok(proof.merkle_root));
    is_expected && proof.is_valid()
}

#[pyfunction(name = "_session_digest")]
pub(crate) fn digest(py: Python<'_>, metadata: &str) -> PyResult<String> {
    let digest = || whole_session(metadata).map(|session| session_digest(&session).to_string());
    py.detach(digest).map_err(verify_error)
}

#[pyfunction(name = "_ledger_record")]
pub(crate) fn ledger_record(
    py: Python<'_>,
    metadata: &str,
    sequence: u64,
    previous_chain: Option<HashArgument>,
) -> PyResult<String> {
    let previous = previous_chain.map(|hash| hash.0);
    let build = || LedgerRecord::build(&whole_session(metadata)?, sequence, previous);
    json(&py.detach(build).map_err(verify_error)?)
}

#[pyfunction(name = "_verify_ledger")]
pub(crate) fn verify_session_ledger(
    py: Python<'_>,
    ledger: OsArgument,
    metadata: &str,
    expected_head: Option<HashArgument>,
) -> PyResult<String> {
    let (path, head) = (PathBuf::from(ledger.0), expected_head.map(|hash| hash.0));
    let verify = || verify_ledger(&path, &whole_session(metadata)?, head);
    json(&py.detach(verify).map_err(verify_error)?)
}

#[pyfunction(name = "_check_session_id")]
pub(crate) fn check_ledger_session_id(session_id: &str) -> PyResult<()> {
    check_session_id(session_id).map_err(verify_error)
}

#[pyfunction(name = "_dsse_pae")]
pub(crate) fn dsse_pae<'py>(
    py: Python<'py>,
    payload_type: &str,
    payload: &[u8],
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &attest::pae(payload_type, payload))
}

/// A private key. It shows nothing of itself.
#[pyclass(name = "_SigningKey", module = "nono_py._nono_py", frozen)]
#[derive(Debug)]
pub(crate) struct PySigningKey(SigningKey);

#[pymethods]
impl PySigningKey {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
    fn new(py: Python<'_>, key: KeyArgument, password: Option<&[u8]>) -> PyResult<Self> {
        // A password takes time, as it should.
        Ok(Self(py.detach(|| SigningKey::parse(&key.0, password)).map_err(key_error)?))
    }

    /// The name of it.
    #[getter]
    fn key_id(&self) -> String {
        self.0.public().id()
    }

    /// Sign a session. Returns the bundle, and what the session keeps of it as JSON.
    fn sign(
        &self,
        py: Python<'_>,
        metadata: &str,
        redaction_policy: Option<&str>,
    ) -> PyResult<(String, String)> {
        let sign = || attest::sign(metadata, &self.0, redaction_policy);
        let signed = py.detach(sign).map_err(verify_error)?;
        Ok((signed.bundle, json(&signed.attestation)?))
    }

    /// Sign a session into its directory. Returns what the session keeps of it as JSON.
    fn sign_into(
        &self,
        py: Python<'_>,
        session_dir: OsArgument,
        metadata: &str,
        redaction_policy: Option<&str>,
    ) -> PyResult<String> {
        let session_dir = PathBuf::from(session_dir.0);
        let sign = || attest::sign_into(&session_dir, metadata, &self.0, redaction_policy);
        json(&py.detach(sign).map_err(verify_error)?)
    }
}

#[pyfunction(name = "_verify_bundle")]
#[expect(clippy::needless_pass_by_value, reason = "extracted from a Python argument")]
pub(crate) fn verify_bundle(
    py: Python<'_>,
    bundle: &str,
    metadata: &str,
    expected_public_key: Option<KeyArgument>,
) -> PyResult<String> {
    let key = expected_public_key.as_ref().map(|key| key.0.as_slice());
    json(&py.detach(|| attest::verify(bundle, metadata, key)))
}

#[pyfunction(name = "_verify_bundle_in")]
pub(crate) fn verify_bundle_in(
    py: Python<'_>,
    session_dir: OsArgument,
    metadata: &str,
    expected_public_key: Option<KeyArgument>,
) -> PyResult<String> {
    let (session_dir, key) = (PathBuf::from(session_dir.0), expected_public_key);
    let verify =
        || attest::verify_in(&session_dir, metadata, key.as_ref().map(|key| key.0.as_slice()));
    json(&py.detach(verify))
}
