"""Where credentials come from in Python: callables, values, programs, and changes over time."""

import asyncio
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from client import get
from conftest import Authority
from nono_py import OAuth2Config, ProxyConfig, ProxyHandle, RouteConfig, VaultConfig, start_proxy
from origin import Origin

#: As 1Password's program does: by its arguments, its messages and its exit codes.
OP = """#!/bin/sh
[ "$1 $2" = "read --no-newline" ] || { echo "[ERROR] unknown arguments $*" >&2; exit 2; }
case "$3" in
op://Private/OpenAI/credential) printf %s "$STUB_KEY" ;;
op://Private/OpenAI/*) echo "[ERROR] 2026/11/21 12:00:00 could not read secret '$3': \\
item 'Private/OpenAI' does not have a field 'x': \\"x\\" isn't a field" >&2; exit 1 ;;
op://Private/*) echo "[ERROR] 2026/11/21 12:00:00 could not read secret '$3': \\
could not get item Private/gone: \\"gone\\" isn't an item in the vault." >&2; exit 1 ;;
op://Locked/*) echo "[ERROR] 2026/11/21 12:00:00 You are not currently signed in. \\
Please run \\`op signin --help\\` for instructions" >&2; exit 1 ;;
op://Hang/*) sleep 1000 & echo $$ > "$STUB_PID.new"; mv "$STUB_PID.new" "$STUB_PID"; wait ;;
*) echo "[ERROR] token $STUB_KEY was refused" >&2; exit 7 ;;
esac
"""
#: As Bitwarden's does.
BW = """#!/bin/sh
[ "$4 $5" = "--nointeraction --raw" ] || { echo "unknown option" >&2; exit 2; }
[ -n "$BW_SESSION" ] || { echo "Vault is locked." >&2; exit 1; }
case "$1 $2 $3" in
"get password openai") printf %s "$STUB_KEY" ;;
"get username openai") printf someone ;;
"get item openai") printf '{"object":"item","login":{"password":"p"},"fields":[%s,%s]}' \\
    '{"name":"other","value":"o"}' "{\\"name\\":\\"api key\\",\\"value\\":\\"$STUB_KEY\\"}" ;;
"get password twice") echo "More than one result was found. Try getting a specific object by \\
\\`id\\` instead. The following objects were found:" >&2; exit 1 ;;
*) echo "Not found." >&2; exit 1 ;;
esac
"""

Serve = Callable[..., ProxyHandle]


class UnreachableError(Exception):
    """A fault of a callable's own."""


def unreachable() -> str:
    """A callable that fails."""
    raise UnreachableError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> Path:
    """`op` and `bw` on the search path, which give the key; and where they leave their number."""
    for name, text in (("op", OP), ("bw", BW)):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_KEY", key)
    monkeypatch.setenv("STUB_PID", str(tmp_path / "pid"))
    monkeypatch.setenv("BW_SESSION", "open")
    return tmp_path / "pid"


def route(origin: Origin, authority: Authority, **options: Any) -> RouteConfig:
    return RouteConfig("/api", origin.url, tls_ca=authority.file, **options)


def keys(origin: Origin) -> list[str]:
    """Return the keys that have arrived."""
    seen = [request.values("Authorization")[0] for request in origin.requests]
    return [value.removeprefix("Bearer ") for value in seen]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("op://Private/OpenAI/credential", None),
        ("bw://openai", None),
        ("bw://openai/username", "someone"),
        ("bw://openai/api key", None),
    ],
)
@pytest.mark.usefixtures("programs")
def test_a_password_manager_gives_the_key(
    name: str, expected: str | None, origin: Origin, authority: Authority, key: str
) -> None:
    config = ProxyConfig(routes=[route(origin, authority, credential_key=name)])
    with start_proxy(config) as proxy:
        assert proxy.diagnostics() == []
        assert get(proxy, "/api/x").status == 200
    assert keys(origin) == [expected or key]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("op://Private/OpenAI/x", "not_found", "no such field"),
        ("op://Private/gone/x", "not_found", "no such field"),
        ("op://Locked/x/y", "unavailable", "eval $(op signin)"),
        ("op://Broken/x/y", "unavailable", "said: [ERROR] token … was refused"),
        ("bw://gone", "not_found", "no such item"),
        ("bw://openai/no such", "not_found", "no field `no such`"),
        ("bw://twice", "unavailable", "more than one item"),
    ],
)
@pytest.mark.usefixtures("programs")
def test_what_a_password_manager_refuses_is_said(
    name: str, code: str, said: str, origin: Origin, authority: Authority, key: str
) -> None:
    config = ProxyConfig(routes=[route(origin, authority, credential_key=name)])
    with start_proxy(config) as proxy:
        (found,) = proxy.diagnostics()
        assert found["code"] == f"credential_{code}"
        assert found["credential_ref"].startswith(name)
        assert said in f"{found['message']} {found.get('hint')}"
        assert key not in proxy.diagnostics_json()
        reply = get(proxy, "/api/x")
        assert reply.status == 503
        assert name in reply.text
        assert key not in reply.text


