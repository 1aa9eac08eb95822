"""The real OpenAI SDK, configured by nothing but the environment of `sandbox_env`."""

from collections.abc import Iterator
from typing import Any

import pytest
from nono_py import ProxyHandle
from openai import APIStatusError, OpenAI
from origin import TOKENS, Origin

QUESTION: list[Any] = [{"role": "user", "content": "?"}]


@pytest.fixture
def client(proxy: ProxyHandle, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    for name, value in proxy.sandbox_env():
        monkeypatch.setenv(name, value)
    with OpenAI(max_retries=0, timeout=20) as made:
        yield made


def test_a_plain_answer(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="m", messages=QUESTION)
    assert reply.choices[0].message.content == "".join(TOKENS)


def test_a_stream_comes_token_by_token(client: OpenAI, origin: Origin) -> None:
    origin.tokens.release()
    stream = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    received = []
    for event in stream:
        received.append(event.choices[0].delta.content)
        # The next token is not even sent before this one is here.
        origin.tokens.release()
    assert received == list(TOKENS)


def test_the_upstream_gets_the_key_and_not_the_token(
    client: OpenAI, origin: Origin, proxy: ProxyHandle, key: str
) -> None:
    client.chat.completions.create(model="m", messages=QUESTION)
    (request,) = origin.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.values("Authorization") == [f"Bearer {key}"]
    assert request.values("Host") == [f"localhost:{origin.port}"]
    assert request.values("Proxy-Authorization") == []
    assert proxy.env_vars()["NONO_PROXY_TOKEN"] not in request


def test_the_client_never_has_the_key(client: OpenAI, key: str) -> None:
    reply = client.chat.completions.with_raw_response.create(model="m", messages=QUESTION)
    assert key not in client.api_key
    assert key not in repr(reply.headers) + reply.text


def test_a_wrong_token_is_an_api_error(client: OpenAI, origin: Origin) -> None:
    with pytest.raises(APIStatusError) as caught:
        client.with_options(api_key="wrong").chat.completions.create(model="m", messages=QUESTION)
    # The proxy is asked itself, and not as a proxy: nothing has shown the token beside the key.
    assert caught.value.status_code == 401
    assert caught.value.response.json()["code"] == "token_required"
    assert origin.requests == []
