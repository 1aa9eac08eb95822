"""The constants of the formats, and the shapes of what the functions return."""

from typing import Literal, TypedDict

AUDIT_EVENTS_FILENAME = "audit-events.ndjson"
AUDIT_LEDGER_FILENAME = "ledger.ndjson"
AUDIT_ATTESTATION_BUNDLE_FILENAME = "audit-attestation.bundle"
AUDIT_ATTESTATION_PREDICATE_TYPE_ALPHA = "https://nono.sh/attestation/audit-session/alpha"
IN_TOTO_PAYLOAD_TYPE = "application/vnd.in-toto+json"
IN_TOTO_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

EVENT_TYPES = frozenset(
    {"session_started", "session_ended", "capability_decision", "url_open", "network"}
)

HASH_ALGORITHM_ALPHA = "sha256"
MERKLE_SCHEME_ALPHA = "alpha"

#: What is hashed before that which the name says.
EVENT_DOMAIN_ALPHA = b"nono.audit.event.alpha\n"
CHAIN_DOMAIN_ALPHA = b"nono.audit.chain.alpha\n"
MERKLE_DOMAIN_ALPHA = b"nono.audit.merkle.alpha\n"
SESSION_DIGEST_DOMAIN_ALPHA = b"nono.audit.session-digest.alpha\n"
LEDGER_CHAIN_DOMAIN_ALPHA = b"nono.audit.ledger.chain.alpha\n"


class AuditProofNodeDict(TypedDict):
    """What a node on the way from a leaf to the root is hashed with."""

    direction: Literal["left", "right"]
    hash: str


class AuditInclusionProofDict(TypedDict):
    """That an event is in a log; hashes are 64 hexadecimal digits."""

    leaf_index: int
    leaf_count: int
    leaf_hash: str
    merkle_root: str
    siblings: list[AuditProofNodeDict]


class AuditVerificationResultDict(TypedDict):
    """What `verify_log` has found. A log in which something is wrong is an exception."""

    hash_algorithm: str
    merkle_scheme: str
    event_count: int
    computed_chain_head: str | None
    computed_merkle_root: str | None
    stored_event_count: int | None
    stored_chain_head: str | None
    stored_merkle_root: str | None
    event_count_matches: bool
    records_verified: bool
    missing_canonical_event_json: bool
    #: Whether something kept elsewhere shows that no line is missing at the end.
    complete: bool
    proved: list[str]
    not_proved: list[str]


class LedgerRecordDict(TypedDict):
    """A line of a ledger."""

    sequence: int
    prev_chain: str | None
    session_id: str
    session_digest: str
    completed_at: str
    chain_hash: str


class LedgerVerificationResultDict(TypedDict):
    """What `verify_session_in_ledger` has found."""

    hash_algorithm: str
    entry_count: int
    session_digest: str
    session_found: bool
    #: Whether the last line of the session has the digest that it has now.
    session_digest_matches: bool
    #: Whether one before that has it, and the last one another: the session was entered anew and
    #: put back since, or another one has its name.
    later_entry_differs: bool
    ledger_chain_verified: bool
    ledger_head: str | None
    #: Whether `expected_head` shows that no line is missing at the end.
    complete: bool
    proved: list[str]
    not_proved: list[str]


class AuditAttestationSummaryDict(TypedDict):
    """What a session keeps of its signature, as `audit_attestation`."""

    predicate_type: str
    key_id: str
    public_key: str
    bundle_filename: str


class AuditAttestationVerificationResultDict(TypedDict):
    """What checking a signature has come to."""

    present: bool
    predicate_type: str | None
    key_id: str | None
    key_id_matches: bool
    signature_verified: bool
    merkle_root_matches: bool
    session_id_matches: bool
    expected_public_key_matches: bool | None
    verification_error: str | None
    #: Whether all that is kept of the session is what was signed; `None` if that was not signed.
    session_digest_matches: bool | None
    proved: list[str]
    not_proved: list[str]