@pytest.mark.usefixtures("programs")
def test_a_locked_vault_is_picked_up_when_it_is_open(
    origin: Origin, authority: Authority, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BW_SESSION")
    with start_proxy(
        ProxyConfig(routes=[route(origin, authority, credential_key="bw://openai")])
    ) as proxy:
        (found,) = proxy.diagnostics()
        assert "bw unlock" in found["message"]
        monkeypatch.setenv("BW_SESSION", "open")
        assert proxy.reload_credentials() == []
        assert get(proxy, "/api/x").status == 200
    assert keys(origin) == [key]


def test_a_password_manager_that_hangs_is_killed(
    programs: Path, origin: Origin, authority: Authority
) -> None:
    config = ProxyConfig(
        routes=[route(origin, authority, credential_key="op://Hang/x/y")],
        credential_timeout_secs=0.5,
    )
    with start_proxy(config) as proxy:
        (found,) = proxy.diagnostics()
        assert "within 0.5 s" in found["message"]
        process = Path("/proc") / programs.read_text().strip()
        deadline = time.monotonic() + 20
        while process.exists():
            assert time.monotonic() < deadline, "it lives"
            os.sched_yield()


def test_a_program_that_is_not_installed_is_named(
    origin: Origin, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with start_proxy(
        ProxyConfig(routes=[route(origin, authority, credential_key="op://v/i/f")])
    ) as proxy:
        (found,) = proxy.diagnostics()
        assert "`op` cannot be run" in found["message"]


def test_a_value(origin: Origin, authority: Authority, key: str) -> None:
    for value in (key, key.encode()):
        made = route(origin, authority, credential=value)
        with start_proxy(ProxyConfig(routes=[made])) as proxy:
            assert get(proxy, "/api/x").status == 200
            assert key not in repr(made) + repr(proxy)
    assert keys(origin) == [key, key]


def test_a_function_is_asked_again_before_its_value_expires(
    origin: Origin, authority: Authority
) -> None:
    asked = threading.Semaphore(0)
    values = iter(["first-value", "second-value"])

    def issue() -> tuple[str, timedelta | None]:
        value = next(values)
        asked.release()
        return value, timedelta(seconds=1) if value == "first-value" else None

    with start_proxy(ProxyConfig(routes=[route(origin, authority, credential=issue)])) as proxy:
        assert get(proxy, "/api/x").status == 200
        assert asked.acquire(timeout=20)
        assert asked.acquire(timeout=20)
        while keys(origin)[-1] != "second-value":
            assert get(proxy, "/api/x").status == 200
    assert keys(origin)[0] == "first-value"


@pytest.mark.parametrize(
    "expires",
    [
        lambda: None,
        lambda: timedelta(minutes=5),
        lambda: 300,
        lambda: 0.5e3,
        lambda: datetime.now(timezone.utc) + timedelta(hours=1),
    ],
)
def test_a_coroutine_function(
    expires: Callable[[], object], origin: Origin, authority: Authority
) -> None:
    async def issue() -> tuple[bytes, object]:
        await asyncio.sleep(0)
        return b"a-value-from-afar", expires()

    with start_proxy(ProxyConfig(routes=[route(origin, authority, credential=issue)])) as proxy:
        assert proxy.diagnostics() == []
        assert get(proxy, "/api/x").status == 200
    assert keys(origin) == ["a-value-from-afar"]


@pytest.mark.parametrize(
    ("issue", "said"),
    [
        (lambda: 1 / 0, "the callable raised ZeroDivisionError"),
        (unreachable, f"the callable raised {__name__}.UnreachableError"),
        (lambda: None, "the callable gave NoneType where str or bytes is due"),
        (lambda: 7, "the callable gave int where"),
        (lambda: (7, None), "the callable gave int where"),
        (lambda: ("x", None, None), "the callable gave a tuple of 3"),
        (lambda: "\ud800", "the callable gave a str with a lone surrogate"),
        (lambda: ("x", "soon"), "that is str, and not a datetime"),
        (lambda: ("x", float("nan")), "is not a time that will come"),
        (lambda: ("x", float("inf")), "is not a time that will come"),
        (lambda: ("x", 10**400), "is not a time that will come"),
        (lambda: ("x", datetime(2999, 1, 1)), "without a time zone"),
        (lambda: ("x", timedelta(seconds=-1)), "expired already"),
        (lambda: "", "empty"),
        (lambda: "a\nb", "line ending"),
    ],
)
def test_what_a_callable_gets_wrong_is_said(
    issue: Callable[[], object], said: str, origin: Origin, authority: Authority
) -> None:
    with start_proxy(ProxyConfig(routes=[route(origin, authority, credential=issue)])) as proxy:
        (found,) = proxy.diagnostics()
        assert said in f"{found['message']} {found.get('hint')}"
        assert get(proxy, "/api/x").status == 503


def test_the_text_of_an_exception_is_not_shown(
    origin: Origin, authority: Authority, key: str
) -> None:
    class Late:
        def __float__(self) -> float:
            raise ValueError(f"{key} is no time")

    def issue() -> str:
        raise ValueError(f"cannot parse {key}")

    for source in (issue, lambda: (key, Late()), lambda: (key,), lambda: ([key], None)):
        made = route(origin, authority, credential=source)
        with start_proxy(ProxyConfig(routes=[made])) as proxy:
            assert "the callable" in proxy.diagnostics_json()
            assert key not in proxy.diagnostics_json() + get(proxy, "/api/x").text


def test_a_preset_takes_a_callable(origin: Origin, authority: Authority) -> None:
    made = RouteConfig.preset(
        "anthropic",
        credential_key=None,
        credential=lambda: "issued-for-claude",
        upstream=origin.url,
        tls_ca=authority.file,
    )
    with start_proxy(ProxyConfig(routes=[made])) as proxy:
        assert "ANTHROPIC_API_KEY" in proxy.credential_env_vars()
        assert get(proxy, "/anthropic/v1/models").status == 200
    assert origin.requests[0].values("x-api-key") == ["issued-for-claude"]


def test_one_source_a_route(origin: Origin, authority: Authority) -> None:
    with pytest.raises(ValueError, match="one of them"):
        route(origin, authority, credential="x", credential_key="env://X")
    with pytest.raises(TypeError, match="str, bytes or a callable"):
        route(origin, authority, credential=7)
    with pytest.raises(ValueError, match="empty"):
        route(origin, authority, credential="")


def test_the_options_of_sources_are_kept_and_judged(origin: Origin, authority: Authority) -> None:
    made = route(
        origin,
        authority,
        credential_key="cmd://token",
        credential_command=["echo", "x"],
        credential_ttl_secs=60,
        extra_headers=[("x-version", "1")],
    )
    assert (made.credential_command, made.credential_ttl_secs) == (["echo", "x"], 60.0)
    assert made.extra_headers == [("x-version", "1")]
    with pytest.raises(ValueError, match="credential_command"):
        route(origin, authority, credential_key="cmd://token")
    vault = VaultConfig("http://vault.example", "env://T")
    with pytest.raises(ValueError, match="use https"):
        route(origin, authority, credential_key="vault://kv/x#y", vault=vault)
    with pytest.raises(ValueError, match="refresh_token"):
        route(origin, authority, oauth2=OAuth2Config("https://issuer.example", "id"))
    issuer = OAuth2Config("https://issuer.example", "id", "env://S", scope="all")
    assert (issuer.client_secret, issuer.scope) == ("env://S", "all")
    assert "env://S" not in repr(issuer)
    route(origin, authority, oauth2=issuer)


def test_what_a_command_prints(origin: Origin, authority: Authority) -> None:
    made = route(
        origin,
        authority,
        credential_key="cmd://token",
        credential_command=["sh", "-c", 'printf "%s" "$0"', "printed-token"],
    )
    with start_proxy(ProxyConfig(routes=[made])) as proxy:
        assert get(proxy, "/api/x").status == 200
    assert keys(origin) == ["printed-token"]


def test_a_program_whose_end_is_not_told_gives_no_key(origin: Origin, authority: Authority) -> None:
    made = route(
        origin,
        authority,
        credential_key="cmd://token",
        credential_command=["sh", "-c", "echo it cannot be done; exit 1"],
    )
    handled = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with start_proxy(ProxyConfig(routes=[made])) as proxy:
            (found,) = proxy.diagnostics()
    finally:
        signal.signal(signal.SIGCHLD, handled)
    assert found["code"] == "credential_unavailable"
    assert "ignores SIGCHLD" in str(found["message"])


def test_a_variable_is_read_again_when_the_upstream_refuses_its_key(
    origin: Origin, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTATED_KEY", "the-old-key")
    made = route(origin, authority, credential_key="env://ROTATED_KEY")
    with start_proxy(ProxyConfig(routes=[made])) as proxy:
        assert get(proxy, "/api/x").status == 200
        monkeypatch.setenv("ROTATED_KEY", "the-new-key")
        assert get(proxy, "/api/x").status == 200
        origin.valid = {"the-new-key"}
        assert get(proxy, "/api/x").status == 200
    assert keys(origin) == ["the-old-key", "the-old-key", "the-old-key", "the-new-key"]


def test_the_environment_can_change_while_it_is_read(
    origin: Origin, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADY_KEY", "the-steady-key")
    made = [
        RouteConfig("/v", origin.url, "env://STEADY_KEY", tls_ca=authority.file),
        RouteConfig("/c", origin.url, "cmd://key", credential_command=["true"]),
    ]
    before = set(os.environ)
    is_over = threading.Event()

    def change() -> None:
        number = 0
        while not is_over.is_set():
            os.environ[f"CHANGING_{number % 5000}"] = str(number)
            number += 1

    changing = threading.Thread(target=change)
    with start_proxy(ProxyConfig(routes=made)) as proxy:
        changing.start()
        try:
            for _ in range(50):
                (found,) = proxy.reload_credentials()
                assert "printed nothing" in str(found["hint"])
        finally:
            is_over.set()
            changing.join()
            for name in set(os.environ) - before:
                del os.environ[name]
