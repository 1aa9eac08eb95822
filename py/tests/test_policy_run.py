"""Commands under groups of a policy, and why something is allowed or denied."""

import copy
import http.client
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    Policy,
    PolicyError,
    ProxyConfig,
    ProxyHandle,
    explain,
    load_policy,
    run,
    start_proxy,
)
from origin import Origin, running

SYSTEM = ["system_read_linux", "system_write_linux"]
#: Tools, what they are asked to do, and the groups that they do it under.
TOOLS: list[tuple[str, str, list[str]]] = [
    ("sh", "echo x > $TMPDIR/a && cat $TMPDIR/a", []),
    ("git", "git init -q r && cd r && git commit -q --allow-empty -m m && git log", ["git_config"]),
    ("python3", "python3 -c 'import json, ssl, sqlite3; print(1)'", ["python_runtime"]),
    ("pip", "pip --version && pip list", ["python_runtime", "pip"]),
    ("node", "node -e 'console.log(require(\"os\").cpus().length)'", ["node_runtime"]),
    ("npm", "npm init -y && npm cache ls && npm pack", ["node_runtime", "npm"]),
    ("rustc", "echo 'fn main() {}' > a.rs && rustc a.rs && ./a && echo 1", ["rust_runtime"]),
    ("cargo", "cargo init -q --vcs none --name a && cargo run --offline && echo 1", ["cargo"]),
    ("go", "go version", ["go_runtime"]),
    ("nix", "nix --version", ["nix_runtime"]),
    ("uv", "uv venv --offline e && e/bin/python -c 'print(1)'", ["uv", "python_runtime"]),
    ("pnpm", "pnpm init && pnpm store path", ["pnpm", "node_runtime"]),
    ("bun", "exec bun -e 'console.log(1)'", ["bun"]),
    ("bun", "bun -e 'console.log(1)'; bun -e 'console.log(2)'", ["bun", "proc_linux"]),
    ("deno", "deno eval 'console.log(1)'", ["deno"]),
    ("mise", "mise ls && mise --version", ["mise"]),
    (
        "claude",
        "exec claude --version",
        ["claude_code_linux", "claude_cache_linux", "node_runtime"],
    ),
    ("codex", "exec codex --version", ["codex_linux", "node_runtime"]),
    ("gemini", "exec gemini --version", ["gemini_cli", "node_runtime"]),
    ("opencode", "exec opencode --version", ["opencode_linux", "node_runtime"]),
    ("cursor-agent", "cursor-agent --version", ["cursor"]),
    ("code", "code --version", ["vscode_linux"]),
]
#: Whoever runs the tests need not have told git who they are.
NAMED = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def cli(*words: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nono_py", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.fixture
def served(plain_origin: Origin, key: str) -> Policy:
    """A policy with a route and a host."""
    api = {
        "prefix": "/api",
        "upstream": plain_origin.url,
        "credential_key": "env://REAL_KEY",
        "endpoint_rules": [{"method": "GET", "path": "/v1/**"}],
    }
    network = {
        "allow_domain": ["*.example.com"],
        "deny_domain": ["bad.example.com"],
        "custom_credentials": {"api": api},
    }
    system = {"read": ["/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/proc/self"]}
    system["readwrite"] = ["/dev/null"]
    groups = {
        "system": {"description": "d", "allow": system},
        "web": {"description": "d", "network": network},
        "offline": {"description": "d", "network": {"block": True}},
        "keys": {"description": "d", "required": True, "deny": {"access": ["~/.ssh"]}},
        "short": {"description": "d", "limits": {"timeout_secs": 1}},
    }
    return load_policy(json.dumps({"groups": groups}))


@pytest.mark.parametrize(("tool", "script", "groups"), TOOLS, ids=lambda value: str(value)[:20])
def test_a_tool_runs_under_its_groups(
    tool: str, script: str, groups: list[str], tmp_path: Path
) -> None:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    program = Path(found)
    places = {name: tmp_path / name for name in ("outside", "inside")}
    for place in places.values():
        place.mkdir()
    environment = {**os.environ, **NAMED, "TMPDIR": str(places["outside"])}
    command = ["sh", "-c", script]
    outside = subprocess.run(
        command, capture_output=True, text=True, cwd=places["outside"], env=environment, timeout=90
    )
    if outside.returncode != 0:
        pytest.skip(f"{tool} does not work here: {outside.stderr}")
    caps = CapabilitySet()
    caps.allow_path(places["inside"], AccessMode.READ_WRITE)
    for directory in _program_directories(program):
        caps.allow_path(directory, AccessMode.READ)
    done = run(
        None,
        [*SYSTEM, *groups],
        command,
        caps=caps,
        env=NAMED,
        timeout_secs=90,
        cwd=places["inside"],
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout


def _program_directories(program: Path) -> Sequence[Path]:
    """Return where a program is that was installed in no usual place."""
    real = program.resolve()
    parts = real.parts
    if (program.parent.parent / "pyvenv.cfg").exists():
        return [program.parent.parent]
    if real.is_relative_to("/usr"):
        return []
    if "node_modules" in parts:
        return [Path(*parts[: parts.index("node_modules") + 1])]
    return [program.parent, real.parent]


def test_a_command_gets_a_temporary_directory_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-secret")
    script = "env; ls /tmp || echo denied; echo x > $TMPDIR/file && cat $TMPDIR/file"
    done = run(None, SYSTEM, ["sh", "-c", script], env={"GIVEN": "yes"})
    variables = done.stdout.decode().splitlines()
    assert "GIVEN=yes" in variables
    assert f"HOME={os.environ['HOME']}" in variables
    assert variables[-2:] == ["denied", "x"]
    assert b"sk-secret" not in done.stdout
    temporary = next(line for line in variables if line.startswith("TMPDIR="))
    assert not Path(temporary.removeprefix("TMPDIR=")).exists()


def test_a_group_with_a_route_brings_a_proxy(served: Policy, key: str) -> None:
    script = (
        'for path in v1/models admin; do curl -sS -o /dev/null -w "%{http_code} " '
        '-H "Authorization: Bearer $API_API_KEY" "$API_BASE_URL/$path"; done; env'
    )
    done = run(served, ["system", "web"], ["sh", "-c", script])
    assert done.stdout.decode().split()[:2] == ["200", "403"], done.stderr
    assert key.encode() not in done.stdout
    assert {event["target"] for event in done.events if event["decision"] == "allow"}
    assert any(event["decision"] == "deny" for event in done.events)


def test_records_are_appended_where_the_policy_says(tmp_path: Path, plain_origin: Origin) -> None:
    log = tmp_path / "records.ndjson"
    network = {"custom_credentials": {"api": {"prefix": "/api", "upstream": plain_origin.url}}}
    system = {"read": ["/usr", "/bin", "/lib", "/lib64", "/etc/ssl"], "readwrite": ["/dev/null"]}
    group = {"description": "d", "network": network, "allow": system}
    loaded = load_policy(json.dumps({"groups": {"g": group}, "audit": {"file": str(log)}}))
    script = 'curl -sS -o /dev/null -H "Authorization: Bearer $NONO_PROXY_TOKEN" $API_BASE_URL/x'
    for _ in range(2):
        done = run(loaded, ["g"], ["sh", "-c", script])
        assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(records) >= 2
    (tmp_path / "directory").mkdir()
    unopened = {"groups": {"g": group}, "audit": {"file": str(tmp_path / "directory")}}
    with pytest.raises((OSError, RuntimeError, ValueError)):
        run(load_policy(json.dumps(unopened)), ["g"], ["true"])


def test_directories_that_are_to_be_written_are_made_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    written = [f"{tmp_path}/{name}" for name in ("a/cache/", "unclear", "file/", "link/")]
    group = {"description": "d", "allow": {"readwrite": written, "read": [f"{tmp_path}/b/"]}}
    system = {"read": ["/usr", "/bin", "/lib", "/lib64"], "readwrite": ["/dev/null"]}
    groups = {"g": group, "system": {"description": "d", "allow": system}}
    loaded = load_policy(json.dumps({"groups": groups}))
    assert loaded.resolve_groups(["g"], CapabilitySet()).skipped_paths[:1] == [f"{tmp_path}/b/"]
    said = explain(loaded, ["g"], path=tmp_path / "a/cache/note")
    rule = f"allow.readwrite {tmp_path}/a/cache/, which run makes"
    assert (said.allowed, said.group, said.rule) == (True, "g", rule)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "link"]
    script = f"echo x > {tmp_path}/a/cache/note"
    done = run(loaded, ["g", "system"], ["sh", "-c", script])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a/cache/note").read_text() == "x\n"
    assert (tmp_path / "a/cache").stat().st_mode & 0o777 == 0o700
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "file", "link"]
    skipped = set(done.resolved.skipped_paths)
    assert {f"{tmp_path}/unclear", f"{tmp_path}/link/"} <= skipped
    assert loaded.make_directories(["g"]) == []


