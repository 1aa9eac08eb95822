"""`RouteConfig.preset`, and the variables of routes."""

from collections.abc import Sequence
from typing import Any

import pytest
from nono_py import InjectMode, ProxyConfig, RouteConfig, start_proxy

KEY = "env://REAL_KEY"
AZURE = "https://mine.openai.azure.com"
BEARER, OPENAI = "Authorization", "https://api.openai.com/v1"


def preset(name: Any, **overrides: Any) -> RouteConfig:
    overrides = {"credential_key": KEY, **overrides}
    if name == "azure-openai":
        overrides.setdefault("upstream", AZURE)
    return RouteConfig.preset(name, **overrides)


def environment(*routes: RouteConfig) -> dict[str, str]:
    """Return the variables of the routes, with words in place of what changes."""
    with start_proxy(ProxyConfig(routes=routes)) as proxy:
        token, base = proxy.env_vars()["NONO_PROXY_TOKEN"], f"http://{proxy.address}"
        values = proxy.credential_env_vars().items()
        return {name: "token" if v == token else v.removeprefix(base) for name, v in values}


@pytest.mark.parametrize(
    ("name", "upstream", "header", "base_url_vars", "key_vars"),
    [
        ("openai", OPENAI, BEARER, ["OPENAI_BASE_URL", "OPENAI_API_BASE"], ["OPENAI_API_KEY"]),
        (
            "anthropic",
            "https://api.anthropic.com",
            "x-api-key",
            ["ANTHROPIC_BASE_URL"],
            ["ANTHROPIC_API_KEY"],
        ),
        (
            "gemini",
            "https://generativelanguage.googleapis.com",
            "x-goog-api-key",
            ["GOOGLE_GEMINI_BASE_URL", "GEMINI_BASE_URL"],
            ["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        ),
        (
            "azure-openai",
            AZURE,
            "api-key",
            ["AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_BASE_URL"],
            ["AZURE_OPENAI_API_KEY"],
        ),
        ("mistral", "https://api.mistral.ai/v1", BEARER, ["MISTRAL_BASE_URL"], ["MISTRAL_API_KEY"]),
        ("groq", "https://api.groq.com", BEARER, ["GROQ_BASE_URL"], ["GROQ_API_KEY"]),
        (
            "openrouter",
            "https://openrouter.ai/api/v1",
            BEARER,
            ["OPENROUTER_BASE_URL", "OPENROUTER_API_BASE"],
            ["OPENROUTER_API_KEY"],
        ),
        (
            "github",
            "https://api.github.com",
            BEARER,
            ["GITHUB_API_URL", "GITHUB_BASE_URL"],
            ["GITHUB_TOKEN", "GH_TOKEN", "GITHUB_API_KEY"],
        ),
    ],
)
def test_says_what_the_api_needs(
    name: str, upstream: str, header: str, base_url_vars: Sequence[str], key_vars: Sequence[str]
) -> None:
    route = preset(name)
    assert (route.prefix, route.upstream, route.inject_header) == (f"/{name}", upstream, header)
    expected = dict.fromkeys(base_url_vars, f"/{name}") | dict.fromkeys(key_vars, "token")
    assert environment(route) == expected


def test_all_presets_in_one_proxy() -> None:
    names = ["openai", "anthropic", "gemini", "azure-openai"]
    names += ["mistral", "groq", "openrouter", "github"]
    assert len(environment(*map(preset, names))) == 24


def test_overrides_win() -> None:
    route = preset(
        "gemini",
        prefix="/g",
        inject_mode=InjectMode.QUERY_PARAM,
        query_param_name="key",
        key_vars=["MY_KEY"],
        endpoint_rules=[("POST", "/v1beta/**")],
    )
    assert (route.prefix, route.inject_mode) == ("/g", InjectMode.QUERY_PARAM)
    assert route.endpoint_rules == [("POST", "/v1beta/**")]
    bases = dict.fromkeys(["G_BASE_URL", "GOOGLE_GEMINI_BASE_URL"], "/g")
    assert environment(route) == bases | {"G_API_KEY": "token", "MY_KEY": "token"}


def test_the_header_is_kept_for_the_mode_that_it_belongs_to() -> None:
    assert preset("anthropic", inject_mode=InjectMode.HEADER).inject_header == "x-api-key"
    assert preset("anthropic", inject_mode=InjectMode.BASIC_AUTH).inject_header == "Authorization"


def test_without_a_credential_the_client_brings_its_own() -> None:
    route = preset("openai", credential_key=None)
    assert (route.credential_key, route.key_vars) == (None, [])
    assert environment(route) == dict.fromkeys(["OPENAI_BASE_URL", "OPENAI_API_BASE"], "/openai")
    route = preset("anthropic", credential_key=None)
    assert environment(route) == {"ANTHROPIC_BASE_URL": "/anthropic"}


def test_a_forgotten_credential_is_an_error() -> None:
    with pytest.raises(TypeError, match="credential_key"):
        RouteConfig.preset("openai")  # type: ignore[call-arg]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r'preset "opnai".* openai, anthropic, gemini'):
        preset("opnai")


def test_an_unknown_override_is_an_error() -> None:
    with pytest.raises(TypeError, match="headers"):
        preset("openai", headers={})


def test_azure_needs_its_endpoint() -> None:
    with pytest.raises(ValueError, match="upstream"):
        RouteConfig.preset("azure-openai", credential_key=KEY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url_vars", "HTTP_PROXY"),
        ("base_url_vars", "A B"),
        ("key_vars", "LD_PRELOAD"),
        ("key_vars", "1KEY"),
    ],
)
def test_variables_that_cannot_be(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f'{field} "{value}"'):
        preset("openai", **{field: [value]})


def test_a_key_variable_needs_a_credential() -> None:
    with pytest.raises(ValueError, match=r'key_vars "KEY".*credential_key'):
        preset("openai", credential_key=None, key_vars=["KEY"])


def test_routes_may_share_key_variables_but_not_base_urls() -> None:
    again = preset("openai", prefix="/more", base_url_vars=[])
    values = environment(preset("openai"), again)
    assert values["OPENAI_API_KEY"] == values["MORE_API_KEY"] == "token"
    with pytest.raises(ValueError, match='base_url_vars "OPENAI_BASE_URL"'):
        ProxyConfig(routes=[preset("openai"), preset("openai", prefix="/more")])
    clash = preset("openai", prefix="/more", base_url_vars=[], key_vars=["OPENAI_BASE_URL"])
    with pytest.raises(ValueError, match='key_vars "OPENAI_BASE_URL"'):
        ProxyConfig(routes=[preset("openai"), clash])
