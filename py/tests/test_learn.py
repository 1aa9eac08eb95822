"""Learning: what a command did becomes a policy that it runs under, and that holds it to that."""

import json
import os
import pickle
import shutil
import socket
import socketserver
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nono_py import (
    AccessMode,
    CapabilitySet,
    Learned,
    Policy,
    PolicyError,
    QueryContext,
    RunResult,
    explain,
    learn,
    load_policy,
    run,
)
from origin import Origin
from users import run_as

PROGRAM = """
import json, os, pathlib, sys, tempfile, urllib.request
data = sorted(pathlib.Path("data").iterdir())
total = sum(int(path.read_text()) for path in data)
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
pathlib.Path("out/result.json").write_text(json.dumps({"total": total}))
for path in sys.argv[1:]:
    pathlib.Path(path).read_text()
if url := os.environ.get("API_BASE_URL"):
    key = os.environ["API_API_KEY"]
    request = urllib.request.Request(url + "/v1/models", headers={"Authorization": "Bearer " + key})
    assert urllib.request.urlopen(request, timeout=30).read() == b"hello"
print(total)
"""


@pytest.fixture
def work(place: Path) -> Path:
    """A project: a program, what it reads, and where it writes."""
    for name in ("data", "out", "other"):
        (place / name).mkdir()
    for number in range(5):
        (place / f"data/{number}").write_text(str(number))
    (place / "other/note").write_text("not to be read")
    (place / "bin").mkdir()
    (place / "bin/program.py").write_text(PROGRAM)
    return place


def again(learned: Learned, command: list[str], **options: Any) -> RunResult:
    return run(load_policy(learned.policy), learned.groups, command, **options)


def group(learned: Learned) -> Any:
    return json.loads(learned.policy)["groups"]["learned"]


def test_a_program_runs_under_what_was_learned_of_it_and_is_held_to_it(work: Path) -> None:
    command = [sys.executable, "bin/program.py"]
    learned = learn(command, cwd=work)
    assert learned.result.stdout == b"10\n", learned.result.stderr
    allowed = group(learned)["allow"]
    assert f"{work}/data/" in allowed["read"]
    assert allowed["write"] == [f"{work}/out/"]
    assert group(learned)["network"] == {"block": True}
    assert {"system_read_linux", "system_write_linux", "learned"} <= set(learned.groups)
    (work / "out/result.json").unlink()
    done = again(learned, command, cwd=work)
    assert (done.exit_code, done.stdout) == (0, b"10\n"), done.stderr
    assert json.loads((work / "out/result.json").read_text()) == {"total": 10}
    for outside in (work / "other/note", "/etc/passwd"):
        done = again(learned, [*command, str(outside)], cwd=work)
        assert (done.exit_code, b"PermissionError" in done.stderr) == (1, True)
    write = [sys.executable, "-c", "open('data/0', 'w')"]
    assert again(learned, write, cwd=work).exit_code == 1
    connect = "import socket; socket.create_connection(('127.0.0.1', 1))"
    done = again(learned, [sys.executable, "-c", connect], cwd=work)
    assert b"PermissionError" in done.stderr
    assert pickle.loads(pickle.dumps(learned.groups)) == learned.groups


