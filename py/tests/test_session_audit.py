"""The module `audit`: the gaps that its verifiers must not have, and what programs see of it."""

import base64
import copy
import io
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from exchange import EVENTS, KEY, session
from nono_py import NonoError, SessionMetadata, audit
from nono_py.audit import AlphaRecorder, VerificationError, verify_log

LOG = audit.AUDIT_EVENTS_FILENAME


def lines() -> "list[dict[str, Any]]":
    recorder = AlphaRecorder()
    return [recorder.record(event) for event in EVENTS]


def put(directory: Path, records: "list[Any]") -> None:
    (directory / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))


def kept(records: "list[dict[str, Any]]") -> "dict[str, Any]":
    recorder = AlphaRecorder()
    for record in records:
        recorder.record(record["event"])
    integrity = recorder.integrity()
    assert integrity is not None
    return integrity


# Truncation, and what is stored


def test_a_log_that_was_cut_is_found_by_whatever_is_stored(tmp_path: Path) -> None:
    whole = lines()
    put(tmp_path, whole[:-1])
    stored = kept(whole)
    for key in ("event_count", "chain_head", "merkle_root"):
        with pytest.raises(VerificationError, match="stored"):
            verify_log(tmp_path, stored={key: stored[key]})
    (tmp_path / "session.json").write_text(json.dumps(session("sid", stored)))
    with pytest.raises(VerificationError, match=r"event_count 5 .* 4 events .* missing"):
        verify_log(tmp_path)
    # The number alone, in its other place, is enough.
    alone = {**session("sid", None), "audit_event_count": 5}
    (tmp_path / "session.json").write_text(json.dumps(alone))
    with pytest.raises(VerificationError, match="event_count 5"):
        verify_log(tmp_path)


def test_where_nothing_is_stored_it_is_said_that_nothing_proves_the_end(tmp_path: Path) -> None:
    put(tmp_path, lines()[:-1])
    found = verify_log(tmp_path)
    assert not found["complete"]
    assert (found["proved"], found["not_proved"]) == (["records"], ["completeness", "authorship"])
    put(tmp_path, lines())
    found = verify_log(tmp_path, stored=kept(lines()))
    assert found["complete"]
    assert "completeness" in found["proved"]
    assert found["not_proved"] == ["authorship"]


def test_a_number_alone_proves_no_completeness(tmp_path: Path) -> None:
    put(tmp_path, lines())
    found = verify_log(tmp_path, stored={"event_count": 5})
    assert not found["complete"]
    assert found["proved"] == ["records", "event_count"]
    assert found["not_proved"] == ["completeness", "authorship"]
    for key in ("chain_head", "merkle_root"):
        assert verify_log(tmp_path, stored={key: kept(lines())[key]})["complete"]


def test_what_else_a_session_keeps_takes_no_part_in_it(tmp_path: Path) -> None:
    put(tmp_path, lines())
    # As a tree of values it would take gigabytes.
    many = "[" + "0," * 5_000_000 + "0]"
    session_text = json.dumps({"audit_integrity": kept(lines())})[:-1] + f',"x":{many}}}'
    (tmp_path / "session.json").write_text(session_text)
    assert verify_log(tmp_path)["complete"]
    with pytest.raises(VerificationError, match="more than 4194304 values"):
        audit.compute_session_digest(_Text(session_text))


class _Text(NamedTuple):
    """A session as the text that it is."""

    text: str

    def to_json(self) -> str:
        return self.text


def test_what_is_stored_must_agree_and_make_sense(tmp_path: Path) -> None:
    put(tmp_path, lines())
    stored = kept(lines())
    for change, said in (
        ({"event_count": 4}, "some are added"),
        ({"event_count": "5"}, "stored integrity summary"),
        ({"event_count": -5}, "stored integrity summary"),
        ({"hash_algorithm": "md5"}, "hash_algorithm"),
        ({"chain_head": "00" * 32}, "chain head"),
        ({"merkle_root": "00" * 32}, "Merkle root"),
        ({"merkle_root": "zz"}, "stored integrity summary"),
    ):
        with pytest.raises(VerificationError, match=said):
            verify_log(tmp_path, stored={**stored, **change})
    with pytest.raises(VerificationError, match="no mapping"):
        verify_log(tmp_path, stored=3)  # type: ignore[arg-type]
    for text, said in (
        ("{", "session.json"),
        ("[]", "session.json: not a JSON object"),
        (json.dumps({"audit_integrity": stored, "audit_event_count": 9}), "audit_event_count 9"),
        (json.dumps({"audit_integrity": [1]}), "session.json"),
    ):
        (tmp_path / "session.json").write_text(text)
        with pytest.raises(VerificationError, match=said):
            verify_log(tmp_path)
    (tmp_path / "session.json").write_bytes(b"\xff")
    with pytest.raises(VerificationError, match=r"session\.json: it is no UTF-8"):
        verify_log(tmp_path)


# Odd lines

