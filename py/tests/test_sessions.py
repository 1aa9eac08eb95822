"""`session=`: the record of a run, in a directory of its own."""

import asyncio
import contextlib
import copy
import hashlib
import json
import os
import pickle
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nono_py
import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    ProxyConfig,
    ProxyHandle,
    SandboxError,
    SessionMetadata,
    SnapshotManager,
    limited,
    sandboxed_exec,
    sandboxed_exec_async,
    sandboxed_spawn,
    start_proxy,
)
from nono_py._nono_py import _Command
from origin import Origin
from reference import Reference
from users import run_as

LOG = "audit-events.ndjson"


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the record goes; nothing is there yet."""
    return tmp_path / "records" / "session-1"


def events(directory: Path) -> "list[dict[str, Any]]":
    """Return the events of a log, each link of whose chain is computed anew."""
    head, found = None, []
    for number, line in enumerate((directory / LOG).read_text().splitlines()):
        record = json.loads(line)
        text = record["event_json"].encode()
        leaf = hashlib.sha256(b"nono.audit.event.alpha\n" + text).digest()
        before = bytes(32) if head is None else head
        chain = hashlib.sha256(b"nono.audit.chain.alpha\n" + before + leaf).digest()
        assert record["sequence"] == number
        assert record["prev_chain"] == (None if head is None else head.hex())
        assert (record["leaf_hash"], record["chain_hash"]) == (leaf.hex(), chain.hex())
        assert json.loads(text) == record["event"]
        head = chain
        found.append(record["event"])
    saved = SnapshotManager.load_session_metadata(directory)
    if saved.audit_integrity is not None:
        assert head is not None
        assert saved.audit_integrity["chain_head"] == head.hex()
        assert saved.audit_integrity["event_count"] == len(found) == saved.audit_event_count
    return found


def kinds(directory: Path) -> list[str]:
    return [event["type"] for event in events(directory)]


def test_a_run_leaves_a_record(caps: CapabilitySet, directory: Path) -> None:
    result = sandboxed_exec(caps, shell("exit 3"), session=directory)
    session = result.session
    assert session is not None
    assert (session.session_id, session.exit_code) == ("session-1", 3)
    assert session.command == ["/bin/sh", "-c", "exit 3"]
    assert session.ended is not None
    assert session.ended >= session.started
    assert session.executable_identity == {
        "resolved_path": os.path.realpath("/bin/sh"),
        "sha256": hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest(),
    }
    assert (session.tracked_paths, session.snapshot_count) == ([], 0)
    assert SnapshotManager.load_session_metadata(directory) == session
    started, ended = events(directory)
    assert started == {
        "type": "session_started",
        "started": session.started,
        "command": session.command,
    }
    assert ended == {"type": "session_ended", "ended": session.ended, "exit_code": 3}
    assert sorted(path.name for path in directory.iterdir()) == [LOG, "session.json"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())]
    assert modes == [0o700, 0o600, 0o600]
    # Nobody asked.
    assert sandboxed_exec(caps, shell("true")).session is None


def test_the_environment_is_no_part_of_it(caps: CapabilitySet, directory: Path) -> None:
    sandboxed_exec(caps, shell("true"), env={"KEY": "sk-secret"}, session=directory)
    for path in directory.iterdir():
        assert "sk-secret" not in path.read_text()


@pytest.mark.parametrize("below", [".", "beneath", "beneath/further"])
def test_a_program_that_could_change_its_record_does_not_run(
    caps: CapabilitySet, place: Path, tmp_path: Path, below: str
) -> None:
    where = place / below
    before = sorted(place.rglob("*"))
    with pytest.raises(ValueError, match="keep it elsewhere"):
        sandboxed_exec(caps, shell("echo >made"), cwd=place, session=where)
    assert sorted(place.rglob("*")) == before
    # Nor one that may write to a part of it.
    (place / "inner").mkdir()
    with pytest.raises(ValueError, match="keep it elsewhere"):
        sandboxed_exec(caps, shell("true"), session=place.parent)
    link = tmp_path / "link"
    link.symlink_to(place)
    with pytest.raises(ValueError, match="keep it elsewhere"):
        sandboxed_exec(caps, shell("true"), session=link / "new")


def test_a_record_has_a_place(caps: CapabilitySet) -> None:
    with pytest.raises(ValueError, match=r"^session must not be empty$"):
        sandboxed_exec(caps, shell("true"), session="")


@pytest.mark.parametrize("inner", ["s", "."])
def test_a_record_that_leads_nowhere_yet_is_refused(
    caps: CapabilitySet, place: Path, tmp_path: Path, inner: str
) -> None:
    # Made bit by bit, this is a directory that the program may write to.
    where = f"{tmp_path}/nope/../{place.name}/{inner}"
    assert place.parent == tmp_path
    with pytest.raises(ValueError, match="leads nowhere"):
        sandboxed_exec(caps, shell("true"), session=where)
    assert not (tmp_path / "nope").exists()
    assert not list(place.rglob("session.json"))
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        sandboxed_exec(caps, shell("true"), session=loop / "s")


def test_a_program_whose_path_is_no_text_has_its_record(directory: Path, tmp_path: Path) -> None:
    program = tmp_path / os.fsdecode(b"odd\xff")
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    caps = CapabilitySet()
    caps.allow_system()
    caps.allow_file(program, AccessMode.READ)
    result = sandboxed_exec(caps, [program], session=directory)
    assert result.session is not None
    assert result.session.exit_code == 0
    assert result.session.executable_identity is not None
    assert result.session.executable_identity["resolved_path"].endswith("odd\ufffd")
    assert kinds(directory) == ["session_started", "session_ended"]


@pytest.mark.parametrize("name", ["session.json", LOG])
def test_a_record_is_no_pipe(caps: CapabilitySet, directory: Path, name: str) -> None:
    directory.mkdir(parents=True)
    os.mkfifo(directory / name)
    with pytest.raises(OSError, match=r"session\.json|choose another"):
        sandboxed_exec(caps, shell("true"), session=directory)


def test_a_record_is_never_written_over(caps: CapabilitySet, directory: Path, place: Path) -> None:
    sandboxed_exec(caps, shell("true"), session=directory)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(FileExistsError, match="choose another directory"):
        sandboxed_exec(caps, shell("echo >made"), cwd=place, session=directory)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    assert not (place / "made").exists()


def test_one_of_many_runs_has_a_directory(caps: CapabilitySet, directory: Path) -> None:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(sandboxed_exec(caps, shell("true"), session=directory).exit_code)
        except FileExistsError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(0) == 1
    assert kinds(directory) == ["session_started", "session_ended"]


def test_a_session_that_was_prepared_keeps_its_name_and_paths(
    caps: CapabilitySet, directory: Path, place: Path
) -> None:
    with SnapshotManager(directory, [place]) as manager:
        manager.save_session_metadata(SessionMetadata("mine", [], [place]))
    session = sandboxed_exec(caps, shell("true"), session=directory).session
    assert session is not None
    assert (session.session_id, session.tracked_paths) == ("mine", [str(place)])


def test_snapshots_of_the_session_are_in_its_record(
    caps: CapabilitySet, directory: Path, place: Path
) -> None:
    (place / "file").write_text("before")
    with SnapshotManager(directory, [place]) as manager:
        baseline = manager.create_baseline()
        session = sandboxed_exec(
            caps, shell("echo after >file"), cwd=place, session=manager
        ).session
        assert session is not None
        assert session.tracked_paths == [str(place)]
        assert session.snapshot_count == 1
        assert session.merkle_roots == [baseline.merkle_root]
        later, _ = manager.create_incremental()
        session.snapshot_count += 1
        session.add_merkle_root(later.merkle_root)
        manager.save_session_metadata(session)
        assert manager.load_session_metadata(directory) == session
        manager.restore_to(0)
    assert (place / "file").read_text() == "before"


def test_a_session_is_compared_with_itself() -> None:
    code = """
        from nono_py import SessionMetadata

        session = SessionMetadata("s", [], [])
        assert session == session
        assert session != SessionMetadata("t", [], [])
        assert session != "s"
    """
    subprocess.run(python(code), timeout=60, check=True)


def test_a_session_is_a_key_of_a_dictionary() -> None:
    session = SessionMetadata("s", ["sh"], ["/tmp"])
    same = SessionMetadata.from_json(session.to_json())
    found = {session: 1}
    session.exit_code = same.exit_code = 3
    session.ended = same.ended = "then"
    assert (found[session], found[same]) == (1, 1)
    assert SessionMetadata("other", ["sh"], ["/tmp"]) not in found


def test_a_tracked_path_that_is_no_text_is_in_the_way_of_json_alone() -> None:
    session = SessionMetadata("s", ["sh"], [b"/odd\xff", "/tmp"])
    session.exit_code = 3
    assert session.executable_identity is None
    assert session.audit_integrity is None
    assert session.audit_attestation is None
    for again in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        assert again == session
        assert again.tracked_paths == [os.fsdecode(b"/odd\xff"), "/tmp"]
    with pytest.raises(ValueError, match="cannot be JSON"):
        session.to_json()


def test_events_have_no_words_that_other_tools_do_not_know() -> None:
    session = SessionMetadata("s", [], [])
    event = {
        "timestamp_unix_ms": 1,
        "mode": "reverse",
        "decision": "deny",
        "target": "",
        "auth_outcome": "not_required",
    }
    for category in ("invalid_request", "unknown_route", "over_limit", "upstream_failed"):
        session.set_network_events([{**event, "denial_category": category}])
        (kept,) = session.network_events
        assert (kept["auth_outcome"], kept["denial_category"]) == (None, None)
    known = {"auth_outcome": "failed", "denial_category": "host_denied"}
    session.set_network_events([{**event, **known}])
    (kept,) = session.network_events
    assert known.items() <= kept.items()


def test_what_ends_a_run_is_in_its_record(caps: CapabilitySet, directory: Path) -> None:
    late = sandboxed_exec(caps, shell("sleep 60"), timeout_secs=0.2, session=directory / "late")
    assert late.session is not None
    assert late.session.exit_code == 124
    killed = sandboxed_exec(caps, shell("kill -TERM $$"), session=directory / "killed")
    assert killed.session is not None
    assert killed.session.exit_code == -15
    assert events(directory / "killed")[-1]["exit_code"] == -15


def test_a_record_that_fails_does_not_take_the_outcome_with_it(
    caps: CapabilitySet, directory: Path
) -> None:
    read, write = os.pipe()
    raised: list[SandboxError] = []

    def run() -> None:
        with pytest.raises(SandboxError, match="ended with 3, but the record") as caught:
            sandboxed_exec(caps, shell("cat; exit 3"), stdin=read, session=directory)
        raised.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    # Its record has begun when its log is there.
    while not (directory / LOG).exists():
        thread.join(0.01)
    shutil.rmtree(directory)
    os.write(write, b"precious")
    os.close(write)
    thread.join()
    os.close(read)
    assert raised[0].result is not None
    assert (raised[0].result.stdout, raised[0].result.exit_code) == (b"precious", 3)


def test_what_did_not_run_has_no_exit_code(directory: Path) -> None:
    with pytest.raises(SandboxError):
        sandboxed_exec(CapabilitySet(), shell("true"), session=directory)
    session = SnapshotManager.load_session_metadata(directory)
    assert session.ended is not None
    assert (session.exit_code, session.executable_identity) == (None, None)
    assert kinds(directory) == ["session_started"]


def test_what_a_signal_handler_raises_ends_the_record_too(
    caps: CapabilitySet, directory: Path
) -> None:
    read, write = os.pipe()

    def interrupt() -> None:
        os.read(read, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sandboxed_exec(caps, shell("echo >&2; exec sleep 60"), stderr=write, session=directory)
    finally:
        thread.join()
        os.close(read)
        os.close(write)
    assert SnapshotManager.load_session_metadata(directory).exit_code == -9
    assert kinds(directory) == ["session_started", "session_ended"]


@pytest.mark.asyncio
async def test_runs_on_an_event_loop_leave_the_same(caps: CapabilitySet, directory: Path) -> None:
    done = await sandboxed_exec_async(caps, shell("exit 3"), session=directory / "exec")
    assert done.session is not None
    assert done.session.exit_code == 3
    assert done.session.executable_identity is not None
    async with await sandboxed_spawn(
        caps, shell("read line; exit 4"), stdin=subprocess.PIPE, session=directory / "spawn"
    ) as process:
        saved = SnapshotManager.load_session_metadata(directory / "spawn")
        assert (saved.ended, kinds(directory / "spawn")) == (None, ["session_started"])
        await process.communicate(b"x\n")
        assert process.result is not None
        assert process.result.session is not None
        assert process.result.session.exit_code == 4
    task = asyncio.create_task(
        sandboxed_exec_async(caps, shell("exec sleep 60"), session=directory / "cancelled")
    )
    while not (directory / "cancelled" / "session.json").exists():
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert SnapshotManager.load_session_metadata(directory / "cancelled").exit_code == -9
    for name in ("exec", "spawn", "cancelled"):
        assert kinds(directory / name) == ["session_started", "session_ended"]


TUNNEL = """
    import os, socket, sys
    host, port = os.environ["HTTP_PROXY"].rpartition("@")[2].rstrip("/").rsplit(":", 1)
    proxy = socket.create_connection((host, int(port)))
    there = f"127.0.0.1:{sys.argv[1]}"
    token = os.environ["NONO_PROXY_TOKEN"]
    head = f"CONNECT {there} HTTP/1.1\\r\\nHost: {there}\\r\\n"
    proxy.sendall((head + f"Proxy-Authorization: Bearer {token}\\r\\n\\r\\n").encode())
    print(proxy.recv(100).split()[1].decode(), flush=True)