def test_git_runs_under_what_was_learned_of_it(place: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    who = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    script = "git init -q r && cd r && echo a > f && git add f && git commit -qm m && git log"
    learned = learn(["sh", "-c", script], cwd=place, env=who)
    assert learned.result.exit_code == 0, learned.result.stderr
    shutil.rmtree(place / "r")
    done = again(learned, ["sh", "-c", script], cwd=place, env=who)
    assert done.exit_code == 0, done.stderr
    done = again(learned, ["sh", "-c", "echo x > ../elsewhere"], cwd=place)
    assert done.exit_code != 0
    assert not (place.parent / "elsewhere").exists()


def test_deep_directories_are_asked_about_where_a_grant_may_reach_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Counting:
        def __init__(self, caps: CapabilitySet) -> None:
            self._context = QueryContext(caps)

        def query_path(self, path: str, mode: AccessMode) -> Any:
            asked.append(path)
            return self._context.query_path(path, mode)

    monkeypatch.setattr("nono_py._learn_needs.QueryContext", Counting)
    levels = 60
    make = f"import os\nfor _ in range({levels}): os.mkdir('d'); os.chdir('d')"
    learned = learn([sys.executable, "-c", make], cwd=place)
    assert group(learned)["allow"]["write"] == [f"{place}/"]
    # No group is of this place: the kernel's answer is known without following the path.
    assert [path for path in asked if path.startswith(f"{place}/d")] == []
    assert asked


def test_secrets_are_listed_and_not_granted(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id").write_text("key")
    (home / "note").write_text("note")
    monkeypatch.setenv("HOME", str(home))
    (work / ".env").write_text("KEY=sk-secret")
    (work / "server.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (work / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    script = "cat ~/.ssh/id ~/note .env server.pem ca.pem data/0"
    command = ["sh", "-c", f"{script}; ls"]
    learned = learn(command, cwd=work)
    secret = ["~/.ssh/id", f"{work}/.env", f"{work}/server.pem"]
    assert learned.secrets == sorted(f"read {path}" for path in secret)
    policy = load_policy(learned.policy)
    for path, allowed in {
        home / ".ssh/id": False,
        home / "note": True,
        work / ".env": False,
        work / "server.pem": False,
        work / "ca.pem": True,
        work / "data/0": True,
    }.items():
        assert explain(policy, learned.groups, path=path).allowed == allowed, path
    done = again(learned, command, cwd=work)
    assert b"sk-secret" not in done.stdout
    assert b"PRIVATE" not in done.stdout


def own_group(access: str, path: Path) -> str:
    mine = {"description": "d", "allow": {access: [str(path)]}}
    return json.dumps({"groups": {"mine": mine}})


def test_secrets_within_what_a_chosen_group_grants_are_denied(work: Path) -> None:
    (work / "server.pem").write_text("-----BEGIN PRIVATE KEY-----")
    command = ["sh", "-c", "cat server.pem data/0; true"]
    learned = learn(command, ["mine"], policy=load_policy(own_group("read", work)), cwd=work)
    assert learned.secrets == [f"read {work}/server.pem"]
    assert group(learned)["deny"] == {"access": [f"{work}/server.pem"]}
    policy = load_policy(learned.policy)
    assert not explain(policy, learned.groups, path=work / "server.pem").allowed
    assert explain(policy, learned.groups, path=work / "data/0").allowed
    assert again(learned, command, cwd=work).stdout == b"0"


@pytest.mark.parametrize("of", ["", "server.pem"])
def test_secrets_that_cannot_be_kept_out_of_a_groups_grant_are_noted(work: Path, of: str) -> None:
    (work / "server.pem").write_text("-----BEGIN PRIVATE KEY-----")
    command = ["sh", "-c", "cat server.pem data/0; true"]
    policy = load_policy(own_group("read" if of else "readwrite", work / of))
    learned = learn(command, ["mine"], policy=policy, cwd=work)
    assert learned.secrets == [f"read {work}/server.pem"]
    assert f"{work}/server.pem is granted with {work / of}: move it away" in learned.notes
    # What cannot be denied is not: nothing would run under it.
    assert "deny" not in group(learned)
    assert again(learned, command, cwd=work).exit_code == 0


def test_names_that_a_policy_cannot_have_are_noted(place: Path) -> None:
    names = ["plain", os.fsdecode(b"odd-\xff"), "$HOME", "a*"]
    paths = [f"{place}/{number}/{name}" for number, name in enumerate(names)]
    for path in map(Path, paths):
        path.parent.mkdir()
        path.write_text("x")
    learned = learn(["cat", *paths], cwd=place)
    assert learned.result.stdout == b"xxxx", learned.result.stderr
    plain, *odd = paths
    assert plain in group(learned)["allow"]["read"]
    said = [note.partition(" cannot be written in a policy")[0] for note in learned.notes]
    assert said == sorted(map(repr, odd))
    assert again(learned, ["cat", *paths]).stdout == b"x"


SHUT = """
    import os, tempfile
    os.environ["HOME"] = tempfile.mkdtemp()
    os.chdir(os.environ["HOME"])
    os.mkdir("shut")
    open("shut/file", "w").write("x")
    from nono_py import learn
    learned = learn(["sh", "-c", "cat shut/file; chmod 0 shut"])
    print(learned.result.stdout, [note for note in learned.notes if "shut/file" in note])
    os.chmod("shut", 0o700)
"""


def test_what_the_command_has_shut_is_noted() -> None:
    done = run_as(65534 if os.getuid() == 0 else None, SHUT)
    said = "b'x' ['~/shut/file cannot be looked at any more: Permission denied']\n"
    assert done.stdout == said, done.stderr


def test_what_is_wrong_with_a_policy_is_told_before_the_command_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    with pytest.raises(PolicyError, match="HOME"):
        learn(["touch", "made"], cwd=place)
    assert not (place / "made").exists()


def test_what_is_everybodys_is_not_granted_whole(place: Path) -> None:
    learned = learn(["sh", "-c", "ls / > list"], cwd=place)
    assert [note for note in learned.notes if note.startswith("listed /:")]
    assert "/" not in group(learned)["allow"].get("read", [])


def test_requests_to_a_route_become_its_endpoint_rules(
    work: Path, plain_origin: Origin, key: str, tmp_path: Path
) -> None:
    api = {"prefix": "/api", "upstream": plain_origin.url, "credential_key": "env://REAL_KEY"}
    web = {"description": "d", "network": {"custom_credentials": {"api": api}}}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"groups": {"web": web}}))
    command = [sys.executable, "bin/program.py"]
    learned = learn(command, ["web"], policy=file, cwd=work)
    assert learned.result.exit_code == 0, learned.result.stderr
    route = group(learned)["network"]["custom_credentials"]["api"]
    assert route["endpoint_rules"] == [{"method": "GET", "path": "/v1/models"}]
    assert route["credential_key"] == "env://REAL_KEY"
    assert key not in learned.policy
    done = again(learned, command, cwd=work)
    assert done.exit_code == 0, done.stderr
    policy = load_policy(learned.policy)
    assert explain(policy, learned.groups, endpoint=("GET", "/api/v1/models")).allowed
    said = explain(policy, learned.groups, endpoint=("POST", "/api/v1/models"))
    assert (said.allowed, said.group) == (False, "learned")