ODD = {
    "number": b"3",
    "null": b"null",
    "list": json.dumps(list(lines()[1].values())).encode(),
    "text": b'"x"',
    "empty object": b"{}",
    "cut": json.dumps(lines()[1]).encode()[:-7],
    "no UTF-8": b"\xff\xfe",
    "key twice": json.dumps(lines()[1]).encode()[:-1] + b',"sequence":1}',
    "NaN": b'{"sequence":NaN}',
    "NUL": b"\0",
    "deep": b'{"sequence":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge": b'{"sequence":"' + b"x" * (17 << 20) + b'"}',
    "huge number": b'{"sequence":1' + b"0" * 5000 + b"}",
    **{
        f"without {key}": json.dumps({k: v for k, v in lines()[1].items() if k != key}).encode()
        for key in ("sequence", "prev_chain", "leaf_hash", "chain_hash", "event")
    },
    **{
        f"{key} is {value!r}": json.dumps({**lines()[1], key: value}).encode()
        for key in ("sequence", "prev_chain", "leaf_hash", "chain_hash", "event_json", "event")
        for value in cast("tuple[Any, ...]", (-1, "x", [], True))
    },
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_line_is_named(name: str, tmp_path: Path) -> None:
    first, _, *rest = lines()
    behind = b"" if name == "cut" else b"".join(json.dumps(r).encode() + b"\n" for r in rest)
    end = b"" if name == "cut" else b"\n"
    (tmp_path / LOG).write_bytes(json.dumps(first).encode() + b"\n" + ODD[name] + end + behind)
    with pytest.raises(VerificationError, match=r"^line 2: "):
        verify_log(tmp_path)
    stored = {"event_count": 5}
    with pytest.raises(VerificationError, match=r"^line 2: "):
        verify_log(tmp_path, stored=stored)


def test_an_event_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    import hashlib

    text = '{"type":"session_ended","ended":"t","exit_code":1,"exit_code":0}'
    leaf = hashlib.sha256(audit.EVENT_DOMAIN_ALPHA + text.encode()).digest()
    chain = hashlib.sha256(audit.CHAIN_DOMAIN_ALPHA + bytes(32) + leaf).hexdigest()
    head = f'"sequence":0,"prev_chain":null,"leaf_hash":"{leaf.hex()}","chain_hash":"{chain}"'
    (tmp_path / LOG).write_text(f'{{{head},"event_json":{json.dumps(text)},"event":{text}}}\n')
    with pytest.raises(VerificationError, match=r'line 1: .*"exit_code" is there twice'):
        verify_log(tmp_path)


def test_no_byte_of_a_log_can_be_changed_unseen(tmp_path: Path) -> None:
    put(tmp_path, lines())
    stored = kept(lines())
    whole = (tmp_path / LOG).read_bytes()
    chance = random.Random(7)
    unseen = []
    for _ in range(2000):
        at, byte = chance.randrange(len(whole)), chance.randrange(256)
        if whole[at] == byte:
            continue
        (tmp_path / LOG).write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        try:
            verify_log(tmp_path, stored=stored)
        except VerificationError:
            continue
        unseen.append((tmp_path / LOG).read_bytes())
    # What is left changes how it is written, and nothing of what is read.
    read = [json.loads(line) for line in whole.splitlines()]
    for changed in unseen:
        assert [json.loads(line.lower()) for line in changed.splitlines() if line.strip()] == [
            json.loads(json.dumps(line).lower()) for line in read
        ]


def test_a_key_that_no_hash_covers_is_refused(tmp_path: Path) -> None:
    whole = lines()
    whole[1]["approved_by"] = "somebody"
    put(tmp_path, whole)
    with pytest.raises(VerificationError, match=r"line 2: .*approved_by"):
        verify_log(tmp_path, stored=kept(lines()))
    metadata = session("sid", kept(lines()))
    record = dict(audit.build_ledger_record(metadata, sequence=0, previous_chain=None))
    record["approved_by"] = "somebody"
    ledger = tmp_path / "ledger"
    ledger.write_text(json.dumps(record) + "\n")
    with pytest.raises(VerificationError, match=r"line 1: .*approved_by"):
        audit.verify_session_in_ledger(ledger, metadata)


def nothing(path: Path, kind: str) -> None:
    """Put what never ends, or never begins, at a path."""
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    metadata = session("sid", kept(lines()))
    readers: list[Callable[[Path], object]] = [
        verify_log,
        lambda place: list(audit.iter_session(place)),
        lambda place: next(audit.tail_session(place, poll_interval_s=0)),
        lambda place: audit.verify_session_in_ledger(place / LOG, metadata),
        lambda place: list(audit.iter_ledger(place / LOG)),
    ]
    for number, read in enumerate(readers):
        place = tmp_path / str(number)
        place.mkdir()
        nothing(place / LOG, kind)
        with pytest.raises(OSError, match="no regular file"):
            read(place)
    place = tmp_path / "kept"
    place.mkdir()
    put(place, lines())
    nothing(place / "session.json", kind)
    with pytest.raises(OSError, match="no regular file"):
        verify_log(place)


# Signatures

SIGNED = session("sid", kept(lines()))


def signed(key: "bytes | str | None" = None, **options: Any) -> "tuple[str, dict[str, Any]]":
    bundle, summary = audit.sign_audit_attestation_bundle(
        SIGNED, KEY.read_bytes() if key is None else key, **options
    )
    return bundle, {**SIGNED, "audit_attestation": summary}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": ["other"]}, "command"),
        ({"started": "2025-01-01T00:00:00Z"}, "started"),
        ({"ended": None}, "ended"),
        ({"exit_code": 0}, "digest"),
        ({"snapshot_count": 9}, "digest"),
        ({"network_events": []}, "digest"),
        ({"tracked_paths": []}, "digest"),
        ({"executable_identity": None}, "digest"),
        ({"session_id": "other"}, "session_id"),
        ({"audit_integrity": {**SIGNED["audit_integrity"], "event_count": 4}}, "event_count"),
        ({"audit_integrity": None}, "audit_integrity"),
        ({"exit_code": "x"}, "exit_code"),
    ],
)
def test_nothing_of_a_signed_session_can_be_changed(change: "dict[str, Any]", said: str) -> None:
    bundle, metadata = signed()
    assert audit.verify_audit_attestation_bundle(bundle, metadata)["verification_error"] is None
    found = audit.verify_audit_attestation_bundle(bundle, {**metadata, **change})
    assert said in str(found["verification_error"])
    assert not found["signature_verified"]
    assert found["proved"] == []
    with pytest.raises(VerificationError):
        # What is left out cannot be compared, and is not passed over either.
        audit.compute_session_digest({k: v for k, v in metadata.items() if k not in change})


