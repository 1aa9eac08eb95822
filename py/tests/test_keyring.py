"""Credentials in the desktop's keyring: written by one program, put on requests by the proxy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Authority
from origin import Origin

PROGRAMS = ("dbus-run-session", "gnome-keyring-daemon")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

#: Opens a keyring with an empty password, then becomes Python.
SESSION = (
    'printf "\\n" | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$@"'
)
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


def test_a_key_that_python_wrote(
    origin: Origin, authority: Authority, key: str, tmp_path: Path
) -> None:
    command = ["dbus-run-session", "--", "sh", "-c", SESSION, "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [*command, origin.url, str(authority.file), key],
        env={"PATH": f"{sys.exec_prefix}/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["none credential_not_found", "200", "200"]
    seen = [request.values("Authorization") for request in origin.requests]
    assert seen == [[f"Bearer {key}"], [f"Bearer {key}-work"]]
