"""Logs of sessions that show whether they were changed: written, verified, signed, in a ledger.

A log is `audit-events.ndjson` in the directory of a session: one event on each line, chained by
hashes. `AlphaRecorder` writes one, and `verify_log` checks it. A session's digest covers all that
its `session.json` keeps; it stands in a ledger of many sessions, and is signed by
`write_audit_attestation`. The formats are those of the `nono` tools.

Every verification says in `proved` and `not_proved` what it has shown and what it cannot show; the
documentation has a table of the words. `import nono_py` does not import this module.
"""

from nono_py._errors import VerificationError
from nono_py.audit._attest import (
    dsse_pae,
    sign_audit_attestation_bundle,
    verify_audit_attestation,
    verify_audit_attestation_bundle,
    write_audit_attestation,
)
from nono_py.audit._events import (
    approval_denied,
    approval_granted,
    approval_timeout,
    capability_decision,
    network,
    session_ended,
    session_started,
    url_open,
)
from nono_py.audit._ledger import (
    build_ledger_record,
    compute_session_digest,
    iter_ledger,
    validate_ledger_session_id,
    verify_session_in_ledger,
)
from nono_py.audit._log import (
    AlphaRecorder,
    build_inclusion_proof,
    iter_session,
    tail_session,
    verify_inclusion_proof,
    verify_log,
)
from nono_py.audit._models import (
    ApprovalDecision,
    AuditEntryPayload,
    AuditEvent,
    AuditEventRecord,
    CapabilityDecisionEvent,
    CapabilityRequestPayload,
    NetworkAuditEventPayload,
    NetworkEvent,
    ScrubPolicyDiffPayload,
    SessionEndedEvent,
    SessionStartedEvent,
    UrlOpenEvent,
    UrlOpenRequestPayload,
)
from nono_py.audit._names import (
    AUDIT_ATTESTATION_BUNDLE_FILENAME,
    AUDIT_ATTESTATION_PREDICATE_TYPE_ALPHA,
    AUDIT_EVENTS_FILENAME,
    AUDIT_LEDGER_FILENAME,
    CHAIN_DOMAIN_ALPHA,
    EVENT_DOMAIN_ALPHA,
    EVENT_TYPES,
    HASH_ALGORITHM_ALPHA,
    IN_TOTO_PAYLOAD_TYPE,
    IN_TOTO_STATEMENT_TYPE,
    LEDGER_CHAIN_DOMAIN_ALPHA,
    MERKLE_DOMAIN_ALPHA,
    MERKLE_SCHEME_ALPHA,
    SESSION_DIGEST_DOMAIN_ALPHA,
    AuditAttestationSummaryDict,
    AuditAttestationVerificationResultDict,
    AuditInclusionProofDict,
    AuditProofNodeDict,
    AuditVerificationResultDict,
    LedgerRecordDict,
    LedgerVerificationResultDict,
)

__all__ = [
    "AUDIT_ATTESTATION_BUNDLE_FILENAME",
    "AUDIT_ATTESTATION_PREDICATE_TYPE_ALPHA",
    "AUDIT_EVENTS_FILENAME",
    "AUDIT_LEDGER_FILENAME",
    "CHAIN_DOMAIN_ALPHA",
    "EVENT_DOMAIN_ALPHA",
    "EVENT_TYPES",
    "HASH_ALGORITHM_ALPHA",
    "IN_TOTO_PAYLOAD_TYPE",
    "IN_TOTO_STATEMENT_TYPE",
    "LEDGER_CHAIN_DOMAIN_ALPHA",
    "MERKLE_DOMAIN_ALPHA",
    "MERKLE_SCHEME_ALPHA",
    "SESSION_DIGEST_DOMAIN_ALPHA",
    "AlphaRecorder",
    "ApprovalDecision",
    "AuditAttestationSummaryDict",
    "AuditAttestationVerificationResultDict",
    "AuditEntryPayload",
    "AuditEvent",
    "AuditEventRecord",
    "AuditInclusionProofDict",
    "AuditProofNodeDict",
    "AuditVerificationResultDict",
    "CapabilityDecisionEvent",
    "CapabilityRequestPayload",
    "LedgerRecordDict",
    "LedgerVerificationResultDict",
    "NetworkAuditEventPayload",
    "NetworkEvent",
    "ScrubPolicyDiffPayload",
    "SessionEndedEvent",
    "SessionStartedEvent",
    "UrlOpenEvent",
    "UrlOpenRequestPayload",
    "VerificationError",
    "approval_denied",
    "approval_granted",
    "approval_timeout",
    "build_inclusion_proof",
    "build_ledger_record",
    "capability_decision",
    "compute_session_digest",
    "dsse_pae",
    "iter_ledger",
    "iter_session",
    "network",
    "session_ended",
    "session_started",
    "sign_audit_attestation_bundle",
    "tail_session",
    "url_open",
    "validate_ledger_session_id",
    "verify_audit_attestation",
    "verify_audit_attestation_bundle",
    "verify_inclusion_proof",
    "verify_log",
    "verify_session_in_ledger",
    "write_audit_attestation",
]

for _item in (
    AlphaRecorder,
    *(item for item in list(globals().values()) if isinstance(item, type)),
):
    # Where they are found by users, and by `pickle`.
    _item.__module__ = __name__
del _item