@pytest.mark.parametrize("left_out", sorted({*SIGNED} - {"session_id", "audit_integrity"}))
def test_nothing_of_a_signed_session_can_be_left_out(left_out: str) -> None:
    bundle, metadata = signed()
    changed = {**metadata, "exit_code": 0}
    del changed[left_out]
    for less in (changed, {k: v for k, v in metadata.items() if k != left_out}):
        found = audit.verify_audit_attestation_bundle(bundle, less)
        if left_out == "audit_attestation":
            assert not found["present"]
        else:
            assert f"it lacks {left_out}" in str(found["verification_error"]) or (
                f"the session's {left_out}" in str(found["verification_error"])
            )
        assert not found["signature_verified"]
        assert found["proved"] == []


def test_a_signature_says_what_it_proves() -> None:
    bundle, metadata = signed()
    key = metadata["audit_attestation"]["public_key"]
    found = audit.verify_audit_attestation_bundle(bundle, metadata)
    assert found["not_proved"] == ["signer", "events"]
    found = audit.verify_audit_attestation_bundle(bundle, metadata, expected_public_key=key)
    assert found["not_proved"] == ["events"]
    assert found["session_digest_matches"] is True
    # Of less than a whole session there is no digest.
    few = ("session_id", "started", "command", "audit_integrity")
    bundle, summary = audit.sign_audit_attestation_bundle(
        {key: SIGNED[key] for key in few}, KEY.read_bytes()
    )
    found = audit.verify_audit_attestation_bundle(bundle, {**SIGNED, "audit_attestation": summary})
    assert found["session_digest_matches"] is None
    assert found["not_proved"] == ["ended", "session_metadata", "signer", "events"]
    found = audit.verify_audit_attestation_bundle(bundle, SIGNED)
    assert not found["present"]
    assert found["proved"] == []


def test_what_no_digest_is_of_is_not_proved() -> None:
    bundle, metadata = signed()
    integrity = {**metadata["audit_integrity"], "approved_by": "somebody"}
    for more in (
        {"approved_by": "somebody"},
        {"audit_integrity": integrity},
        {"network_events": [{**event, "note": 1} for event in metadata["network_events"]]},
    ):
        found = audit.verify_audit_attestation_bundle(bundle, {**metadata, **more})
        assert found["verification_error"] is None
        assert "session_metadata" in found["not_proved"], more
    # That a key is absent, or null, is the same.
    events = [{"injection_mode": None, **event} for event in metadata["network_events"]]
    assert events != metadata["network_events"]
    found = audit.verify_audit_attestation_bundle(bundle, {**metadata, "network_events": events})
    assert "session_metadata" in found["proved"]


def test_a_key_that_is_expected_is_asked_for() -> None:
    bundle, metadata = signed()
    key = metadata["audit_attestation"]["public_key"]
    found = audit.verify_audit_attestation_bundle(bundle, SIGNED, expected_public_key=key)
    assert not found["present"]
    assert "not signed" in str(found["verification_error"])
    changed = {**metadata, "exit_code": 0}
    found = audit.verify_audit_attestation_bundle(bundle, changed, expected_public_key=key)
    assert "digest" in str(found["verification_error"])
    assert found["expected_public_key_matches"] is None