"""


FETCH = """
    import os, sys, urllib.request, urllib.error
    base = os.environ["OPENAI_BASE_URL"]
    for path in sys.argv[1:]:
        request = urllib.request.Request(
            base + path, headers={"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
        )
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError as error:
            print(error.code)
"""


def test_what_the_proxy_was_asked_for_is_in_it(
    caps: CapabilitySet, directory: Path, proxy: ProxyHandle, origin: Origin, key: str
) -> None:
    # What went before is none of it.
    assert sandboxed_exec(caps, python(FETCH, "/before"), proxy=proxy).exit_code == 0
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    result = sandboxed_exec(caps, python(FETCH, "/models", "/chat"), proxy=proxy, session=directory)
    assert result.exit_code == 0, result.stderr
    # Nor what comes after.
    assert sandboxed_exec(caps, python(FETCH, "/after"), proxy=proxy).exit_code == 0
    session = result.session
    assert session is not None
    asked = session.network_events
    assert [event["path"] for event in asked] == ["/openai/models", "/openai/chat"]
    assert {event["decision"] for event in asked} == {"allow"}
    assert {event["route_id"] for event in asked} == {"openai"}
    logged = [event["event"] for event in events(directory) if event["type"] == "network"]
    assert [{**dict.fromkeys(asked[0]), **event} for event in logged] == asked
    assert kinds(directory) == ["session_started", "network", "network", "session_ended"]
    # The proxy's own records are where they were.
    assert len(proxy.drain_audit_events()) == 4
    for path in directory.iterdir():
        assert key not in path.read_text()
        assert token not in path.read_text()


def test_the_token_of_the_proxy_is_not_kept_in_the_command(
    caps: CapabilitySet, directory: Path, proxy: ProxyHandle
) -> None:
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    result = sandboxed_exec(caps, ["/bin/echo", f"a{token}b"], proxy=proxy, session=directory)
    assert result.stdout == f"a{token}b\n".encode()
    assert result.session is not None
    assert result.session.command == ["/bin/echo", "a[redacted]b"]
    for path in directory.iterdir():
        assert token not in path.read_text()


def test_a_tunnel_that_is_open_at_the_end_is_in_it_once(
    caps: CapabilitySet, directory: Path, plain_origin: Origin
) -> None:
    port = int(plain_origin.url.rpartition(":")[2])
    with start_proxy(ProxyConfig(allowed_hosts=[f"127.0.0.1:{port}"])) as proxy:
        words = python(TUNNEL, str(port))
        result = sandboxed_exec(caps, words, proxy=proxy, session=directory)
    assert (result.stdout, result.stderr) == (b"200\n", b"")
    assert result.session is not None
    (event,) = result.session.network_events
    assert (event["mode"], event["decision"], event["port"]) == ("connect", "allow", port)


@pytest.mark.parametrize("is_closed", [True, False])
def test_what_runs_when_nobody_waits_any_more_is_in_it(
    caps: CapabilitySet, directory: Path, place: Path, plain_origin: Origin, is_closed: bool
) -> None:
    manager = SnapshotManager(directory, [place])
    baseline = manager.create_baseline()
    port = int(plain_origin.url.rpartition(":")[2])
    with start_proxy(ProxyConfig(allowed_hosts=[f"127.0.0.1:{port}"])) as proxy:
        options = {"proxy": proxy, "session": manager, "stdout": subprocess.PIPE}
        words = python(TUNNEL + "    import signal; signal.pause()\n", str(port))
        command = _Command._called("sandboxed_spawn", (caps, words), options)
        child = command.spawn()
        while not child.try_begun():
            begun = child.begun_fd()
            assert begun is not None
            select.select([begun], [], [])
        _, stdout, _ = child.take_streams()
        assert stdout is not None
        os.set_blocking(stdout, True)
        assert os.read(stdout, 100) == b"200\n"
        os.close(stdout)
        if is_closed:
            child.close()
        del child, command
        session = SnapshotManager.load_session_metadata(directory)
    assert session.ended is not None
    assert session.exit_code is None
    assert (session.snapshot_count, session.merkle_roots) == (1, [baseline.merkle_root])
    (event,) = session.network_events
    assert (event["mode"], event["decision"], event["port"]) == ("connect", "allow", port)
    assert kinds(directory) == ["session_started", "network"]


def test_a_record_that_could_not_begin_can_be_begun_again(tmp_path: Path) -> None:
    code = """
        import json, os, resource, sys
        from pathlib import Path
        from nono_py import CapabilitySet, ProxyConfig, sandboxed_exec, start_proxy

        caps = CapabilitySet()
        caps.allow_interpreter()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

        def run(place):
            return sandboxed_exec(caps, ["/bin/sh", "-c", "true"], proxy=proxy, session=place)

        with start_proxy(ProxyConfig(allowed_hosts=["host.example"])) as proxy:
            run(Path(sys.argv[1], "first"))
            again = 0
            for files in range(3, 200):
                place = Path(sys.argv[1], str(files))
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
                try:
                    run(place)
                    break
                except Exception:
                    pass
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                kept = place / "session.json"
                if kept.exists() and json.loads(kept.read_text())["ended"] is not None:
                    continue  # It had begun.
                again += 1
                assert run(place).session.exit_code == 0, files
            else:
                raise AssertionError("it never runs")
        print(again)
    """
    done = subprocess.run(
        python(code, str(tmp_path)), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_what_the_sandbox_refused_is_in_it(
    caps: CapabilitySet, directory: Path, proxy: ProxyHandle, tmp_path: Path
) -> None:
    place = tmp_path / "sockets"
    place.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(place / "s"))
        unix.listen()
        port = other.getsockname()[1]
        code = """
            import socket, sys
            for family, where in [
                (socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))),
                (socket.AF_UNIX, sys.argv[2]),
            ]:
                try:
                    socket.socket(family).connect(where)
                except OSError as error:
                    print(error.errno)
        """
        command = python(code, str(port), str(place / "s"))
        result = sandboxed_exec(caps, command, proxy=proxy, session=directory)
    assert len(result.stdout.split()) == 2, result.stderr
    assert result.session is not None
    (refused,) = result.session.network_events
    assert (refused["decision"], refused["target"], refused["port"]) == ("deny", "127.0.0.1", port)
    (decided,) = [one for one in events(directory) if one["type"] == "capability_decision"]
    request = decided["entry"]["request"]
    assert (request["path"], request["session_id"]) == (str(place / "s"), "session-1")
    assert request["child_pid"] > 0
    assert "was refused" in decided["entry"]["decision"]["Denied"]["reason"]


def test_many_sessions_share_a_proxy(
    caps: CapabilitySet, directory: Path, proxy: ProxyHandle
) -> None:
    found: dict[int, list[str]] = {}

    def run(number: int) -> None:
        words = python(FETCH, *(f"/{number}/{turn}" for turn in range(5)))
        done = sandboxed_exec(caps, words, proxy=proxy, session=directory / str(number))
        assert done.session is not None
        found[number] = [str(event["path"]) for event in done.session.network_events]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        own = {f"/openai/{number}/{turn}" for turn in range(5)}
        assert own <= set(found[number])
        assert len(found[number]) == len(set(found[number]))
        assert events(directory / str(number))
    # None of it is held in the log of the proxy any longer.
    assert len(proxy.drain_audit_events()) == 30


def test_a_killed_caller_leaves_a_session_without_an_end(directory: Path) -> None:
    code = """
        import sys
        from nono_py import CapabilitySet, sandboxed_exec

        caps = CapabilitySet()
        caps.allow_interpreter()
        words = ["/bin/sh", "-c", "echo begun; exec sleep 60"]
        sandboxed_exec(caps, words, stdout=1, session=sys.argv[1])
    """
    with subprocess.Popen(python(code, str(directory)), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.kill()
        # The program ends with its caller, and lets go of the pipe.
        assert process.stdout.read() == b""
    session = SnapshotManager.load_session_metadata(directory)
    assert (session.ended, session.exit_code) == (None, None)
    assert kinds(directory) == ["session_started"]


def test_a_record_that_cannot_be_written_keeps_the_program_from_running(
    caps: CapabilitySet, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        sandboxed_exec(caps, shell("echo >made"), cwd=place, session=tmp_path / "file" / "x")
    assert not (place / "made").exists()


def test_other_ways_to_run_leave_the_same(
    caps: CapabilitySet, directory: Path, place: Path
) -> None:
    done = limited.run(caps, shell("exit 3"), session=directory / "limited")
    assert done.result is not None
    assert done.result.session is not None
    under = nono_py.run(None, ["system_read_linux"], shell("exit 4"), session=directory / "policy")
    assert under.result.session is not None
    assert under.result.session.exit_code == 4
    command = [sys.executable, "-m", "nono_py", "run", "-g", "system_read_linux"]
    words = [*command, "--session", str(directory / "command"), "--", *shell("exit 5")]
    assert subprocess.run(words, timeout=60).returncode == 5
    codes = [
        SnapshotManager.load_session_metadata(directory / name).exit_code
        for name in ("limited", "policy", "command")
    ]
    assert codes == [3, 4, 5]
    for name in ("limited", "policy", "command"):
        assert kinds(directory / name) == ["session_started", "session_ended"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_has_a_record(tmp_path_factory: pytest.TempPathFactory) -> None:
    user = 65534
    code = """
        import os, sys, tempfile
        from nono_py import CapabilitySet, sandboxed_exec

        caps = CapabilitySet()
        caps.allow_interpreter()
        with tempfile.TemporaryDirectory() as place:
            done = sandboxed_exec(caps, ["/bin/sh", "-c", "exit 3"], session=place + "/s")
            session = done.session
            names = sorted(os.listdir(place + "/s"))
            print(session.exit_code, session.executable_identity["sha256"], names)
    """
    done = run_as(user, code)
    assert done.stderr == ""
    sha256 = hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest()
    assert done.stdout == f"3 {sha256} {[LOG, 'session.json']}\n"


@pytest.fixture(scope="module")
def other() -> Callable[..., Any]:
    """Return what runs a program of the other package's, and the JSON that it prints."""
    reference = Reference()

    def run(program: str, *arguments: Path) -> Any:
        return json.loads(reference.run(textwrap.dedent(program), *arguments, cwd=Path("/")))

    return run