def test_a_rule_is_of_what_was_asked_whatever_is_in_its_path(
    plain_origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REAL_KEY", "123:abcdefgh")
    api = {"prefix": "/api", "upstream": plain_origin.url, "credential_key": "env://REAL_KEY"}
    api |= {"inject_mode": "url_path", "path_pattern": "/bot{}/"}
    web = {"description": "d", "network": {"custom_credentials": {"api": api}}}
    policy = load_policy(json.dumps({"groups": {"web": web}}))
    long = "/".join("x" * 100 for _ in range(12))
    paths = ["getMe", "a*b/{c}/[d]", long]
    script = "".join(f'curl -sfg "$API_BASE_URL/bot$API_API_KEY/{path}" && ' for path in paths)
    command = ["sh", "-c", script + "echo done"]
    learned = learn(command, ["web"], policy=policy, cwd=tmp_path)
    assert learned.result.stdout.endswith(b"done\n"), learned.result.stderr
    rules = group(learned)["network"]["custom_credentials"]["api"]["endpoint_rules"]
    assert [rule["path"] for rule in rules][:2] == ["/bot*/a[*]b/[{]c[}]/[[]d]", "/bot*/getMe"]
    done = again(learned, command, cwd=tmp_path)
    assert done.stdout.endswith(b"done\n"), done.stderr
    named = load_policy(learned.policy)
    said = explain(named, learned.groups, endpoint=("GET", "/api/bot1/axb/{c}/[d]"))
    assert (said.allowed, said.reason) == (False, "endpoint_not_allowed")


class _Outer(socketserver.StreamRequestHandler):
    """A proxy that leads every tunnel to one place: the internet of a test."""

    leads_to: tuple[str, int]

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(self.leads_to) as upstream:
            back = threading.Thread(target=self._copy_back, args=(upstream,))
            back.start()
            while chunk := self.request.recv(65536):
                upstream.sendall(chunk)
            upstream.shutdown(socket.SHUT_WR)
            back.join()

    def _copy_back(self, upstream: socket.socket) -> None:
        while chunk := upstream.recv(65536):
            self.wfile.write(chunk)


@pytest.fixture
def outer(plain_origin: Origin) -> Iterator[int]:
    """The port of that proxy."""
    handler = type("_Here", (_Outer,), {"leads_to": ("127.0.0.1", plain_origin.port)})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


FETCH = """
import http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
login = {"Proxy-Authorization": "Bearer " + os.environ["NONO_PROXY_TOKEN"]}
connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=30)
connection.set_tunnel(sys.argv[1], 443, login)
connection.request("GET", "/")
print(connection.getresponse().read().decode())
"""


def test_hosts_that_are_reached_through_the_proxy_become_rules(place: Path, outer: int) -> None:
    web = {"description": "d", "network": {"upstream_proxy": f"127.0.0.1:{outer}"}}
    policy = load_policy(json.dumps({"groups": {"web": web}}))
    (place / "fetch.py").write_text(FETCH)
    command = [sys.executable, "fetch.py"]
    learned = learn([*command, "api.example.com"], ["web"], policy=policy, cwd=place)
    assert learned.result.stdout == b"hello\n", learned.result.stderr
    assert group(learned)["network"] == {"allow_domain": ["api.example.com:443"]}
    assert again(learned, [*command, "api.example.com"], cwd=place).stdout == b"hello\n"
    done = again(learned, [*command, "other.example.com"], cwd=place)
    assert b"403" in done.stderr
    assert [event["decision"] for event in done.events] == ["deny"]


def test_ports_that_are_used_past_the_proxy_become_rules(place: Path, plain_origin: Origin) -> None:
    source = (
        "import socket; "
        f"s = socket.create_connection(('127.0.0.1', {plain_origin.port})); "
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('192.0.2.1', 53))"
    )
    learned = learn([sys.executable, "-c", source], cwd=place)
    assert learned.result.exit_code == 0, learned.result.stderr
    network = group(learned)["network"]
    assert network == {"localhost_ports": [plain_origin.port], "block": True}
    assert [note for note in learned.notes if "UDP to 192.0.2.1:53" in note]
    connect = source.partition("u = ")[0]
    assert again(learned, [sys.executable, "-c", connect], cwd=place).exit_code == 0