def test_a_list_is_no_object() -> None:
    integrity = list(SIGNED["audit_integrity"].values())
    wrong = {**SIGNED, "audit_integrity": integrity, "audit_attestation": None}
    with pytest.raises(VerificationError, match=r"audit_integrity: .*no JSON object"):
        audit.compute_session_digest(wrong)
    with pytest.raises(ValueError, match=r"audit_integrity: .*no JSON object"):
        SessionMetadata.from_json(json.dumps(wrong))
    with pytest.raises(VerificationError, match="audit_integrity"):
        audit.sign_audit_attestation_bundle(wrong, KEY.read_bytes())
    metadata = SessionMetadata("sid", ["sh"], ["/tmp"])
    with pytest.raises(ValueError, match="not a JSON object"):
        metadata.set_network_events([[0, "connect", "allow", "host"]])  # type: ignore[list-item]
    records = lines()
    hashes = [record["leaf_hash"] for record in records]
    proof = audit.build_inclusion_proof(hashes, 1)
    assert audit.verify_inclusion_proof(proof)
    siblings = [list(sibling.values()) for sibling in proof["siblings"]]
    assert not audit.verify_inclusion_proof({**proof, "siblings": siblings})
    decision = next(event for event in EVENTS if event["type"] == "capability_decision")
    entry = decision["entry"]
    request = list(entry["request"].values())
    for odd in (list(entry.values()), {**entry, "request": request}):
        with pytest.raises(ValueError, match="entry"):
            AlphaRecorder().record({**decision, "entry": odd})


def test_what_is_stored_is_of_the_log(tmp_path: Path) -> None:
    put(tmp_path, lines())
    whole = session("sid", kept(lines()))
    with pytest.raises(VerificationError, match="its audit_integrity is meant"):
        verify_log(tmp_path, stored=whole)
    assert verify_log(tmp_path, stored=whole["audit_integrity"])["complete"]
    assert not verify_log(tmp_path, stored={})["complete"]


def test_a_bundle_is_looked_for_in_the_directory_alone(tmp_path: Path) -> None:
    inside = tmp_path / "session"
    inside.mkdir()
    summary = audit.write_audit_attestation(inside, SIGNED, KEY.read_bytes())
    # It has the command in it, as the session has.
    assert (inside / summary["bundle_filename"]).stat().st_mode & 0o777 == 0o600
    (tmp_path / "outside").write_bytes((inside / summary["bundle_filename"]).read_bytes())
    metadata = {**SIGNED, "audit_attestation": summary}
    assert audit.verify_audit_attestation(inside, metadata)["verification_error"] is None
    (inside / "link").symlink_to("../outside")
    os.mkfifo(inside / "fifo")
    for name in ("../outside", str(tmp_path / "outside"), "link", "fifo", "..", ".", "", "a/../b"):
        named = {**metadata, "audit_attestation": {**summary, "bundle_filename": name}}
        found = audit.verify_audit_attestation(inside, named)
        assert "bundle" in str(found["verification_error"]), name
        assert not found["signature_verified"]
    (inside / summary["bundle_filename"]).unlink()
    assert "missing" in str(audit.verify_audit_attestation(inside, metadata)["verification_error"])
    with pytest.raises(FileNotFoundError):
        audit.write_audit_attestation(tmp_path / "none", SIGNED, KEY.read_bytes())


@pytest.mark.parametrize(
    "bundle",
    ["", "{", "[]", "null", "{}", b"\xff", "\ud800", None, 3, {"mediaType": 1}, {"x": object()}],
    ids=repr,
)
def test_whatever_a_bundle_is_there_is_an_answer(bundle: Any) -> None:
    found = audit.verify_audit_attestation_bundle(bundle, signed()[1])
    assert found["present"]
    assert found["verification_error"] is not None
    assert not found["signature_verified"]


def test_an_expected_key_that_is_no_text_is_an_answer_too() -> None:
    bundle, metadata = signed()
    found = audit.verify_audit_attestation_bundle(bundle, metadata, expected_public_key="\ud800")
    assert "expected public key" in str(found["verification_error"])


def _envelope(change: "dict[str, Any]") -> "dict[str, Any]":
    bundle = json.loads(signed()[0])
    bundle["dsseEnvelope"] |= change
    return dict(bundle)


def test_an_envelope_is_that_of_a_statement_with_one_signature() -> None:
    one = json.loads(signed()[0])["dsseEnvelope"]["signatures"]
    changes: tuple[dict[str, Any], ...] = (
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": one * 2},
        {"signatures": [{"sig": "AAAA"}]},
        {"payload": "e30"},
        {"payload": "*"},
    )
    for change in changes:
        found = audit.verify_audit_attestation_bundle(_envelope(change), signed()[1])
        assert found["verification_error"] is not None, change
    statement = audit.dsse_pae(audit.IN_TOTO_PAYLOAD_TYPE, b"{}")
    assert statement == b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


# Keys


def _key_forms() -> "Iterator[tuple[str, bytes, bytes | None]]":
    key = ec.generate_private_key(ec.SECP256R1())
    forms, none = serialization.PrivateFormat, serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"pw")
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        yield f"{encoding} pkcs8", key.private_bytes(encoding, forms.PKCS8, none), None
        yield f"{encoding} sec1", key.private_bytes(encoding, forms.TraditionalOpenSSL, none), None
        yield f"{encoding} locked", key.private_bytes(encoding, forms.PKCS8, locked), b"pw"


