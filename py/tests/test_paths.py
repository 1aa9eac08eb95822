"""Paths, in each form that Python has for them, wherever one is taken."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import nono_py
import pytest
from nono_py import AccessMode, CapabilitySet, ProxyConfig, QueryContext, SandboxState, audit

#: A path for Python.
_AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class _Entry:
    """What `os.fspath` makes bytes of, as it does of an entry of `os.scandir(b"...")`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


FORMS: list[Callable[[str], _AnyPath]] = [str, os.fsencode, Path, _Entry]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A directory whose name is no UTF-8, with a file in it."""
    directory = tmp_path / os.fsdecode(b"odd-\xff")
    directory.mkdir()
    (directory / "file").write_text("x")
    return directory


@pytest.mark.parametrize("form", FORMS)
def test_a_path_is_a_path_for_the_sandbox(form: Callable[[str], _AnyPath], odd: Path) -> None:
    directory, file = form(str(odd)), form(str(odd / "file"))
    caps = CapabilitySet()
    caps.allow_path(directory, AccessMode.READ)
    caps.allow_file(file, AccessMode.WRITE, execute=False)
    assert [grant.resolved for grant in caps.fs_capabilities()] == [str(odd), str(odd / "file")]
    assert caps.path_covered(file)
    query = QueryContext(caps)
    assert query.query_path(file, AccessMode.READ_WRITE)["status"] == "allowed"
    assert query.suggest_path(file, AccessMode.READ) is None
    caps.block_network()
    caps.allow_unix_socket(directory)
    assert QueryContext(caps).query_unix_socket(file)["status"] == "allowed"
    with pytest.raises(nono_py.SandboxError):
        nono_py.validate_deny_overlaps([file], caps)
    caps.deny_path(file)
    assert QueryContext(caps).query_path(file, AccessMode.READ)["status"] == "denied"
    command = [form("/bin/echo"), form("ran")]
    caps = CapabilitySet()
    caps.allow_system()
    assert nono_py.sandboxed_exec(caps, command, cwd=form("/usr")).stdout == b"ran\n"


def test_a_set_that_text_has_no_place_for_says_which_path_it_is(odd: Path) -> None:
    for grant in ("allow_path", "deny_path", "allow_unix_socket"):
        caps = CapabilitySet()
        mode = [AccessMode.READ] if grant == "allow_path" else []
        getattr(caps, grant)(odd, *mode)
        for attempt in (pickle.dumps, lambda given: SandboxState.from_caps(given).to_json()):
            with pytest.raises(ValueError, match=r"odd-\\udcff\" is no UTF-8"):
                attempt(caps)


@pytest.mark.parametrize("form", FORMS)
def test_a_path_is_a_path_for_policies_and_records(
    form: Callable[[str], _AnyPath], odd: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"groups": {"a": {"description": "Of mine."}}}')
    said = nono_py.explain(form(str(policy)), ["a"], path=form(str(odd)))
    assert (said.allowed, said.question) == (False, f"read {odd}")
    (odd / audit.AUDIT_EVENTS_FILENAME).write_text('{"a": 1}\n')
    assert list(audit.iter_session(form(str(odd)))) == [{"a": 1}]
    assert len(list(audit.iter_ledger(form(str(odd / audit.AUDIT_EVENTS_FILENAME))))) == 1
    with nono_py.rollback_on_error([form(str(odd))], session_dir=form(str(tmp_path / "session"))):
        pass


@pytest.mark.parametrize("form", FORMS)
def test_a_path_is_a_path_for_a_proxy(form: Callable[[str], _AnyPath], odd: Path) -> None:
    config = ProxyConfig(intercept_ca_dir=form(str(odd)), audit_file=form(str(odd / "records")))
    assert (config.intercept_ca_dir, config.audit_file) == (odd, odd / "records")
    file = odd / "file"
    # It is read.
    no_certificate = pytest.raises(
        nono_py.ConfigurationError, match=r"/file\": it holds no certificate"
    )
    with no_certificate:
        nono_py.RouteConfig("/a", "https://a.test", tls_ca=form(str(file)))
    with no_certificate:
        nono_py.ExternalProxyConfig("https://localhost:1", tls_ca=form(str(file)))


@pytest.mark.parametrize("path", [7, None, ["/tmp"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    caps = CapabilitySet()
    with pytest.raises(TypeError, match=r"expected str, bytes or os.PathLike object"):
        caps.allow_path(path, AccessMode.READ)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        nono_py.validate_deny_overlaps("/tmp", caps)