def test_an_address_of_this_machine_is_one_also_in_the_clothes_of_ipv6(
    place: Path, plain_origin: Origin
) -> None:
    source = """
import os, socket, sys, urllib.parse
for port in [int(sys.argv[1]), urllib.parse.urlsplit(os.environ.get("HTTP_PROXY", "")).port]:
    if port is not None:
        socket.socket(socket.AF_INET6).connect(("::ffff:127.0.0.1", port))
"""
    command = [sys.executable, "-c", source, str(plain_origin.port)]
    learned = learn(command, cwd=place)
    assert learned.result.exit_code == 0, learned.result.stderr
    assert group(learned)["network"] == {"localhost_ports": [plain_origin.port], "block": True}
    assert not [note for note in learned.notes if "past the proxy" in note]
    done = again(learned, command, cwd=place)
    assert done.exit_code == 0, done.stderr


def test_what_is_learned_beside_a_group_that_opens_a_port_goes_with_it(place: Path) -> None:
    system = {"read": ["/usr", "/bin", "/lib", "/lib64"], "readwrite": ["/dev/null"]}
    opens = {"description": "d", "network": {"connect_ports": [5432]}, "allow": system}
    policy = load_policy(json.dumps({"groups": {"opens": opens}}))
    learned = learn(["true"], ["opens"], policy=policy, cwd=place)
    assert group(learned)["network"] == {"block": True, "connect_ports": [5432]}
    assert again(learned, ["true"]).exit_code == 0


def policy_of(**groups: dict[str, Any]) -> Policy:
    described = {name: {"description": "d", **group} for name, group in groups.items()}
    return load_policy(json.dumps({"groups": described}))