def test_keys_are_taken_in_every_form_and_signatures_are_theirs() -> None:
    ids = set()
    for name, key, password in _key_forms():
        bundle, metadata = signed(key, password=password)
        public = serialization.load_der_public_key(
            base64.b64decode(metadata["audit_attestation"]["public_key"])
        )
        assert isinstance(public, ec.EllipticCurvePublicKey)
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        der = public.public_bytes(serialization.Encoding.DER, spki)
        # The last is what `base64` writes: it breaks lines.
        for expected in (
            *(public.public_bytes(serialization.Encoding.PEM, spki), der),
            *(base64.b64encode(der), base64.encodebytes(der)),
        ):
            found = audit.verify_audit_attestation_bundle(
                bundle, metadata, expected_public_key=expected
            )
            assert found["expected_public_key_matches"], name
        ids.add(metadata["audit_attestation"]["key_id"])
    assert len(ids) == 1
    assert signed(KEY.read_text(), key_id=signed()[1]["audit_attestation"]["key_id"])


def test_a_key_that_cannot_sign_is_an_error_that_shows_nothing_of_it() -> None:
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    pkcs8, sec1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
    locked = serialization.BestAvailableEncryption(b"pw")
    key = ec.generate_private_key(ec.SECP256R1())
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(pem, pkcs8, none)
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, none)
    shut = key.private_bytes(pem, pkcs8, locked)
    for given, password, kind in (
        (other, None, VerificationError),
        (edwards, None, VerificationError),
        (shut, None, TypeError),
        (shut, b"no", ValueError),
        (key.private_bytes(pem, pkcs8, none), b"pw", TypeError),
        (key.private_bytes(pem, sec1, locked), b"pw", ValueError),
        (b"zz", None, ValueError),
        (b"", None, ValueError),
    ):
        with pytest.raises(kind) as found:
            signed(given, password=password)
        assert not any(word in str(found.value) for word in given.decode().split() if len(word) > 9)
    with pytest.raises(VerificationError, match="key_id"):
        signed(key_id="zz")
    with pytest.raises(VerificationError, match="audit_integrity"):
        audit.sign_audit_attestation_bundle({**SIGNED, "audit_integrity": None}, KEY.read_bytes())


# The ledger


def _ledger(path: Path) -> "list[dict[str, Any]]":
    records: list[dict[str, Any]] = []
    for sequence, name in enumerate(("a", "sid", "b")):
        previous = records[-1]["chain_hash"] if records else None
        one = SIGNED if name == "sid" else session(name, None)
        built = audit.build_ledger_record(one, sequence=sequence, previous_chain=previous)
        records.append(dict(built))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def test_a_ledger_finds_a_changed_session_and_says_what_it_cannot_know(tmp_path: Path) -> None:
    path = tmp_path / audit.AUDIT_LEDGER_FILENAME
    records = _ledger(path)
    head = records[-1]["chain_hash"]
    found = audit.verify_session_in_ledger(path, SIGNED)
    assert found["session_digest_matches"]
    assert found["not_proved"] == ["completeness", "authorship"]
    found = audit.verify_session_in_ledger(path, SIGNED, expected_head=head)
    assert (found["complete"], found["not_proved"]) == (True, ["authorship"])
    changed = audit.verify_session_in_ledger(path, {**SIGNED, "exit_code": 0})
    assert (changed["session_found"], changed["session_digest_matches"]) == (True, False)
    path.write_text("".join(json.dumps(record) + "\n" for record in records[:-1]))
    assert audit.verify_session_in_ledger(path, SIGNED)["session_digest_matches"]
    with pytest.raises(VerificationError, match="missing"):
        audit.verify_session_in_ledger(path, SIGNED, expected_head=head)


def test_sessions_of_one_name_are_told_apart_in_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / audit.AUDIT_LEDGER_FILENAME
    first, second = ({**SIGNED, "exit_code": code} for code in (3, 4))
    records: list[Any] = []

    def enter(metadata: "dict[str, Any]") -> None:
        previous = records[-1]["chain_hash"] if records else None
        built = audit.build_ledger_record(metadata, sequence=len(records), previous_chain=previous)
        records.append(built)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def found(metadata: "dict[str, Any]") -> "tuple[bool, bool]":
        result = audit.verify_session_in_ledger(path, metadata)
        matches = result["session_digest_matches"]
        assert ("session_digest" in result["proved"]) == matches
        return matches, result["later_entry_differs"]

    enter(first)
    enter(second)
    assert found(first) == (False, True), "it may have been put back to what it was"
    assert found(second) == (True, False)
    assert found({**SIGNED, "exit_code": 5}) == (False, False)
    enter(first)
    assert found(first) == (True, False)


def test_an_odd_line_of_a_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / audit.AUDIT_LEDGER_FILENAME
    first, second, third = _ledger(path)
    odd: list[Any] = [3, [], {}, list(second.values()), {**second, "completed_at": "x"}, third]
    odd += [{**second, "sequence": True}, {**second, "session_id": "../x"}]
    odd += [{k: v for k, v in second.items() if k != key} for key in second]
    for line in odd:
        path.write_text(json.dumps(first) + "\n" + json.dumps(line) + "\n")
        with pytest.raises(VerificationError, match="ledger line 2: "):
            audit.verify_session_in_ledger(path, SIGNED)
    path.write_bytes(json.dumps(first).encode() + b"\n\xff\n")
    with pytest.raises(VerificationError, match="ledger line 2: it is no UTF-8"):
        audit.verify_session_in_ledger(path, SIGNED)
    with pytest.raises(VerificationError, match="line 2"):
        list(audit.iter_ledger(path))
    with pytest.raises(ValueError, match="line 2"):
        list(audit.iter_ledger(path))


