"""The real SDKs, each led by nothing but the `credential_env_vars()` of its preset."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic import Anthropic
from conftest import Authority
from google import genai
from nono_py import ProxyConfig, ProxyHandle, RouteConfig, start_proxy
from openai import AzureOpenAI, OpenAI
from origin import TOKENS, Origin

QUESTION: list[Any] = [{"role": "user", "content": "?"}]


class Sdk:
    """One SDK: what it is asked for is `TOKENS`, whole or in pieces."""

    preset = "openai"
    base = "/v1"
    key_header = "Authorization"
    key_format = "Bearer {}"
    path = "/chat/completions"

    def ask(self) -> str | None:
        with OpenAI(max_retries=0, timeout=20) as client:
            reply = client.chat.completions.create(model="m", messages=QUESTION)
            return reply.choices[0].message.content

    def stream(self) -> Iterator[str | None]:
        with OpenAI(max_retries=0, timeout=20) as client:
            for event in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
                yield event.choices[0].delta.content


class Azure(Sdk):
    preset = "azure-openai"
    base = ""
    key_header = "api-key"
    key_format = "{}"
    path = "/openai/deployments/m/chat/completions?api-version=1"

    def ask(self) -> str | None:
        with AzureOpenAI(api_version="1", max_retries=0, timeout=20) as client:
            reply = client.chat.completions.create(model="m", messages=QUESTION)
            return reply.choices[0].message.content

    def stream(self) -> Iterator[str | None]:
        with AzureOpenAI(api_version="1", max_retries=0, timeout=20) as client:
            for event in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
                yield event.choices[0].delta.content


class Claude(Sdk):
    preset = "anthropic"
    base = ""
    key_header = "x-api-key"
    key_format = "{}"
    path = "/v1/messages"

    def ask(self) -> str | None:
        with Anthropic(max_retries=0, timeout=20) as client:
            reply = client.messages.create(model="m", max_tokens=9, messages=QUESTION)
            return "".join(block.text for block in reply.content if block.type == "text")

    def stream(self) -> Iterator[str | None]:
        with (
            Anthropic(max_retries=0, timeout=20) as client,
            client.messages.stream(model="m", max_tokens=9, messages=QUESTION) as stream,
        ):
            yield from stream.text_stream


class Gemini(Sdk):
    preset = "gemini"
    base = ""
    key_header = "x-goog-api-key"
    key_format = "{}"
    # What comes before is the version of the API that the SDK prefers.
    path = "/models/m:generateContent"

    def ask(self) -> str | None:
        with genai.Client() as client:
            return client.models.generate_content(model="m", contents="?").text

    def stream(self) -> Iterator[str | None]:
        with genai.Client() as client:
            for event in client.models.generate_content_stream(model="m", contents="?"):
                yield event.text


@dataclass(frozen=True)
class Stage:
    """An SDK whose environment is that of a running proxy."""

    sdk: Sdk
    proxy: ProxyHandle
    token: str


@pytest.fixture(params=[Sdk, Azure, Claude, Gemini], ids=lambda sdk: sdk.preset)
def stage(
    request: pytest.FixtureRequest,
    origin: Origin,
    authority: Authority,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    sdk = request.param()
    route = RouteConfig.preset(
        sdk.preset,
        credential_key="env://REAL_KEY",
        upstream=origin.url + sdk.base,
        tls_ca=authority.file,
    )
    with start_proxy(ProxyConfig(routes=[route])) as proxy:
        for name in [n for n in os.environ if n.upper().endswith(("_PROXY", "_API_KEY"))]:
            monkeypatch.delenv(name)
        for name, value in proxy.credential_env_vars().items():
            monkeypatch.setenv(name, value)
        yield Stage(sdk, proxy, proxy.env_vars()["NONO_PROXY_TOKEN"])


def check(stage: Stage, origin: Origin, key: str) -> None:
    """Look at what arrived, and at what was recorded."""
    (request,) = origin.requests
    assert request.method == "POST"
    assert request.values(stage.sdk.key_header) == [stage.sdk.key_format.format(key)]
    assert stage.token not in request
    assert repr(request).count(key) == 1
    stage.proxy.shutdown()
    (record,) = stage.proxy.drain_audit_events()
    assert (record["status"], record["route_id"]) == (200, stage.sdk.preset)
    assert (record["auth_mechanism"], record["managed_credential_active"]) == (
        "phantom_header",
        True,
    )


def test_a_whole_answer(stage: Stage, origin: Origin, key: str) -> None:
    assert stage.sdk.ask() == "".join(TOKENS)
    assert origin.requests[0].path.endswith(stage.sdk.base + stage.sdk.path)
    check(stage, origin, key)


def test_a_stream_comes_piece_by_piece(stage: Stage, origin: Origin, key: str) -> None:
    origin.tokens.release()
    received = []
    for piece in stage.sdk.stream():
        received.append(piece)
        # The next one is not even sent before this one is here.
        origin.tokens.release()
    assert received == list(TOKENS)
    check(stage, origin, key)