READ = """
    import json, sys
    from nono_py import SessionMetadata, SnapshotManager, audit

    directory = sys.argv[1]
    session = SnapshotManager.load_session_metadata(directory)
    text = open(directory + "/session.json").read()
    for line in open(directory + "/audit-events.ndjson"):
        audit.AuditEventRecord.model_validate_json(line)
    print(json.dumps({
        "id": session.session_id,
        "exit_code": session.exit_code,
        "identity": session.executable_identity,
        "events": session.network_events,
        "again": json.loads(SessionMetadata.from_json(text).to_json()),
        "verified": audit.verify_log(directory),
    }))
"""


def test_the_other_package_reads_and_verifies_what_is_recorded(
    other: Callable[..., Any], caps: CapabilitySet, directory: Path, proxy: ProxyHandle
) -> None:
    """Requests that are let through, refused by rule, and refused for having no route."""
    code = FETCH.replace("base + path", 'base.replace("/openai", path)')
    words = python(code, "/openai/models", "/nowhere")
    words[-2:] = ["/openai", "/nowhere"]
    result = sandboxed_exec(caps, words, proxy=proxy, session=directory)
    session = result.session
    assert session is not None
    read = other(READ, directory)
    assert read["id"] == "session-1"
    assert read["exit_code"] == result.exit_code == 0
    assert read["identity"] == session.executable_identity
    assert read["events"] == session.network_events
    assert len(read["events"]) == 2
    assert read["again"] == json.loads(session.to_json())
    assert read["verified"]["records_verified"]
    assert read["verified"]["event_count_matches"]
    assert read["verified"]["event_count"] == session.audit_event_count == 4


