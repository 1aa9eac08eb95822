"""What programs written for PyPI's nono-py 0.16.0 find here: the same, or what is listed below.

`conformance/observe.py` asks a package what it has and does; `conformance/reference.json` is what
it was told there. Everything is equal, or stands in a table here with the reason why it is not. A
row that has become untrue fails too.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "conformance"

#: Outcomes that differ, and why ours is as it is.
DIFFERENCES = {
    "access.iterates": "it is a real enum.Enum",
    "access.value": "it is a real enum.Enum",
    "audit.attested_command": "what was signed names the command, and it is compared",
    "audit.attested_exit": "the digest of all that is kept of the session is signed with it",
    "audit.digest_type": "a VerificationError says which key is missing",
    "audit.log_algorithm": "a log of another algorithm is not this one",
    "audit.log_count": "a log that lacks events is not whole",
    "audit.log_no_object": "a VerificationError says in which line",
    "audit.network_port": "there is no such port",
    "audit.record_half_pair": "half a surrogate pair is no text, and other readers refuse it",
    "caps.bytes": "paths may be bytes, as everywhere in Python",
    "caps.covered_lexically": "the path is followed as the kernel would, and leads out",
    "caps.pathlike": "paths are os.PathLike everywhere",
    "caps.port_zero": "0 is any port of the kernel's choice, and cannot be granted",
    "caps.through_file": "a NotADirectoryError is an OSError that says which",
    "class.copy": "sets can be copied",
    "class.equality": "sets of the same grants are equal",
    "class.module": "pickle and documentation find it where it is",
    "class.pickle": "sets can be pickled, for multiprocessing",
    "class.weakref": "all classes can be referred to weakly",
    "event.external_unreachable": "a proxy further out that opens no tunnel is named as what is at "
    "fault, whatever is wrong with it",
    "event.route": "the host that is really asked, and the whole path as the client asked for it; "
    "`route_id` is the route",
    "exec.cwd_file": "what did not run has no exit code: it is an exception",
    "exec.cwd_missing": "as subprocess has it, with errno and filename",
    "exec.empty_word": "the argument is at fault, and a ValueError says so",
    "exec.environment_mapping": "a mapping is the natural form of an environment",
    "exec.nothing_granted": "what did not run has no exit code: it is an exception",
    "exec.nul": "the argument is at fault, and a ValueError says so",
    "exec.report_of_program": "a program's own words propose no grant: they may be a trick",
    "exec.timeout_infinite": "no time is too long for a limit; theirs panics",
    "handle.env": "variables for more clients",
    "limited.argv_of_paths": "all words of a command line are text",
    "limited.argv_of_text": "a text is no sequence of arguments",
    "limited.flags_of_ports": "no flag can say it, and nothing is left out",
    "limited.flags_of_proxy": "no flag can say it, and nothing is left out",
    "limited.memory_odd": "what is no size is refused here already, by a TypeError or ValueError",
    "overlap.dots": "a path that leads nobody can say where does not pass",
    "overlap.equal": "a grant of the path itself reaches it",
    "overlap.file": "a grant of the file itself reaches it",
    "overlap.group": "it does not matter who granted",
    "overlap.link": "links are followed",
    "policy.all_or_nothing": "on an error the set is as it was",
    "policy.group_twice": "which of the two was meant cannot be known",
    "policy.literal_variable": "a path that cannot be meant is refused when it is read",
    "policy.odd_platform": "a misspelled platform would silently switch a group off",
    "policy.resolve": "a path is denied once, however often its group is named",
    "proxy.hostname": "localhost is an address for certain",
    "query.escape_missing": "`..` beyond what is missing leads out, as it would for the kernel",
    "source.equality": "sources have values, not identities",
    "state.forged": "a text that a person has reviewed must not grant elsewhere",
    "state.ports": "ports are kept in the text",
    "state.unknown_field": "what is not understood is not passed over",
}

#: Parameters and members that differ.
SHAPES = {
    "AccessMode": "an enum.Enum is called with a value; theirs cannot be called",
    "InjectMode": "an enum.Enum is called with a value; theirs cannot be called",
}


@pytest.fixture(scope="module")
def reference() -> Any:
    return json.loads((HERE / "reference.json").read_text())


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = subprocess.run(
        [sys.executable, str(HERE / "observe.py")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path_factory.mktemp("observed"),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_public_name_is_there(reference: Any, ours: Any) -> None:
    assert set(reference["names"]) <= set(ours["names"])


def test_every_group_of_the_embedded_policy_is_there(reference: Any, ours: Any) -> None:
    assert set(reference["groups"]) <= set(ours["groups"])


def test_every_outcome_is_equal_or_listed(reference: Any, ours: Any) -> None:
    assert set(reference["outcomes"]) == set(ours["outcomes"])
    differing = {
        label: {"reference": said, "ours": ours["outcomes"][label]}
        for label, said in reference["outcomes"].items()
        if not _is_met(said, ours["outcomes"][label])
    }
    unlisted = {label: both for label, both in differing.items() if label not in DIFFERENCES}
    assert unlisted == {}
    assert sorted(set(DIFFERENCES) - set(differing)) == []


def test_every_parameter_and_member_is_there_or_listed(reference: Any, ours: Any) -> None:
    differing = dict(_differing_shapes(reference, ours))
    assert {name: said for name, said in differing.items() if name not in SHAPES} == {}
    assert sorted(set(SHAPES) - set(differing)) == []


def test_no_public_function_lacks_a_signature(ours: Any) -> None:
    unknown = [name for name, said in ours["signatures"].items() if said is None]
    # Their classes are made by this package alone, or are Python's own.
    assert [name for name in unknown if name in CALLED] == []


def _is_met(theirs: Any, here: Any) -> bool:
    """Say whether an outcome is the same; an exception may say more than theirs does."""
    if not (isinstance(theirs, dict) and isinstance(here, dict) and "raises" in theirs):
        return bool(theirs == here)
    silent: tuple[object, ...] = (None, "other", False)
    return theirs.keys() == here.keys() and all(
        here[name] == said or (name != "raises" and said in silent) for name, said in theirs.items()
    )


#: What users call, besides functions.
CALLED = {"CapabilitySet", "ProxyConfig", "RouteConfig", "ExternalProxyConfig", "QueryContext"}


def _differing_shapes(reference: Any, ours: Any) -> "list[tuple[str, str]]":
    found = []
    for name, said in reference["signatures"].items():
        if name in ours["signatures"]:
            fault = _parameters(said, ours["signatures"][name])
            found += [(name, fault)] if fault else []
    for kind, members in reference["members"].items():
        for name, said in members.items():
            if kind not in ours["members"]:
                continue
            here = ours["members"][kind].get(name)
            if here is None:
                found.append((f"{kind}.{name}", "is not there"))
            elif (said == "attribute") != (here == "attribute"):
                found.append((f"{kind}.{name}", "is called in one and not in the other"))
            elif said != "attribute" and (fault := _parameters(said["call"], here["call"])):
                found.append((f"{kind}.{name}", fault))
    return found


def _parameters(theirs: "list[list[str]] | None", here: "list[list[str]] | None") -> str | None:
    """Say what a call written for theirs would stumble over here."""
    if theirs is None or here is None:
        return None if theirs is None else "has no signature"
    for place, (name, default, kind) in enumerate(theirs):
        if place >= len(here) or here[place][0] != name or here[place][2] != kind:
            return f"parameter {place} is not `{name}`"
        # The other package writes a default that is no plain number or text as an ellipsis.
        if default not in ("Ellipsis", here[place][1]) and here[place][1] != "Ellipsis":
            return f"the default of `{name}` is {here[place][1]} and not {default}"
    required = [name for name, default, _ in here[len(theirs) :] if default == "required"]
    return f"needs `{required[0]}`" if required else None
