"""Where a sandboxed program could keep or find the real key: it is in none of these places."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from nono_py import CapabilitySet, ProxyHandle
from nono_py._demo.stage import Stage, memory_of
from origin import Origin

#: Uses the route, keeps the answer in memory and in a file, and waits to be looked at.
AGENT = """
import json, os, urllib.request
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
login = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
reply = urllib.request.urlopen(urllib.request.Request(url, b"{}", login))
kept = str(reply.headers) + reply.read().decode()
open("kept", "w").write(kept + json.dumps(dict(os.environ)))
with open("reports", "w") as reports:
    print(json.dumps({"pid": os.getpid()}), file=reports)
open("inspected").read()
print(kept)
"""


class Traces:
    """What an agent leaves."""

    def __init__(self, caps: CapabilitySet, proxy: ProxyHandle, place: Path) -> None:
        stage = Stage(place)
        self.environment = proxy.sandbox_env()
        running = stage.run(caps, [sys.executable, "-c", AGENT], self.environment)
        self.memory: list[bytes] = []
        for report in stage.reports():
            self.memory = list(memory_of(int(str(report["pid"]))))
            stage.release()
        self.result = running.result()
        self.files = list(stage.files())


@pytest.fixture
def traces(caps: CapabilitySet, proxy: ProxyHandle, place: Path) -> Traces:
    caps.proxy_only(proxy)
    return Traces(caps, proxy, place)


def test_the_key_is_in_none_of_them(
    traces: Traces, origin: Origin, proxy: ProxyHandle, key: str
) -> None:
    assert traces.result.exit_code == 0, traces.result.stderr
    assert origin.requests[0].values("Authorization") == [f"Bearer {key}"]
    secret = key.encode()
    assert not any(secret in region for region in traces.memory)
    assert not any(secret in content for content in traces.files)
    assert secret not in traces.result.stdout + traces.result.stderr
    assert key not in repr(traces.environment)
    proxy.shutdown()
    assert key not in repr(proxy.drain_audit_events()) + proxy.diagnostics_json()


def test_the_search_would_have_found_it(traces: Traces, proxy: ProxyHandle) -> None:
    token = proxy.env_vars()["NONO_PROXY_TOKEN"].encode()
    assert any(token in region for region in traces.memory)
    assert any(token in content for content in traces.files)


def test_what_is_beyond_where_a_file_can_be_read_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Path.read_text

    def with_the_kernels(path: Path) -> str:
        return "ffffffffff600000-ffffffffff601000 r-xp 0\n" + read(path)

    monkeypatch.setattr(Path, "read_text", with_the_kernels)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"HERE": "found"}) as process:
        regions = list(memory_of(process.pid))
        assert process.stdin is not None
        process.stdin.close()
    assert any(b"HERE=found" in region for region in regions[1:])


def test_nothing_prints_it(proxy: ProxyHandle, key: str) -> None:
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    assert not re.search(f"{key}|{token}", f"{proxy!r} {proxy} {proxy.address}")