def test_limits_of_a_policy_hold_and_options_win(served: Policy) -> None:
    done = run(served, ["system", "short"], ["sleep", "30"])
    assert done.result.timed_out
    done = run(served, ["system", "short"], ["sleep", "1.2"], timeout_secs=30)
    assert done.exit_code == 0


def test_what_cannot_be_enforced_does_not_run(served: Policy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offline blocks the network, and web opens"):
        run(served, ["system", "offline", "web"], ["true"])
    home = CapabilitySet()
    home.allow_path(Path.home(), AccessMode.READ_WRITE)
    before = str(home.denied_paths)
    with pytest.raises(RuntimeError, match="deny-overlap"):
        run(served, ["system"], ["true"], caps=home)
    assert str(home.denied_paths) == before
    with pytest.raises(TypeError, match="one string"):
        run(served, "system", ["true"])


def test_a_network_that_the_caller_blocks_stays_blocked(
    served: Policy, plain_origin: Origin, key: str
) -> None:
    script = (
        "import os, socket; print(sorted(n for n in os.environ if 'PROXY' in n.upper()))\n"
        "for port in map(int, os.environ['PORTS'].split()):\n"
        "    try: socket.create_connection(('127.0.0.1', port), 5); print('reached')\n"
        "    except PermissionError: print('refused')"
    )
    groups = json.loads(served.to_json())["groups"]
    groups["wide"] = {"description": "d", "network": {"connect_ports": [plain_origin.port]}}
    loaded = load_policy(json.dumps({"groups": groups}))
    caps = CapabilitySet()
    caps.allow_interpreter()
    caps.block_network()
    before = copy.copy(caps)
    command = [sys.executable, "-c", script]
    with start_proxy(ProxyConfig()) as other:
        ports = {"PORTS": f"{plain_origin.port} {other.port}"}
        done = run(loaded, ["web", "wide"], command, caps=caps, env=ports)
    assert done.stdout.decode().split("\n")[:3] == ["[]", "refused", "refused"], done.stderr
    assert done.events == []
    assert caps == before


def test_a_blocked_network_on_the_command_line_is_one(tmp_path: Path) -> None:
    groups = ["-g", "system_read_linux", "-g", "system_write_linux", "-g", "registry_python"]
    done = cli("run", *groups, "--block-net", "--", "sh", "-c", "env")
    assert done.returncode == 0, done.stderr
    assert "PROXY" not in done.stdout
    assert "PROXY" in cli("run", *groups, "--", "sh", "-c", "env").stdout


def test_a_proxy_of_the_callers_is_not_exchanged_for_another(served: Policy) -> None:
    with start_proxy(ProxyConfig()) as proxy:
        caps = CapabilitySet()
        caps.proxy_only(proxy)
        with pytest.raises(ValueError, match="the groups have rules for another proxy"):
            run(served, ["system", "web"], ["true"], caps=caps)
        with pytest.raises(ValueError, match="the groups have rules for another proxy"):
            explain(served, ["web"], host="a.example.com", caps=caps)
        assert run(served, ["system"], ["true"], caps=caps).exit_code == 0
        with pytest.raises(TypeError, match="run starts the proxy of its groups itself"):
            run(served, ["system"], ["true"], proxy=proxy)


@pytest.mark.parametrize(
    ("question", "allowed", "reason", "group", "rule"),
    [
        ({"path": "/usr/share"}, True, "granted_path", "system", "allow.read /usr"),
        ({"path": "~/.ssh/id"}, False, "path_denied", "keys", "deny.access ~/.ssh"),
        ({"path": "/etc/shadow"}, False, "path_not_granted", None, None),
        (
            {"path": "/usr/x", "mode": AccessMode.WRITE},
            False,
            "insufficient_access",
            None,
            None,
        ),
        (
            {"host": "a.example.com"},
            True,
            "host_allowed",
            "web",
            "network.allow_domain *.example.com",
        ),
        (
            {"host": "bad.example.com"},
            False,
            "host_denied",
            "web",
            "network.deny_domain bad.example.com",
        ),
        ({"host": "example.org"}, False, "host_not_allowed", None, None),
        ({"host": "169.254.169.254"}, False, "address_refused", None, None),
        (
            {"endpoint": ("GET", "/api/v1/models")},
            True,
            "endpoint_allowed",
            "web",
            "network.custom_credentials.api.endpoint_rules GET /v1/**",
        ),
        (
            {"endpoint": ("POST", "/api/v1/models")},
            False,
            "endpoint_not_allowed",
            "web",
            "network.custom_credentials.api",
        ),
        ({"endpoint": ("GET", "/other")}, False, "unknown_route", None, None),
    ],
)
def test_an_explanation_names_group_and_rule(
    served: Policy,
    question: dict[str, Any],
    allowed: bool,
    reason: str,
    group: str | None,
    rule: str | None,
) -> None:
    if "path" in question:
        question = question | {"path": Path(question["path"]).expanduser()}
    said = explain(served, ["system", "web"], **question)
    assert (said.allowed, said.reason, said.group, said.rule) == (allowed, reason, group, rule)
    assert ("allowed" if allowed else "denied") in str(said)
    assert pickle.loads(pickle.dumps(said)) == said


def test_an_upstream_is_reached_through_its_route_alone(
    served: Policy, plain_origin: Origin
) -> None:
    host, _, port = plain_origin.url.removeprefix("http://").partition(":")
    said = explain(served, ["web"], host=host, port=int(port))
    assert (said.allowed, said.reason) == (False, "route_only")
    assert (said.group, said.rule) == ("web", "network.custom_credentials.api")


def test_explanations_agree_with_runs(served: Policy, tmp_path: Path) -> None:
    for path in ("/usr/bin/env", "/etc/passwd", "/bin/sh", str(tmp_path), "/tmp", "/proc/1/maps"):
        done = run(served, ["system"], ["sh", "-c", f"test -d {path} && ls {path} || cat {path}"])
        said = explain(served, ["system"], path=path)
        assert said.allowed == (done.exit_code == 0), path


def test_without_rules_the_network_is_as_the_set_has_it(served: Policy) -> None:
    assert explain(served, ["system"], host="a.example").reason == "network_allowed"
    said = explain(served, ["offline"], host="a.example")
    assert (said.allowed, said.group, said.rule) == (False, "offline", "network.block")
    with pytest.raises(TypeError, match="one of path, host and endpoint"):
        explain(served, [])


@pytest.fixture
def ports() -> Policy:
    """Groups that block the network, open ports of it, or do both."""

    def group(**network: object) -> dict[str, object]:
        return {"description": "d", "network": network}

    groups = {
        "closed": group(block=True),
        "local": group(localhost_ports=[5432]),
        "wide": group(connect_ports=[5432]),
        "serving": group(bind_ports=[5432]),
        "narrow": group(block=True, connect_ports=[5432], bind_ports=[8000]),
        "few": group(max_connections=1, deny_domain=["a.example"]),
        "torn": group(block=True, allow_domain=["a.example"]),
    }
    return load_policy(json.dumps({"groups": groups}))


def test_what_one_group_blocks_no_other_opens(ports: Policy) -> None:
    for groups, opened in (
        (["closed", "wide"], "wide opens connect_ports 5432"),
        (["wide", "closed", "local"], "wide opens connect_ports 5432"),
        (["closed", "narrow"], "narrow opens connect_ports 5432"),
        (["closed", "serving"], "serving opens bind_ports 5432"),
        (["narrow", "serving"], "serving opens bind_ports 5432"),
        (["torn"], "torn opens some of it"),
    ):
        with pytest.raises(ValueError, match=f"group .* blocks the network, and {opened}"):
            run(ports, groups, ["true"])
        with pytest.raises(ValueError, match=opened):
            explain(ports, groups, host="192.0.2.1", port=5432)
    for groups in (["narrow", "wide"], ["narrow", "local"], ["closed", "local"]):
        assert explain(ports, groups, host="127.0.0.1", port=5432).allowed


@pytest.mark.parametrize(
    ("groups", "host", "port", "answer"),
    [
        ("closed local", "127.0.0.1", 5432, (True, "local", "network.localhost_ports 5432")),
        ("closed local", "192.0.2.1", 5432, (False, "closed", "network.block")),
        ("closed few", "b.example", 443, (False, "closed", "network.block")),
        ("closed local", "127.0.0.1", 80, (False, "closed", "network.block")),
        ("serving wide", "192.0.2.1", 5432, (True, "wide", "network.connect_ports 5432")),
        ("serving local", "192.0.2.1", 5432, (False, None, None)),
        ("local wide", "192.0.2.1", 5432, (True, "wide", "network.connect_ports 5432")),
        ("narrow", "a.example", 5432, (True, "narrow", "network.connect_ports 5432")),
        ("narrow", "a.example", 80, (False, "narrow", "network.block")),
        ("wide", "a.example", 80, (False, None, None)),
        ("local", "a.example", 80, (True, None, None)),
    ],
)
def test_an_explanation_of_a_port_names_who_opens_or_closes_it(
    ports: Policy, groups: str, host: str, port: int, answer: tuple[bool, str | None, str | None]
) -> None:
    said = explain(ports, groups.split(), host=host, port=port)
    assert (said.allowed, said.group, said.rule) == answer


@pytest.mark.parametrize("host", ["[::1]:x", "a b", "http://x", "999.999.999.999", "x..y"])
def test_what_is_no_host_is_not_called_allowed(ports: Policy, served: Policy, host: str) -> None:
    for policy, groups in ((ports, ["local"]), (ports, []), (served, ["web"])):
        with pytest.raises(ValueError, match="is not a host"):
            explain(policy, groups, host=host)


def test_the_command_line_runs_and_explains(tmp_path: Path) -> None:
    done = cli("run", "-g", "system_read_linux", "--", "sh", "-c", "echo out; exit 3")
    assert (done.stdout, done.returncode) == ("out\n", 3)
    done = cli("explain", "-g", "registry_python", "--host", "pypi.org:443")
    assert done.returncode == 0
    assert done.stdout.startswith("pypi.org:443: allowed (host_allowed) by group registry_python")
    done = cli("explain", "-g", "system_read_linux", "--path", "/etc/shadow")
    assert (done.returncode, "denied (path_not_granted)" in done.stdout) == (1, True)
    done = cli("run", "-g", "system_reed_linux", "--", "true")
    assert done.returncode == 125
    assert "did you mean `system_read_linux`?" in done.stderr
    file = tmp_path / "policy.json"
    file.write_text('{"groups": {"a": {"description": "Of mine."}}}')
    assert cli("policy", "--policy", str(file), "groups").stdout == "a: Of mine.\n"
    assert json.loads(cli("policy", "schema").stdout)["title"] == "nono policy"


def test_a_file_without_an_end_is_no_policy() -> None:
    done = cli("explain", "--policy", "/dev/zero", "-g", "web", "--path", "/etc")
    assert done.returncode != 0
    assert "/dev/zero: more than" in done.stderr


def test_a_policy_from_a_pipe_is_read_once() -> None:
    text = """{"groups": {"g": {"description": "d",
        "allow": {"read": ["/usr", "/bin", "/lib", "/lib64"]}}}}"""
    command = [sys.executable, "-m", "nono_py", "run", "--policy", "/dev/stdin", "-g", "g", "--"]
    command += ["sh", "-c", "exit 3", "/etc/passwd"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.startswith("note: the command may not read /etc/passwd without")


def test_the_command_line_says_what_it_names_and_does_not_grant(tmp_path: Path) -> None:
    agent = tmp_path / "agent.sh"
    agent.write_text("echo ran; ls $1")
    (tmp_path / "data").mkdir()
    groups = ["-g", "system_read_linux", "-g", "system_write_linux"]
    command = ["--", "sh", "agent.sh", "data", "", "nothing", "x" * 300]
    note = "note: the command may not read"
    done = cli("run", *groups, *command, cwd=tmp_path)
    assert done.returncode != 0
    assert f"{note} agent.sh without --read-file agent.sh, or --read . with it\n" in done.stderr
    assert f"{note} data without --read data\n" in done.stderr
    assert done.stderr.count(note) == 2
    done = cli("run", "--cwd", str(tmp_path), *groups, *command)
    assert f"agent.sh without --read-file {agent}, or --read {tmp_path} with it" in done.stderr
    done = cli("run", *groups, "--read", ".", *command, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)
    done = cli("run", *groups, "--read-file", "agent.sh", *command, cwd=tmp_path)
    assert (done.stdout, done.stderr.count(note)) == ("ran\n", 1)
    bare = ["run", "--bare", "--read", "/usr", "--read", "/bin", "--read", "/lib", *command]
    assert cli(*bare, cwd=tmp_path).stderr.count(note) == 2


def refusal(proxy: ProxyHandle, host: str, port: int) -> str | None:
    """Return the code that a running proxy refuses a tunnel with."""
    own = f"{host}:{port}"
    token = proxy.env_vars()["NONO_PROXY_TOKEN"]
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        head = (
            f"CONNECT {own} HTTP/1.1\r\nHost: {own}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        )
        connection.sendall(head.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        if response.status == 200:
            return None
        code: str = json.loads(response.read())["code"]
        return code


def test_explanations_of_hosts_agree_with_a_running_proxy(
    served: Policy, plain_origin: Origin
) -> None:
    with running(None) as other:
        ports = [int(server.url.rpartition(":")[2]) for server in (plain_origin, other)]
        web = {"allow_domain": [f"127.0.0.1:{ports[1]}", "*.example.com"]}
        web |= {"deny_domain": ["bad.example.com"]}
        route = {"api": {"prefix": "/api", "upstream": f"http://127.0.0.1:{ports[0]}"}}
        group = {"description": "d", "network": web | {"custom_credentials": route}}
        loaded = load_policy(json.dumps({"groups": {"web": group}}))
        config = loaded.resolve_proxy_config(["web"])
        assert config is not None
        questions = [
            ("127.0.0.1", ports[1]),
            ("127.0.0.1", ports[0]),
            ("2130706433", ports[1]),
            ("bad.example.com", 443),
            ("BAD.example.com.", 443),
            ("example.com", 443),
            ("169.254.169.254", 80),
            ("metadata.google.internal", 80),
        ]
        with start_proxy(config) as proxy:
            for host, port in questions:
                said = explain(loaded, ["web"], host=host, port=port)
                answered = refusal(proxy, host, port)
                expected = None if said.allowed else said.reason
                assert answered == expected, (host, port)


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        (b'{"groups": {"a": {"description": "d",\n"alow": {}}}}', "did you mean `allow`?", 2),
        (b"\xff", "no UTF-8 from byte 0 on", None),
    ],
)
def test_a_mistake_in_a_file_names_the_file(
    text: bytes, said: str, line: int | None, tmp_path: Path
) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(text)
    with pytest.raises(PolicyError, match=r"mine\.json: ") as caught:
        run(file, ["a"], ["true"])
    assert said in str(caught.value)
    assert (caught.value.line, caught.value.diagnostic_code) == (line, "configuration_error")
