"""What `observe.py` evaluates of the module `audit`; `lines` are those of a log of three events."""

import json
from pathlib import Path
from typing import Any

AUDIT = {
    "audit.constants": "[repr(getattr(audit, n)) for n in sorted(audit.__all__) if n.isupper() and "
    "n != 'EVENT_TYPES'] + sorted(audit.EVENT_TYPES)",
    "audit.started": "audit.session_started(started='t', command=('a', 'é'))",
    "audit.started_policy": "[audit.session_started(started='t', command=[], redaction_policy=p) "
    "for p in ({}, {'added_flags': ['x']}, audit.ScrubPolicyDiffPayload(added_headers=['h']))]",
    "audit.started_number": "audit.session_started(started=1, command=[])",
    "audit.ended": "audit.session_ended(ended='t', exit_code=-9)",
    "audit.ended_bool": "audit.session_ended(ended='t', exit_code=True)",
    "audit.ended_float": "audit.session_ended(ended='t', exit_code=1.0)",
    "audit.ended_positional": "audit.session_ended('t', 0)",
    "audit.decision": "[decided(decision=d) for d in (audit.approval_granted(), "
    "audit.approval_timeout(), audit.approval_denied('no'))]",
    "audit.decision_unknown": "decided(decision='Maybe')",
    "audit.decision_extra": "decided(decision={'Denied': {'reason': 'x', 'y': 1}})",
    "audit.decision_access": "decided(access='rw')",
    "audit.request_id": "len(audit.url_open(url='u', child_pid=1, session_id='s', success=True)"
    "['request']['request_id'])",
    "audit.url": "audit.url_open(url='u', child_pid=1, session_id='s', success=False, error='e', "
    "request_id='r')",
    "audit.network": "asked()",
    "audit.network_all": "asked(route_id='r', auth_mechanism='phantom_header', "
    "auth_outcome='succeeded', managed_credential_active=True, injection_mode='oauth2', "
    "denial_category='host_denied', port=1, method='GET', path='/', status=200, reason='r')",
    "audit.network_word": "asked(auth_outcome='maybe')",
    "audit.network_port": "asked(port=99999)",
    "audit.record": "audit.AlphaRecorder().record(asked(reason='é\\x7f\U0001f980'))",
    "audit.record_order": "audit.AlphaRecorder().record({'exit_code': 0, 'ended': 't', "
    "'type': 'session_ended'})['event_json']",
    "audit.record_model": "audit.AlphaRecorder().record(ended)['event_json']",
    "audit.record_unknown": "audit.AlphaRecorder().record({'type': 'x'})",
    "audit.record_extra": "audit.AlphaRecorder().record({**dict(ended), 'x': 1})",
    "audit.record_none": "audit.AlphaRecorder().record(None)",
    "audit.record_half_pair": "audit.AlphaRecorder().record(audit.session_started(started='t', "
    "command=['\\udcff']))['event_json']",
    "audit.recorder": "[r := audit.AlphaRecorder(), r.sequence, r.chain_head, r.record(ended), "
    "r.sequence, r.chain_head][1:]",
    "audit.model": "[repr(ended), ended.exit_code, ended.model_dump(), ended.model_dump_json(), "
    "ended == audit.SessionEndedEvent(**dict(ended)), ended.model_copy(update={'exit_code': 1})]",
    "audit.model_hash": "hash(ended)",
    "audit.model_missing": "audit.SessionEndedEvent(ended='t', exit_code=0)",
    "audit.model_field": "setattr(ended, 'other', 1)",
    "audit.model_nested": "[m := audit.NetworkEvent.model_validate(asked()), repr(m.event.port), "
    "m.model_dump(), m.model_dump(exclude_none=True), m.to_wire(), m.event.to_wire()][1:]",
    "audit.model_json": 'repr(audit.UrlOpenRequestPayload.model_validate_json(\'{"request_id": '
    '"r", "url": "u", "child_pid": 1, "session_id": "s"}\'))',
    "audit.model_wrong": "audit.UrlOpenRequestPayload.model_validate({'request_id': 1})",
    "audit.model_line": "[audit.AuditEventRecord.model_validate(line).to_wire() == line "
    "for line in lines]",
    "audit.proof": "[audit.build_inclusion_proof(leaves, at) for at in range(5)]",
    "audit.proof_empty": "audit.build_inclusion_proof([], 0)",
    "audit.proof_range": "audit.build_inclusion_proof(leaves, -1)",
    "audit.proof_leaf": "audit.build_inclusion_proof(['zz'], 0)",
    "audit.proof_verified": "[audit.verify_inclusion_proof({**proof, **change}) for change in ({}, "
    "{'leaf_index': 0}, {'leaf_index': 9}, {'leaf_count': 99}, {'leaf_hash': '0'}, "
    "{'siblings': None}, {'siblings': [{'direction': 'up'}]}, {'merkle_root': '00' * 32})] + "
    "[audit.verify_inclusion_proof({})]",
    "audit.proof_expected": "[audit.verify_inclusion_proof(proof, expected_root=root) for root in "
    "(proof['merkle_root'], bytes.fromhex(proof['merkle_root']), '00' * 32, 'zz')]",
    "audit.digest": "audit.compute_session_digest(session)",
    "audit.digest_missing": "audit.compute_session_digest({})",
    "audit.digest_no_metadata": "audit.compute_session_digest(None)",
    "audit.digest_type": "audit.compute_session_digest({**session, 'network_events': [{}]})",
    "audit.ledger_record": "audit.build_ledger_record(session, sequence=1, "
    "previous_chain='ab' * 32)",
    "audit.ledger_names": "[raised(lambda: audit.validate_ledger_session_id(n)) for n in "
    "('a', 'a' * 64, 'a' * 65, '', 'a b', 'é', 'a\\n')]",
    "audit.ledger_missing": "known(audit.verify_session_in_ledger(tmp + '/none', session))",
    "audit.ledger": "[put('x', [r := audit.build_ledger_record(session, sequence=0, "
    "previous_chain=None)]), *(known(audit.verify_session_in_ledger(tmp + '/x', {**session, **c})) "
    "for c in ({}, {'exit_code': 1}, {'session_id': 'other'}))][1:]",
    "audit.ledger_changed": "[put('x', [{**audit.build_ledger_record(session, sequence=0, "
    "previous_chain=None), 'completed_at': 'x'}]), audit.verify_session_in_ledger(tmp + '/x', "
    "session)]",
    "audit.log": "verified(lines)",
    "audit.log_stored": "verified(lines, stored=summary)",
    "audit.log_missing": "audit.verify_log(tmp)",
    "audit.log_empty": "verified([])",
    "audit.log_cut": "verified(lines[:2])",
    "audit.log_cut_stored": "verified(lines[:2], stored=summary)",
    "audit.log_gap": "verified([lines[0], lines[2]])",
    "audit.log_reordered": "verified([{**lines[0], "
    "'event': dict(reversed(lines[0]['event'].items()))}])",
    "audit.log_changed": "verified([{**lines[0], 'event': lines[1]['event']}])",
    "audit.log_no_text": "verified([{**lines[0], 'event_json': None}])",
    "audit.log_no_text_stored": "verified([{**lines[0], 'event_json': None}], stored=summary)",
    "audit.log_count": "verified(lines, stored={**summary, 'event_count': 4})",
    "audit.log_algorithm": "verified(lines, stored={**summary, 'hash_algorithm': 'md5'})",
    "audit.log_head": "verified(lines, stored={**summary, 'chain_head': '00' * 32})",
    "audit.log_no_object": "verified([3])",
    "audit.log_no_record": "verified([{}])",
    "audit.session": "[put('audit-events.ndjson', lines), "
    "[line['sequence'] for line in audit.iter_session(tmp)]][1]",
    "audit.session_missing": "list(audit.iter_session(tmp))",
    "audit.session_cut": "[put('audit-events.ndjson', lines, cut=5), "
    "list(audit.iter_session(tmp))]",
    "audit.attested": "attested()",
    "audit.attested_none": "attested(audit_attestation=None)",
    "audit.attested_session": "attested(session_id='other')",
    "audit.attested_root": "attested(audit_integrity={**summary, 'merkle_root': '00' * 32})",
    "audit.attested_command": "attested(command=['other'])",
    "audit.attested_exit": "attested(exit_code=99)['signature_verified']",
    "audit.sign_no_integrity": "audit.sign_audit_attestation_bundle({**session, "
    "'audit_integrity': None}, key)",
    "audit.sign_key_id": "audit.sign_audit_attestation_bundle(session, key, key_id='zz')",
    "audit.sign_no_key": "audit.sign_audit_attestation_bundle(session, b'zz')",
    "audit.sign_password": "audit.sign_audit_attestation_bundle(session, key, password=b'pw')",
    "audit.pae": "audit.dsse_pae('é', b'abc').hex()",
}