# Writing, reading and following


def test_threads_share_a_recorder(tmp_path: Path) -> None:
    recorder = AlphaRecorder()
    with (tmp_path / LOG).open("w") as log:

        def work() -> None:
            for _ in range(200):
                recorder.write(log, EVENTS[-1])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = verify_log(tmp_path, stored=recorder.integrity())
    assert (found["event_count"], found["complete"]) == (1600, True)


def test_an_event_that_a_file_does_not_take_is_not_counted() -> None:
    class Full(io.StringIO):
        def write(self, _: str, /) -> int:
            raise OSError(28, "No space left on device")

    recorder, log = AlphaRecorder(), io.StringIO()
    recorder.write(log, EVENTS[0])
    head = recorder.chain_head
    with pytest.raises(ValueError, match="unknown type"):
        recorder.write(log, {"type": "x"})
    assert recorder.write(log, EVENTS[1])["sequence"] == 1
    recorder = AlphaRecorder()
    recorder.write(log, EVENTS[0])
    with pytest.raises(OSError, match="No space"):
        recorder.write(Full(), EVENTS[1])
    assert (recorder.sequence, recorder.chain_head) == (1, head)


def test_nothing_is_written_behind_half_a_line() -> None:
    class Fills(io.StringIO):
        """A file whose buffer reaches the disk in part."""

        is_full = False

        def flush(self) -> None:
            if self.is_full:
                raise OSError(28, "No space left on device")

    recorder, log = AlphaRecorder(), Fills()
    recorder.write(log, EVENTS[0])
    log.is_full = True
    with pytest.raises(OSError, match="No space"):
        recorder.write(log, EVENTS[1])
    log.is_full = False
    before = log.getvalue()
    for _ in range(2):
        with pytest.raises(VerificationError, match=r"half a line.*No space"):
            recorder.write(log, EVENTS[1])
    assert log.getvalue() == before
    assert recorder.sequence == 1


def test_a_log_is_followed_through_all_that_happens_to_it(tmp_path: Path) -> None:
    path, stop, got = tmp_path / LOG, threading.Event(), []
    arrived = threading.Semaphore(0)

    def follow() -> None:
        for line in audit.tail_session(tmp_path, poll_interval_s=0.005, stop_event=stop):
            got.append(line["sequence"])
            arrived.release()

    def await_lines(count: int) -> None:
        for _ in range(count):
            assert arrived.acquire(timeout=30)

    thread = threading.Thread(target=follow)
    thread.start()
    written = [json.dumps(line) + "\n" for line in lines()]
    path.write_text("".join(written[:2]) + written[2][:20])
    await_lines(2)
    with path.open("a") as log:
        log.write(written[2][20:])
    await_lines(1)
    # Cut, and written anew.
    path.write_text(written[0])
    await_lines(1)
    # Replaced.
    (tmp_path / "new").write_text(written[0] + written[1])
    (tmp_path / "new").replace(path)
    await_lines(2)
    stop.set()
    thread.join()
    assert got == [0, 1, 2, 0, 0, 1]
    with pytest.raises(ValueError, match="poll_interval_s"):
        audit.tail_session(tmp_path, poll_interval_s=float("nan"))


def test_the_last_lines_of_a_log_that_is_replaced_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stop = tmp_path / LOG, threading.Event()
    first, second, *_ = (json.dumps(line) + "\n" for line in lines())
    path.write_text(first)
    look = audit._log._is_replaced

    looks: list[bool] = []

    def write_and_replace(*found: Any) -> bool:
        if not looks:
            # Between the read that found nothing, and the look that finds another file.
            with path.open("a") as log:
                log.write(second)
            (tmp_path / "new").write_text(first)
            (tmp_path / "new").replace(path)
        looks.append(look(*found))
        if len(looks) > 9:
            stop.set()
        return looks[-1]

    monkeypatch.setattr(audit._log, "_is_replaced", write_and_replace)
    followed = audit.tail_session(tmp_path, poll_interval_s=0, stop_event=stop)
    assert [next(followed)["sequence"] for _ in range(3)] == [0, 1, 0]


@pytest.mark.parametrize("interval", [1e12, float("inf"), 10**400])
def test_an_interval_is_as_long_as_a_wait_can_be(tmp_path: Path, interval: float) -> None:
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout: "float | None" = None) -> bool:
            waits.append(timeout)
            self.set()
            return True

    assert list(audit.tail_session(tmp_path, poll_interval_s=interval, stop_event=Stop())) == []
    assert waits == [threading.TIMEOUT_MAX]


