"""Signing a session, and checking that."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nono_py._errors import VerificationError
from nono_py._nono_py import _dsse_pae, _SigningKey, _verify_bundle, _verify_bundle_in
from nono_py.audit._names import (
    AuditAttestationSummaryDict,
    AuditAttestationVerificationResultDict,
)
from nono_py.audit._text import metadata_text, text

if TYPE_CHECKING:
    from nono_py._nono_py import _Path


def dsse_pae(payload_type: str, payload: bytes) -> bytes:
    """Return what the signature of a DSSE envelope is of."""
    return _dsse_pae(payload_type, payload)


def _key(key: bytes | str, key_id: str | None, password: bytes | None) -> _SigningKey:
    signing = _SigningKey(key, password)
    if key_id is not None and key_id != signing.key_id:
        raise VerificationError(
            "audit attestation key_id must be the SHA-256 hex digest of the SPKI public key"
        )
    return signing


def _policy(policy: Mapping[str, Any] | None) -> str | None:
    return None if policy is None else text(dict(policy))


def sign_audit_attestation_bundle(
    metadata: "Mapping[str, Any] | Any",
    private_key_pem: bytes | str,
    *,
    key_id: str | None = None,
    password: bytes | None = None,
    redaction_policy: Mapping[str, Any] | None = None,
) -> tuple[str, AuditAttestationSummaryDict]:
    """Sign a session that has an `audit_integrity`, with an ECDSA P-256 key.

    The `audit_integrity` has to be what a log can come to. The key is PEM or DER, PKCS #8,
    encrypted with `password` or not, or SEC 1. Returns the bundle, and what belongs into the
    session as its `audit_attestation`. If all of the session is there, its digest is signed with
    it, and nothing of it can be changed afterwards.
    """
    key = _key(private_key_pem, key_id, password)
    bundle, summary = key.sign(metadata_text(metadata), _policy(redaction_policy))
    attestation: AuditAttestationSummaryDict = json.loads(summary)
    return bundle, attestation


def write_audit_attestation(
    session_dir: "_Path",
    metadata: "Mapping[str, Any] | Any",
    private_key_pem: bytes | str,
    *,
    key_id: str | None = None,
    password: bytes | None = None,
    redaction_policy: Mapping[str, Any] | None = None,
) -> AuditAttestationSummaryDict:
    """Sign a session, and put the bundle into its directory, whole or not at all."""
    key = _key(private_key_pem, key_id, password)
    summary: AuditAttestationSummaryDict = json.loads(
        key.sign_into(session_dir, metadata_text(metadata), _policy(redaction_policy))
    )
    return summary


def verify_audit_attestation_bundle(
    bundle: "Mapping[str, Any] | str | bytes",
    metadata: "Mapping[str, Any] | Any",
    *,
    expected_public_key: bytes | str | None = None,
) -> AuditAttestationVerificationResultDict:
    """Check a bundle against the session that it is of. What is wrong is in the result.

    `expected_public_key` is PEM, DER or DER in base64. Without it the key is whatever the session
    names, and anybody could have signed: `signer` is then in `not_proved`. A bundle of more than
    16 MiB is not looked at.
    """
    result: AuditAttestationVerificationResultDict = json.loads(
        _verify_bundle(_bundle_text(bundle), metadata_text(metadata), expected_public_key)
    )
    return result


def verify_audit_attestation(
    session_dir: "_Path",
    metadata: "Mapping[str, Any] | Any",
    *,
    expected_public_key: bytes | str | None = None,
) -> AuditAttestationVerificationResultDict:
    """Check the bundle in a session's directory as `verify_audit_attestation_bundle` does.

    The session names the bundle; a name that leads out of the directory is refused.
    """
    result: AuditAttestationVerificationResultDict = json.loads(
        _verify_bundle_in(session_dir, metadata_text(metadata), expected_public_key)
    )
    return result


def _bundle_text(bundle: object) -> str:
    try:
        if isinstance(bundle, str):
            bundle = bundle.encode("utf-8")
        return bundle.decode("utf-8") if isinstance(bundle, bytes) else text(bundle)
    except (TypeError, ValueError, RecursionError):
        # What is no UTF-8 is no JSON either, and will be called so.
        return ""
