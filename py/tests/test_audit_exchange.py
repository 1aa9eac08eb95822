"""What PyPI's nono-py 0.16.0 logs, signs and enters in a ledger verifies here, and the reverse.

`exchange.py` is run with either package; `vectors/audit` is what it wrote there.
"""

import json
from pathlib import Path
from typing import Any

import exchange
import pytest
from nono_py import audit
from reference import Reference

HERE = Path(__file__).parent
VECTORS = HERE / "vectors" / "audit"
#: Only signatures differ from one time to the next.
SAME = ("audit-events.ndjson", "session.json", "digest.json", "proofs.json", "ledger.ndjson")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def all_is_verified(found: "dict[str, Any]") -> bool:
    return all(
        [
            found["events"],
            found["lines"],
            *found["models"],
            *found["proofs"],
            found["digest"],
            found["log"]["records_verified"],
            found["log"]["stored_merkle_root"] == found["log"]["computed_merkle_root"],
            found["ledger"]["session_digest_matches"],
            found["ledger"]["ledger_chain_verified"],
            found["attestation"]["signature_verified"],
            found["attestation"]["expected_public_key_matches"],
            found["attestation"]["verification_error"] is None,
        ]
    )


def test_what_the_reference_wrote_verifies() -> None:
    found = exchange.check(VECTORS)
    assert all_is_verified(found)
    assert found["log"]["complete"]
    # It does not sign all of a session, and so that is not proved.
    assert found["attestation"]["session_digest_matches"] is None
    assert "session_metadata" in found["attestation"]["not_proved"]


def test_what_is_written_here_is_byte_for_byte_what_the_reference_writes(tmp_path: Path) -> None:
    exchange.write(tmp_path)
    for name in SAME:
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes(), name
    assert all_is_verified(exchange.check(tmp_path))


def test_a_changed_vector_is_found(tmp_path: Path) -> None:
    for path in VECTORS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    session = json.loads((tmp_path / "session.json").read_text())
    (tmp_path / "session.json").write_text(json.dumps({**session, "command": ["other"]}))
    found = exchange.check(tmp_path)
    assert not found["digest"]
    assert not found["ledger"]["session_digest_matches"]
    assert "command" in found["attestation"]["verification_error"]
    whole = (tmp_path / audit.AUDIT_EVENTS_FILENAME).read_bytes()
    (tmp_path / audit.AUDIT_EVENTS_FILENAME).write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(audit.VerificationError, match="some are missing"):
        exchange.check(tmp_path)


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import exchange
if sys.argv[2] == "write":
    exchange.write(Path(sys.argv[3]))
else:
    print(json.dumps(exchange.check(Path(sys.argv[3]))))
"""


def test_each_verifies_what_the_other_has_just_written(
    reference: Reference, tmp_path: Path
) -> None:
    exchange.write(tmp_path / "ours")
    found = json.loads(reference.run(PROGRAM, HERE, "check", tmp_path / "ours", cwd=tmp_path))
    assert all_is_verified(found)
    # It is the reference that has said so.
    assert "proved" not in found["log"]
    reference.run(PROGRAM, HERE, "write", tmp_path / "theirs", cwd=tmp_path)
    assert all_is_verified(exchange.check(tmp_path / "theirs"))
    for name in SAME:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
