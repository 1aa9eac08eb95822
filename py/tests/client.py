"""A client of a proxy's routes."""

import urllib.error
import urllib.request
from dataclasses import dataclass

from nono_py import ProxyHandle

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Reply:
    """What a proxy answered."""

    status: int
    text: str


def get(proxy: ProxyHandle, path: str) -> Reply:
    """Ask a route for a path, with the session token as the key."""
    login = {"Authorization": f"Bearer {proxy.env_vars()['NONO_PROXY_TOKEN']}"}
    request = urllib.request.Request(f"http://{proxy.address}{path}", headers=login)
    try:
        with _direct.open(request, timeout=30) as reply:
            return Reply(reply.status, reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read().decode())