def test_a_line_without_an_end_is_an_error(tmp_path: Path) -> None:
    readers: list[Callable[[], Iterator[Any]]] = [
        lambda: audit.iter_session(tmp_path),
        lambda: audit.iter_ledger(tmp_path / LOG),
        lambda: audit.tail_session(tmp_path, poll_interval_s=0),
    ]
    with (tmp_path / LOG).open("wb") as log:
        log.truncate(64 << 20)
    for read in readers:
        with pytest.raises(json.JSONDecodeError, match="line 1: it is longer than") as found:
            next(read())
        assert isinstance(found.value, VerificationError)
        assert len(found.value.doc) <= 1000
    # The longest that there may be is none.
    longest = json.dumps({"x": ""}).encode()
    longest = longest.replace(b'""', b'"' + b"x" * ((1 << 24) - len(longest)) + b'"')
    (tmp_path / LOG).write_bytes(b'{"a": 1}\n' + longest + b"\n")
    for read in readers:
        found_lines = read()
        assert next(found_lines) == {"a": 1}
        assert len(next(found_lines)["x"]) > (1 << 24) - 20
    (tmp_path / LOG).write_bytes(b'{"a": 1}\n' + longest + b" \n")
    for read in readers:
        found_lines = read()
        assert next(found_lines) == {"a": 1}
        with pytest.raises(VerificationError, match="line 2: it is longer than"):
            next(found_lines)


def test_a_line_that_is_not_whole_is_an_error_of_both_kinds(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(json.dumps(lines()[0]) + '\n{"seq')
    for kind in (VerificationError, NonoError, json.JSONDecodeError):
        with pytest.raises(kind, match="line 2: malformed JSON") as found:
            list(audit.iter_session(tmp_path))
        again = pickle.loads(pickle.dumps(found.value))
        assert (type(again), str(again)) == (type(found.value), str(found.value))


def test_events_of_any_text_are_what_json_writes() -> None:
    chance = random.Random(3)
    for _ in range(500):
        points = [chance.choice((chance.randrange(0x250), chance.randrange(0x110000)))]
        points += [chance.randrange(0x3000) for _ in range(chance.randrange(9))]
        word = "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        for event in (
            audit.session_started(started=word, command=[word, ""]),
            audit.network(
                timestamp_unix_ms=chance.randrange(1 << 63),
                mode="connect",
                decision="allow",
                target=word,
                path=word,
            ),
        ):
            record = AlphaRecorder().record(event)
            assert record["event"] == event
            assert record["event_json"] == json.dumps(event, separators=(",", ":"))


# Models


def test_models_are_values() -> None:
    for line in lines():
        record = audit.AuditEventRecord.model_validate(line)
        for again in (
            copy.deepcopy(record),
            pickle.loads(pickle.dumps(record)),
            audit.AuditEventRecord.model_validate(record.model_dump()),
            audit.AuditEventRecord.model_validate_json(record.model_dump_json()),
            audit.AuditEventRecord.model_validate_json(json.dumps(record.to_wire()).encode()),
            audit.AuditEventRecord.model_validate(record),
        ):
            assert again == record
            assert repr(again) == repr(record)
        assert record.to_wire() == line
        assert AlphaRecorder().record(record.event)["event"] == line["event"]
        assert record.model_copy(update={"sequence": 9}) != record
    started = audit.SessionStartedEvent.model_validate(EVENTS[0])
    assert isinstance(started.redaction_policy, audit.ScrubPolicyDiffPayload)
    assert started.redaction_policy.added_flags == ["--token"]
    # One's list is not another's.
    audit.ScrubPolicyDiffPayload().added_flags.append("x")
    assert audit.ScrubPolicyDiffPayload().added_flags == []


def test_models_tell_their_fields_and_which_were_given() -> None:
    fields = audit.SessionStartedEvent.model_fields
    assert list(fields) == ["type", "started", "command", "redaction_policy"]
    assert [name for name, field in fields.items() if field.is_required()] == list(fields)[:3]
    assert (fields["command"].annotation, fields["redaction_policy"].default) == (list[str], None)

    given = {"type": "session_started", "started": "t", "command": ["x"]}
    policy = {"added_flags": ["--token"]}
    bare = audit.SessionStartedEvent.model_validate(given)
    full = audit.SessionStartedEvent.model_validate({**given, "redaction_policy": policy})
    assert bare.model_fields_set == set(given)
    assert bare.model_dump(exclude_unset=True) == given
    assert bare.model_dump()["redaction_policy"] is None
    for event in (
        full,
        copy.deepcopy(full),
        copy.copy(full),
        pickle.loads(pickle.dumps(full)),
        full.model_copy(),
        bare.model_copy(update={"redaction_policy": full.redaction_policy}),
        audit.SessionStartedEvent(**dict(full)),
        audit.SessionStartedEvent.model_validate_json(full.model_dump_json(exclude_unset=True)),
    ):
        assert event.model_dump(exclude_unset=True) == {**given, "redaction_policy": policy}
    bare.redaction_policy = None
    assert bare.model_dump(exclude_unset=True) == {**given, "redaction_policy": None}
    assert full.model_fields_set is not full.model_copy().model_fields_set


def test_what_is_changed_in_a_dump_does_not_change_the_model() -> None:
    request = {
        "request_id": "r",
        "path": "/p",
        "access": "Read",
        "child_pid": 1,
        "session_id": "s",
    }
    entry = {"timestamp": "t", "request": request, "backend": "b", "duration_ms": 1}
    decision = {"Denied": {"reason": "no"}}
    model = audit.AuditEntryPayload.model_validate({**entry, "decision": decision})
    model.model_dump()["decision"]["Denied"]["reason"] = "changed"
    assert model.decision == decision