def test_what_a_given_group_denies_is_listed_and_not_granted(place: Path) -> None:
    (place / "secret").mkdir()
    (place / "secret/k").write_text("key")
    policy = policy_of(g={"deny": {"access": [f"{place}/secret"]}})
    learned = learn(["cat", f"{place}/secret/k"], ["g"], policy=policy, cwd=place)
    assert learned.secrets == [f"read {place}/secret/k"]
    assert b"key" not in again(learned, ["cat", f"{place}/secret/k"]).stdout
    learned = learn(["touch", f"{place}/new"], ["g"], policy=policy, cwd=place)
    assert [note for note in learned.notes if note.startswith(f"wrote in {place}: too much")]
    assert again(learned, ["true"]).exit_code == 0


def test_a_group_is_not_chosen_for_what_it_denies_besides(place: Path) -> None:
    for name in ("tool", "secret"):
        (place / name).mkdir()
        (place / name / "k").write_text(name)
    allow = {"read": [f"{place}/tool"]}
    policy = policy_of(
        tool={"allow": allow, "deny": {"access": [f"{place}/secret"]}},
        system_read_linux={
            "allow": {"read": ["/usr", "/bin", "/lib", "/lib64"]},
            "deny": {"access": [f"{place}/secret"]},
        },
    )
    command = ["sh", "-c", "cat tool/k secret/k > new && cat new"]
    learned = learn(command, policy=policy, cwd=place)
    assert not {"tool", "system_read_linux"} & set(learned.groups)
    assert explain(load_policy(learned.policy), learned.groups, path=place / "secret/k").allowed
    done = again(learned, command, cwd=place)
    assert (done.exit_code, done.stdout) == (0, b"toolsecret"), done.stderr
    # One whose denials hold anyway is as good as any.
    held = policy_of(tool={"allow": allow}, g={"deny": {"access": [f"{place}/secret"]}})
    assert "tool" in learn(["cat", "tool/k"], ["g"], policy=held, cwd=place).groups


def test_groups_that_grant_what_they_deny_are_told_of_before_the_command_runs(place: Path) -> None:
    policy = policy_of(
        g={"allow": {"readwrite": [str(place)]}, "deny": {"access": [f"{place}/secret"]}}
    )
    with pytest.raises(RuntimeError, match="deny-overlap"):
        learn(["touch", "made"], ["g"], policy=policy, cwd=place)
    assert not (place / "made").exists()


def test_a_group_that_is_chosen_for_its_files_opens_no_network_and_limits_nothing(
    place: Path,
) -> None:
    (place / "a").write_text("a")
    network = {"allow_domain": ["tool.example"], "connect_ports": [5432]}
    policy = policy_of(
        tool={
            "allow": {"read": [str(place)]},
            "network": network,
            "limits": {"max_open_files": 1},
        },
        web={"network": {"allow_domain": ["a.example"]}},
        offline={"network": {"block": True}},
    )
    command = ["cat", f"{place}/a"]
    for given in ([], ["offline"]):
        learned = learn(command, given, policy=policy, cwd=place)
        assert "tool" in learned.groups
        assert group(learned)["network"] == {"block": True}
        assert again(learned, command).stdout == b"a"
    learned = learn(command, ["web"], policy=policy, cwd=place)
    loaded = load_policy(learned.policy)
    assert "tool" in learned.groups
    assert explain(loaded, learned.groups, host="a.example").allowed
    for host, port in (("tool.example", 443), ("192.0.2.1", 5432)):
        assert not explain(loaded, learned.groups, host=host, port=port).allowed


def test_what_a_given_group_blocks_is_not_opened(place: Path) -> None:
    policy = policy_of(
        offline={"network": {"block": True}}, narrow={"network": {"block": True, "bind_ports": [1]}}
    )
    source = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 18432))"
    command = [sys.executable, "-c", source]
    learned = learn(command, ["offline"], policy=policy, cwd=place)
    assert learned.result.exit_code == 0, learned.result.stderr
    assert group(learned)["network"] == {"block": True}
    assert "offline blocks the network: no bind_ports for 18432" in learned.notes
    assert again(learned, ["true"]).exit_code == 0
    learned = learn(command, ["narrow"], policy=policy, cwd=place)
    assert group(learned)["network"] == {"block": True, "bind_ports": [1]}


