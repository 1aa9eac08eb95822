"""The supervisor: it alone has the key, and it watches."""

import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nono_py import (
    AccessMode,
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    RouteConfig,
    _planted,
    start_proxy,
    support_info,
)
from nono_py._demo import agent
from nono_py._demo.judge import EXPECTED, judge
from nono_py._demo.report import Account, table
from nono_py._demo.stage import Stage, memory_of
from nono_py._demo.upstream import Upstream, serving

#: The variable of the supervisor that holds the key.
_KEY = "NONO_DEMO_UPSTREAM_KEY"


def supervise() -> int:
    """Run everything and return 0 if every expectation was met."""
    info = support_info()
    if not info.is_supported:
        print(f"This machine cannot sandbox: {info.details}")
        return 1
    key = os.environ.get(_KEY)
    if key is None:
        _start_again_with_key()
    account = Account()
    with tempfile.TemporaryDirectory(prefix="nono-demo-") as name:
        _perform(account, str(key), Path(name).resolve())
    kept = account.checks - account.failures
    print(f"\n{kept} of {account.checks} expectations met")
    return 1 if account.failures else 0


def _start_again_with_key() -> None:
    """Replace this process by one that was *started* with the key.

    A variable set later would be in the memory of this process only; one that was there at the
    start is in `/proc/PID/environ` too, where the agent is going to look.
    """
    environment = {**os.environ, _KEY: f"sk-demo-{secrets.token_hex(16)}"}
    sys.stdout.flush()
    command = [*_planted.COMMAND, "demo"]
    os.execve(sys.executable, command, environment)  # noqa: S606


def _perform(account: Account, key: str, directory: Path) -> None:
    outside, stage = directory / "outside", Stage(_made(directory / "agent"))
    ca_file = _made(outside) / "ca.pem"
    (outside / "key.txt").write_text(key)
    account.heading("The supervisor")
    with serving(key, ca_file) as upstream:
        account.note(f"upstream   https://localhost:{upstream.port}/v1, with its own authority")
        with start_proxy(_config(upstream, ca_file)) as proxy:
            account.note(f"proxy      {proxy.address}, one route: /openai")
            is_real = key.encode() in Path("/proc/self/environ").read_bytes()
            account.check(is_real, "the key is in the supervisor's environment")
            account.check(proxy.diagnostics() == [], "the proxy has loaded the key")
            environment = _run_agent(account, key, stage, proxy, upstream, outside / "key.txt")
    # Only what has ended is on record, and now everything has.
    events = proxy.drain_audit_events()
    _check_upstream(account, upstream)
    _check_leaks(account, key, stage, environment, events)
    _check_audit(account, events)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _config(upstream: Upstream, ca_file: Path) -> ProxyConfig:
    route = RouteConfig.preset(
        "openai",
        credential_key=f"env://{_KEY}",
        upstream=f"https://localhost:{upstream.port}/v1",
        tls_ca=ca_file,
    )
    return ProxyConfig(routes=[route])


def _run_agent(
    account: Account,
    key: str,
    stage: Stage,
    proxy: ProxyHandle,
    upstream: Upstream,
    outside: Path,
) -> list[tuple[str, str]]:
    account.heading("The agent, in its sandbox")
    caps = CapabilitySet()
    caps.allow_interpreter()
    caps.allow_path(stage.directory, AccessMode.READ_WRITE)
    caps.proxy_only(proxy)
    extra = {
        "DEMO_OUTSIDE": str(outside),
        "DEMO_STAGE": str(stage.directory),
        "DEMO_UPSTREAM": str(upstream.port),
        "HOME": str(stage.directory),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment = proxy.sandbox_env(extra)
    running = stage.run(caps, [sys.executable, agent.__file__], environment)
    missing = set(EXPECTED)
    for report in stage.reports():
        if report["attempt"] == "inspect":
            _check_memory(account, key, int(str(report["pid"])))
            stage.release()
        else:
            missing.discard(str(report["attempt"]))
            account.check(*judge(report))
    result = running.result()
    stage.transcript += [result.stdout.decode(), result.stderr.decode()]
    is_done = result.exit_code == 0 and not missing
    account.check(is_done, "the agent has tried everything", f"exit code {result.exit_code}")
    if not is_done:
        account.note(f"not tried: {sorted(missing)}\n{result.stderr.decode()}")
    return environment


def _check_memory(account: Account, key: str, pid: int) -> None:
    text = "the key is not in the agent's memory, seen from outside"
    try:
        regions = list(memory_of(pid))
    except OSError as error:
        account.note(f"{text}: not checked, the system does not let us look ({error})")
        return
    size = sum(map(len, regions)) >> 20
    account.check(not _contains(regions, key), text, f"{size} MiB searched")


def _check_upstream(account: Account, upstream: Upstream) -> None:
    account.heading("The supervisor's own checks")
    verdicts = upstream.verdicts
    text = "every request reached the upstream with the real key, and no other did"
    account.check(verdicts == [True, True], text, f"{len(verdicts)} requests")


def _check_leaks(
    account: Account,
    key: str,
    stage: Stage,
    environment: Iterable[tuple[str, str]],
    events: object,
) -> None:
    places: dict[str, Iterable[bytes]] = {
        "what the agent printed": (line.encode() for line in stage.transcript),
        "the environment given to the agent": (repr(pair).encode() for pair in environment),
        "the audit events": [repr(events).encode()],
        "the files in the agent's directory": stage.files(),
    }
    for place, contents in places.items():
        account.check(not _contains(contents, key), f"the key is not in {place}")


def _contains(contents: Iterable[bytes], key: str) -> bool:
    return any(key.encode() in content for content in contents)


def _check_audit(account: Account, events: Sequence[Mapping[str, object]]) -> None:
    allowed = [event for event in events if event["decision"] == "allow"]
    denied = [event for event in events if event["decision"] == "deny"]
    is_whole = [event["status"] for event in allowed] == [200, 200] and len(denied) == 4
    text = "one audit event for each request, and one for each refusal"
    account.check(is_whole, text, f"{len(allowed)} allowed, {len(denied)} denied")
    account.heading("The audit events")
    print(table(events))