def test_a_key_may_be_called_self() -> None:
    given = {"type": "session_ended", "ended": "t", "exit_code": 0}
    with pytest.raises(ValueError, match="unknown field `self`"):
        audit.SessionEndedEvent.model_validate({**given, "self": 1})


def test_a_class_of_somebodys_own_is_of_the_form_it_is_derived_from() -> None:
    class Mine(audit.SessionEndedEvent):
        """With a method."""

        def failed(self) -> bool:
            return self.exit_code != 0

    given = {"type": "session_ended", "ended": "t", "exit_code": 1}
    mine = Mine.model_validate(given)
    assert mine.failed()
    for again in (mine.model_copy(), Mine.model_validate_json(mine.model_dump_json())):
        assert (type(again), again.to_wire()) == (Mine, given)
    with pytest.raises(TypeError, match="SessionEndedEvent has no field 'more'"):
        type("Wider", (audit.SessionEndedEvent,), {"__annotations__": {"more": int}})


def test_a_wrong_field_is_named() -> None:
    good: dict[str, Any] = {"type": "session_ended", "ended": "t", "exit_code": 0}
    for change, said in (
        ({"exit_code": "0"}, "exit_code"),
        ({"exit_code": object()}, "exit_code"),
        ({"exit_code": float("nan")}, "exit_code"),
        ({"ended": None}, "ended"),
        ({"ended": b"t"}, "ended"),
        ({"other": 1}, "other"),
        ({"type": "session_started"}, "type"),
    ):
        with pytest.raises(ValueError, match=said):
            audit.SessionEndedEvent(**{**good, **change})
    wrongs: tuple[Any, ...] = (None, 3, [], "x")
    for wrong in wrongs:
        with pytest.raises(ValueError, match="mapping"):
            audit.SessionEndedEvent.model_validate(wrong)
        with pytest.raises(ValueError, match="SessionEndedEvent"):
            audit.SessionEndedEvent.model_validate_json(json.dumps(wrong))
    with pytest.raises(ValueError, match="mode"):
        audit.SessionEndedEvent(**good).model_dump(mode="other")  # type: ignore[arg-type]


# What it costs


def test_the_package_does_not_import_it() -> None:
    program = (
        "import sys, nono_py\n"
        "assert 'nono_py.audit' not in sys.modules\n"
        "assert not {'typing', 'json', 'uuid'} & set(sys.modules) - early\n"
        "nono_py.audit.verify_log\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    program = "import sys; early = set(sys.modules)\n" + program
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_session_of_this_package_is_metadata_too() -> None:
    metadata = SessionMetadata("sid", ["sh"], ["/tmp"])
    assert audit.compute_session_digest(metadata) == audit.compute_session_digest(
        json.loads(metadata.to_json())
    )
    with pytest.raises(TypeError, match="to_json"):
        audit.compute_session_digest(None)


@pytest.mark.parametrize("what", ["tail", "stats"])
def test_the_command_line_obeys_no_line_and_names_the_odd_one(tmp_path: Path, what: str) -> None:
    log = tmp_path / "log.ndjson"

    def run(event: "dict[str, Any]") -> "subprocess.CompletedProcess[str]":
        good = json.dumps({"event": {"type": "network", "event": request}})
        log.write_text(f"{good}\n{json.dumps({'event': event})}\n")
        command = [sys.executable, "-m", "nono_py", "audit", what, str(log)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    request = {
        "timestamp_unix_ms": 0,
        "target": "\x1b]0;owned\x07\u202e\ud800é",
        "decision": "allow",
        "outcome": "completed",
        "duration_ms": 1.0,
        "method": "GET",
        "path": "/",
        "status": 200,
        "reason": None,
    }
    done = run({"type": "network", "event": request})
    assert done.returncode == 0, done.stderr
    assert r"\x1b]0;owned\x07\u202e\ud800é" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())
    odd: list[Any] = ["x", None, {**request, "duration_ms": "\x1b"}]
    if what == "tail":
        odd += [{}, {**request, "timestamp_unix_ms": 1e300}]
    else:
        # The sum of two such has more digits than Python prints.
        odd += [{**request, "bytes_in": 10**4299}, {**request, "bytes_out": -1}]
        odd.append({**request, "duration_ms": 1e300})
    for event in odd:
        done = run({"type": "network", "event": event})
        assert (done.returncode, "line 2: it is no record" in done.stderr) == (2, True), event
        assert "\x1b" not in done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_line_reads_the_log_of_a_session(tmp_path: Path) -> None:
    put(tmp_path, lines())

    def run(what: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "nono_py", "audit", what, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "1 exchanges" in run("stats").stdout
    shown = run("tail").stdout.splitlines()
    assert len(shown) == len(EVENTS)
    assert "GET api.example/v1/modèles deny 407" in shown[3]
    assert run("verify").returncode == 0
    (tmp_path / "session.json").write_text(json.dumps(session("sid", kept(lines()))))
    done = run("verify")
    assert (done.returncode, "completeness" in done.stdout) == (0, True)
    put(tmp_path, lines()[:-1])
    done = run("verify")
    assert (done.returncode, "some are missing" in done.stderr) == (1, True)
