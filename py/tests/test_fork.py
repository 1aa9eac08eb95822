"""A forked child has a copy of what the parent holds, and no part in it: nothing it does there, nor
its end, changes what is recorded."""

import json
import subprocess
import sys
from pathlib import Path

#: The child runs its part and ends as programs do, by way of the interpreter's end.
FORK = """
import logging, os, sys, threading, urllib.error, urllib.request
from nono_py import *

def refuse(proxy, count):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    for n in range(count):
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://{proxy.address}/none/{n}", headers=headers)
        try:
            opener.open(request, timeout=20)
        except urllib.error.HTTPError:
            pass

def in_child(part):
    pid = os.fork()
    if pid == 0:
        part()
        globals().clear()
        __import__("gc").collect()
        __import__("sys").exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def foreign(*calls):
    for call in calls:
        try:
            call()
        except ProxyError as error:
            assert error.diagnostic_code == "other_process" and str(os.getppid()) in str(error)
        else:
            raise AssertionError(call)
"""


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", FORK + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_records_of_a_proxy_stay_its_parents(tmp_path: Path) -> None:
    file = tmp_path / "audit.ndjson"
    # So many that most of them are on disk, in a file that both processes have.
    run(
        """
proxy = start_proxy(ProxyConfig(audit_records=100, audit_file=sys.argv[1]))
events = proxy.audit_events()
refuse(proxy, 400)

def part():
    foreign(
        proxy.drain_audit_events, proxy.drain_audit_objects, proxy.drain_audit_jsonl,
        proxy.audit_events, proxy.active, proxy.diagnostics, proxy.diagnostics_json,
        proxy.reload_credentials, proxy.__enter__, proxy.__aenter__, lambda: AuditLogger(proxy),
        lambda: next(events), lambda: events.lag, events._poll, events._watch,
    )
    events.close()
    proxy.shutdown()
    assert proxy.env_vars() == variables and proxy.sandbox_env()
    refuse(proxy, 5)
    caps = CapabilitySet()
    caps.allow_interpreter()
    assert sandboxed_exec(caps, ["true"], proxy=proxy, timeout_secs=20).exit_code == 0

variables = proxy.env_vars()
in_child(part)
refuse(proxy, 5)
proxy.shutdown()
# Now there are no threads of it, and the records are there still.
in_child(lambda: foreign(proxy.drain_audit_events))
whole = list(range(410))
assert [event["sequence"] for event in proxy.drain_audit_events()] == whole
assert [event.sequence for event in events] == whole
""",
        file,
    )
    assert len(file.read_text().splitlines()) == 411
    verify = [sys.executable, "-m", "nono_py", "audit", "verify", str(file)]
    assert subprocess.run(verify, capture_output=True, timeout=60).returncode == 0


def test_a_consumer_that_a_thread_holds_does_not_hold_up_the_child() -> None:
    run(
        """
proxy = start_proxy(ProxyConfig())
events = proxy.audit_events()
seen = []
thread = threading.Thread(target=lambda: seen.extend(event.sequence for event in events))
silent = logging.Logger("silent")
silent.addHandler(logging.NullHandler())
logger = AuditLogger(proxy, silent)
thread.start()
for _ in range(20):
    in_child(lambda: (events.close(), logger.close()))
refuse(proxy, 3)
proxy.shutdown()
thread.join(20)
assert seen == [0, 1, 2], seen
"""
    )


def test_the_record_of_a_session_is_not_ended_by_a_child(tmp_path: Path) -> None:
    run(
        """
import json, select
from nono_py._nono_py import _Command

caps = CapabilitySet()
caps.allow_interpreter()
session = sys.argv[1]
proxy = start_proxy(ProxyConfig())
reader, writer = os.pipe()
options = {"stdin": reader, "proxy": proxy}
run = _Command(caps, ["cat"], session=session, **options).start()
spawned = _Command(caps, ["cat"], session=session + "-2", **options).spawn()
refuse(proxy, 1)
in_child(lambda: None)
for name in (session, session + "-2"):
    assert json.load(open(name + "/session.json")).get("ended") is None
os.close(writer)
while (result := run.advance()) is None:
    select.select(run.fds(), [], [])
assert result.exit_code == 0 and spawned.wait().exit_code == 0
""",
        tmp_path / "session",
    )
    for name in ("session", "session-2"):
        record = json.loads((tmp_path / name / "session.json").read_text())
        assert (record["exit_code"], len(record["network_events"])) == (0, 1)
        assert record["ended"] is not None
