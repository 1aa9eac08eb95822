"""The real SDKs with each way in which a route can put its key on a request."""

import base64
import os
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Authority
from nono_py import InjectMode, ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from origin import TOKENS, Origin, Request
from test_sdks import Azure, Claude, Gemini, Sdk

MODES = {
    InjectMode.HEADER: {"inject_header": "x-real-key"},
    InjectMode.BASIC_AUTH: {},
    InjectMode.QUERY_PARAM: {"query_param_name": "real_key"},
    InjectMode.URL_PATH: {"path_pattern": "/as/{}/"},
}


@pytest.fixture(params=[Sdk, Azure, Claude, Gemini], ids=lambda sdk: sdk.preset)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    made = request.param()
    assert isinstance(made, Sdk)
    return made


@pytest.fixture(params=list(MODES), ids=lambda mode: mode.name)
def mode(request: pytest.FixtureRequest) -> InjectMode:
    return InjectMode(request.param)


@pytest.fixture
def secret(mode: InjectMode, key: str) -> str:
    """The key; for Basic with the user that it belongs to."""
    return f"user:{key}" if mode is InjectMode.BASIC_AUTH else key


@pytest.fixture
def proxy(
    sdk: Sdk,
    mode: InjectMode,
    secret: str,
    origin: Origin,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ProxyHandle]:
    preset: Any = sdk.preset
    options: Any = MODES[mode]
    route = RouteConfig.preset(
        preset,
        credential_key=None,
        credential=secret,
        upstream=origin.url + sdk.base,
        tls_ca=authority.file,
        inject_mode=mode,
        **options,
    )
    with start_proxy(ProxyConfig(routes=[route])) as handle:
        for name in [n for n in os.environ if n.upper().endswith(("_PROXY", "_API_KEY"))]:
            monkeypatch.delenv(name)
        token = handle.env_vars()["NONO_PROXY_TOKEN"]
        for name, value in handle.credential_env_vars().items():
            # Where the key is a part of the path, the client has to say which.
            is_base = mode is InjectMode.URL_PATH and value != token
            monkeypatch.setenv(name, f"{value}/as/{token}" if is_base else value)
        yield handle


def where(request: Request, mode: InjectMode, secret: str) -> bool:
    """Return whether the key is where it belongs."""
    if mode is InjectMode.HEADER:
        return request.values("x-real-key") == [secret]
    if mode is InjectMode.BASIC_AUTH:
        encoded = base64.b64encode(secret.encode()).decode()
        return request.values("Authorization") == [f"Basic {encoded}"]
    if mode is InjectMode.QUERY_PARAM:
        return f"real_key={secret}" in request.path.partition("?")[2].split("&")
    return f"/as/{secret}/" in request.path


def test_the_key_is_put_where_it_belongs(
    sdk: Sdk, mode: InjectMode, secret: str, proxy: ProxyHandle, origin: Origin
) -> None:
    assert sdk.ask() == "".join(TOKENS)
    (request,) = origin.requests
    assert where(request, mode, secret), request
    assert proxy.env_vars()["NONO_PROXY_TOKEN"] not in request
    proxy.shutdown()
    (record,) = proxy.drain_audit_events()
    assert (record["status"], record["injection_mode"]) == (200, mode.name.lower())
    assert secret.removeprefix("user:") not in repr(record)
