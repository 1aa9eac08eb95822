"""Credentials in the desktop's keyring: written by one program, put on requests by the proxy."""

import sys

from conftest import Authority, Desktop
from origin import Origin

PROGRAM = """
import sys, urllib.request
import keyring
from nono_py import ProxyConfig, RouteConfig, start_proxy

upstream, authority, key = sys.argv[1:]
keyring.set_password("nono", "openai", key)
keyring.set_password("work", "me", key + "-work")

def route(prefix, credential_key):
    return RouteConfig(prefix, upstream, credential_key=credential_key, tls_ca=authority)

routes = [route("/plain", "openai"), route("/named", "keyring://work/me"), route("/none", "gone")]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with start_proxy(ProxyConfig(routes=routes)) as proxy:
    print(*[f"{found['route_prefix']} {found['code']}" for found in proxy.diagnostics()])
    env = proxy.credential_env_vars()
    assert env["OPENAI"] == env["PLAIN_API_KEY"] == env["NAMED_API_KEY"]
    for name in ("PLAIN", "NAMED"):
        login = {"Authorization": f"Bearer {env[name + '_API_KEY']}"}
        with direct.open(urllib.request.Request(env[name + "_BASE_URL"], headers=login)) as reply:
            print(reply.status)
"""


#: What `python -m nono_py` stores is there for others, as text.
READER = """
import subprocess, sys
import keyring

key = sys.argv[1]
command = [sys.executable, "-m", "nono_py", "credential", "set"]
for name in ("ours", "keyring://work/me"):
    subprocess.run([*command, name], input=key.encode(), check=True, stdout=subprocess.DEVNULL)
assert keyring.get_password("nono", "ours") == key
assert keyring.get_password("work", "me") == key
tool = ["secret-tool", "lookup", "service", "nono", "username", "ours"]
assert subprocess.run(tool, capture_output=True, text=True, check=True).stdout == key
"""


#: The keyring is there only later, is locked, open, and started anew.
LATE = """
import subprocess, sys, time, urllib.error, urllib.request
import keyring
from nono_py import ProxyConfig, RouteConfig, start_proxy

upstream, authority, key = sys.argv[1:]
route = RouteConfig("/late", upstream, credential_key="late", tls_ca=authority)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def keyring_daemon():
    command = ["gnome-keyring-daemon", "--replace", "--unlock", "--components=secrets"]
    subprocess.run(command, input=b"\\n", check=True, stdout=subprocess.DEVNULL)

with start_proxy(ProxyConfig(routes=[route], credential_timeout_secs=10)) as proxy:
    env = proxy.credential_env_vars()
    login = {"Authorization": f"Bearer {env['LATE_API_KEY']}"}
    asked = urllib.request.Request(env["LATE_BASE_URL"], headers=login)

    def status():
        try:
            return direct.open(asked).status
        except urllib.error.HTTPError as error:
            return error.code

    (found,) = proxy.diagnostics()
    print(found["code"], status())
    keyring_daemon()
    keyring.set_password("nono", "late", key)
    deadline = time.monotonic() + 40
    while status() != 200:
        assert time.monotonic() < deadline, proxy.diagnostics()
    print(proxy.diagnostics())
    keyring_daemon()
    print(proxy.reload_credentials())
"""


def test_a_keyring_that_is_there_later(
    origin: Origin, authority: Authority, key: str, desktop: Desktop
) -> None:
    command = [sys.executable, "-c", LATE, origin.url, str(authority.file), key]
    done = desktop.run(command, is_open=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["credential_unavailable 503", "[]", "[]"]
    assert {value for request in origin.requests for value in request.values("Authorization")} == {
        f"Bearer {key}"
    }


def test_a_key_that_python_wrote(
    origin: Origin, authority: Authority, key: str, desktop: Desktop
) -> None:
    done = desktop.run([sys.executable, "-c", PROGRAM, origin.url, str(authority.file), key])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["none credential_not_found", "200", "200"]
    seen = [request.values("Authorization") for request in origin.requests]
    assert seen == [[f"Bearer {key}"], [f"Bearer {key}-work"]]


def test_a_key_that_others_read(key: str, desktop: Desktop) -> None:
    done = desktop.run([sys.executable, "-c", READER, key])
    assert done.returncode == 0, done.stderr
