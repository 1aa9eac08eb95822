"""Logs, ledgers, proofs and signatures from one package to another: run with either of them.

    python exchange.py write DIRECTORY    makes one of each
    python exchange.py check DIRECTORY    verifies what is there, and prints what it found as JSON

`vectors/audit/` is what PyPI's nono-py 0.16.0 has written. The key is made for these tests alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from nono_py import SessionMetadata, audit

KEY = Path(__file__).parent / "vectors" / "audit" / "key.pem"

#: One event of every kind, and what is hard to write the same way twice.
EVENTS: "list[dict[str, Any]]" = [
    audit.session_started(
        started="2026-01-01T00:00:00Z",
        command=["sh", "-c", 'é \U0001f980 \x7f\u2028 " \\ / \n\t\x01 </script>'],
        redaction_policy={"added_flags": ["--token"], "removed_headers": []},
    ),
    audit.capability_decision(
        timestamp="2026-01-01T00:00:01Z",
        path="/étc/passwd",
        access="ReadWrite",
        child_pid=7,
        session_id="sid",
        decision=audit.approval_denied("nö"),
        backend="terminal",
        duration_ms=12,
        request_id="r1",
        reason="why",
    ),
    audit.url_open(
        url="https://a.example/?q=ä", child_pid=7, session_id="sid", success=True, request_id="r2"
    ),
    audit.network(
        timestamp_unix_ms=1_700_000_000_000,
        mode="reverse",
        decision="deny",
        target="api.example",
        route_id="openai",
        auth_outcome="failed",
        managed_credential_active=False,
        denial_category="authentication_failed",
        port=443,
        method="GET",
        path="/v1/modèles",
        status=407,
    ),
    audit.session_ended(ended="2026-01-01T00:00:02Z", exit_code=-9),
]


def session(name: str, integrity: "dict[str, Any] | None") -> "dict[str, Any]":
    """Return all that is kept of a session."""
    metadata: dict[str, Any] = json.loads(
        SessionMetadata(name, ["sh", "é"], ["/tmp/ä", "/srv"]).to_json()
    )
    network = EVENTS[3]["event"]
    return {
        **metadata,
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:00:02Z",
        "exit_code": -9,
        "snapshot_count": 2,
        "merkle_roots": ["ab" * 32],
        "executable_identity": {"resolved_path": "/usr/bin/sé", "sha256": "cd" * 32},
        "network_events": [network],
        "audit_event_count": len(EVENTS) if integrity else 0,
        "audit_integrity": integrity,
    }


def write(directory: Path) -> None:
    """Make one of each in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    recorder = audit.AlphaRecorder()
    with (directory / audit.AUDIT_EVENTS_FILENAME).open("w") as log:
        leaves = [recorder.write(log, event)["leaf_hash"] for event in EVENTS]
    found = audit.verify_log(directory)
    integrity = {
        "hash_algorithm": "sha256",
        "event_count": len(EVENTS),
        "chain_head": found["computed_chain_head"],
        "merkle_root": found["computed_merkle_root"],
    }
    metadata = session("sid", integrity)
    summary = audit.write_audit_attestation(directory, metadata, KEY.read_bytes())
    metadata["audit_attestation"] = summary
    _dump(directory / "session.json", metadata)
    _dump(directory / "digest.json", audit.compute_session_digest(metadata))
    _dump(
        directory / "proofs.json",
        [audit.build_inclusion_proof(leaves, at) for at in range(len(leaves))],
    )
    previous = None
    with (directory / audit.AUDIT_LEDGER_FILENAME).open("w") as ledger:
        for sequence, one in enumerate((session("before", None), metadata)):
            record = audit.build_ledger_record(one, sequence=sequence, previous_chain=previous)
            previous = record["chain_hash"]
            ledger.write(json.dumps(record) + "\n")


def check(directory: Path) -> "dict[str, Any]":
    """Verify what is in a directory; what is wrong with a log or a ledger is raised."""
    metadata = json.loads((directory / "session.json").read_text())
    root = metadata["audit_integrity"]["merkle_root"]
    proofs = json.loads((directory / "proofs.json").read_text())
    key = metadata["audit_attestation"]["public_key"]
    lines = list(audit.iter_session(directory))
    again = audit.AlphaRecorder()
    return {
        "log": audit.verify_log(directory),
        "events": [line["event"] for line in lines] == EVENTS,
        "lines": lines == [again.record(event) for event in EVENTS],
        "models": [audit.AuditEventRecord.model_validate(line).to_wire() == line for line in lines],
        "proofs": [audit.verify_inclusion_proof(proof, expected_root=root) for proof in proofs],
        "digest": audit.compute_session_digest(metadata)
        == json.loads((directory / "digest.json").read_text()),
        "ledger": audit.verify_session_in_ledger(directory / audit.AUDIT_LEDGER_FILENAME, metadata),
        "attestation": audit.verify_audit_attestation(directory, metadata, expected_public_key=key),
    }


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        json.dump(check(Path(sys.argv[2])), sys.stdout)