READ_AT_ONCE = """
    import sys, threading
    from nono_py import SessionMetadata

    session = SessionMetadata("s", ["a"], ["/tmp"] * 1000)
    event = {"timestamp_unix_ms": 1, "mode": "connect", "decision": "deny", "target": "a.example",
             "denial_category": "host_denied", "port": 443}
    session.set_network_events([event] * 10_000)
    sys.setswitchinterval(1e-6)

    def read() -> None:
        for _ in range(3):
            assert len(session.network_events) == 10_000
            assert len(session.tracked_paths) == 1000

    def ask() -> None:
        while any(thread.is_alive() for thread in readers):
            assert session.exit_code is None

    readers = [threading.Thread(target=read) for _ in range(2)]
    askers = [threading.Thread(target=ask) for _ in range(2)]
    for thread in readers + askers:
        thread.start()
    for thread in readers + askers:
        thread.join()
    print("done")
"""


def test_threads_that_read_a_session_do_not_wait_for_each_other_for_ever() -> None:
    done = subprocess.run(python(READ_AT_ONCE), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "")


WRITE = """
    import json, sys
    from nono_py import SessionMetadata, SnapshotManager

    directory, tracked = sys.argv[1:]
    manager = SnapshotManager(directory, [tracked])
    root = manager.create_baseline().merkle_root
    session = SessionMetadata("theirs", ["a", "b"], [tracked])
    session.set_network_events([
        {"timestamp_unix_ms": 1, "mode": "connect", "decision": "deny", "target": "a.example",
         "denial_category": "host_denied", "port": 443}
    ])
    session.snapshot_count = 1
    session.add_merkle_root(root)
    manager.save_session_metadata(session)
    print(json.dumps({"events": session.network_events, "root": root.hex()}))
"""


def test_what_the_other_package_has_prepared_is_gone_on_with(
    other: Callable[..., Any], caps: CapabilitySet, directory: Path, place: Path
) -> None:
    (place / "file").write_text("x")
    written = other(WRITE, directory, place)
    read = SnapshotManager.load_session_metadata(directory)
    assert (read.session_id, read.command) == ("theirs", ["a", "b"])
    assert read.network_events == written["events"]
    assert [root.hex() for root in read.merkle_roots] == [written["root"]]
    session = sandboxed_exec(caps, shell("true"), session=directory).session
    assert session is not None
    assert (session.session_id, session.tracked_paths) == ("theirs", [str(place)])
    assert [root.hex() for root in session.merkle_roots] == [written["root"]]
    assert (session.snapshot_count, session.network_events) == (1, written["events"])
    assert other(READ, directory)["verified"]["records_verified"]