def audited(audit: Any, tmp: str) -> "dict[str, Any]":
    """Return the names that expressions about the module know."""
    vectors = Path(__file__).parents[1] / "vectors" / "audit"
    recorder = audit.AlphaRecorder()
    lines = [
        recorder.record(event)
        for event in (
            audit.session_started(started="t", command=["é"]),
            audit.network(timestamp_unix_ms=1, mode="connect", decision="allow", target="h"),
            audit.session_ended(ended="t", exit_code=0),
        )
    ]
    session = json.loads((vectors / "session.json").read_text())
    key = (vectors / "key.pem").read_bytes()
    leaves = [bytes([at]) * 32 for at in range(5)]
    root = audit.build_inclusion_proof([line["leaf_hash"] for line in lines], 0)["merkle_root"]
    summary = {
        "hash_algorithm": "sha256",
        "event_count": 3,
        "chain_head": lines[2]["chain_hash"],
        "merkle_root": root,
    }

    def put(name: str, values: "list[Any]", cut: int = 0) -> None:
        text = "".join(json.dumps(value) + "\n" for value in values)
        (Path(tmp) / name).write_text(text[: len(text) - cut])

    def known(result: "dict[str, Any]") -> "dict[str, Any]":
        # What is more than theirs has.
        more = (
            *("complete", "proved", "not_proved"),
            *("session_digest_matches", "later_entry_differs"),
        )
        both = ("session_digest_matches",) if "session_found" in result else ()
        return {key: item for key, item in result.items() if key not in more or key in both}

    def verified(values: "list[Any]", **options: Any) -> object:
        put("audit-events.ndjson", values)
        return known(audit.verify_log(tmp, **options))

    def decided(**changes: Any) -> object:
        given = {
            **{"timestamp": "t", "path": "/p", "access": "Read", "child_pid": 1},
            **{"session_id": "s", "decision": "Granted", "backend": "b", "duration_ms": 4},
        }
        return audit.capability_decision(**{**given, "request_id": "q", **changes})

    def asked(**changes: Any) -> object:
        given = {"timestamp_unix_ms": 1, "mode": "connect", "decision": "allow", "target": "h"}
        return audit.network(**{**given, **changes})

    def attested(**changes: Any) -> object:
        bundle, kept = audit.sign_audit_attestation_bundle(session, key)
        signed = {**session, "audit_attestation": kept, **changes}
        result = known(audit.verify_audit_attestation_bundle(bundle, signed))
        return {**result, "verification_error": result["verification_error"] is not None}

    return {
        **{"audit": audit, "lines": lines, "session": session, "key": key, "leaves": leaves},
        **{"summary": summary, "put": put, "known": known, "verified": verified},
        **{"decided": decided, "asked": asked, "attested": attested},
        "proof": audit.build_inclusion_proof(leaves, 1),
        "ended": audit.SessionEndedEvent(type="session_ended", ended="t", exit_code=0),
    }
