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