def test_what_a_required_group_opens_goes_with_what_is_learned(place: Path) -> None:
    policy = policy_of(base={"required": True, "network": {"allow_domain": ["a.example"]}})
    learned = learn(["true"], policy=policy, cwd=place)
    assert "block" not in group(learned)["network"]
    assert again(learned, ["true"]).exit_code == 0


def test_another_programs_socket_is_listed(place: Path) -> None:
    path = place / "door"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        learned = learn([sys.executable, "-c", connect], cwd=place)
    assert learned.result.exit_code == 0, learned.result.stderr
    assert learned.secrets == [f"connected to the unix socket {path}"]
    assert "unix_sockets" not in learned.policy


def test_the_command_line_prints_a_policy_and_how_to_use_it(work: Path) -> None:
    learn_it = [sys.executable, "-m", "nono_py", "learn"]
    done = subprocess.run(
        [*learn_it, "--", "sh", "-c", "cat data/0; exit 3"],
        capture_output=True,
        text=True,
        cwd=work,
        timeout=60,
    )
    assert done.returncode == 3
    assert "NO SANDBOX" in done.stderr
    assert "may be more to learn" in done.stderr
    assert load_policy(done.stdout).group_description("learned")
    out = work / "learned.json"
    command = [*learn_it, "-o", str(out), "--", "cat", "data/0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    # The last line is a command that works as it is.
    line = done.stderr.splitlines()[-1].partition("then: ")[2]
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    use = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, cwd=work, env=environment
    )
    assert (use.returncode, use.stdout) == (0, "0"), use.stderr


def test_where_the_policy_goes_is_opened_before_the_command_runs(work: Path) -> None:
    learn_it = [sys.executable, "-m", "nono_py", "learn", "-o"]
    command = [*learn_it, str(work / "none" / "p.json"), "--", "touch", "ran"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert "p.json" in done.stderr
    assert not (work / "ran").exists()
    # A file that is there keeps what it holds where nothing is learned; none is left empty.
    (work / "old.json").write_text("old")
    for name in ("old.json", "new.json"):
        command = [*learn_it, name, "--", "no-such-program"]
        assert subprocess.run(command, capture_output=True, cwd=work, timeout=60).returncode == 125
    assert (work / "old.json").read_text() == "old"
    assert not (work / "new.json").exists()
    command = [*learn_it, "old.json", "--", "true"]
    assert subprocess.run(command, capture_output=True, cwd=work, timeout=60).returncode == 0
    assert load_policy((work / "old.json").read_text()).group_description("learned")


def test_a_policy_that_its_file_does_not_take_is_printed(work: Path) -> None:
    learn_it = [sys.executable, "-m", "nono_py", "learn", "-o", "/dev/full"]
    done = subprocess.run(
        [*learn_it, "--", "true"], capture_output=True, text=True, cwd=work, timeout=60
    )
    assert done.returncode == 125
    assert "No space left" in done.stderr
    assert load_policy(done.stdout).group_description("learned")


def test_what_cannot_be_learned_is_an_error(place: Path) -> None:
    with pytest.raises(TypeError, match="one string"):
        learn(["true"], "web")
    with pytest.raises(ValueError, match="unknown policy group"):
        learn(["true"], ["no_such_group"])
    with pytest.raises(RuntimeError, match="program not found"):
        learn(["no-such-program"])


NESTED = """
import nono_py, nono_py._nono_py as inner
caps = nono_py.CapabilitySet()
caps.allow_path("/usr", nono_py.AccessMode.READ)
try:
    inner._observe(inner._Command(caps, ["true"]))
except nono_py.SandboxError as error:
    print(error.diagnostic_code, error)
"""


def test_within_a_sandbox_that_judges_addresses_nothing_can_be_learned(caps: CapabilitySet) -> None:
    done = run(None, ["offline", "system_read_linux"], [sys.executable, "-c", NESTED], caps=caps)
    said = b"unsupported_platform_feature not supported here: network limits by address"
    assert done.stdout.startswith(said), done.stderr
