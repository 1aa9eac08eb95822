"""What the APIs answer, as far as their SDKs look: whole, or as the events of a stream."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """How one API says a text."""

    whole: Callable[[str], object]
    piece: Callable[[str], bytes]
    opening: bytes = b""
    closing: bytes = b""


def of(path: str) -> Shape:
    """Return the shape that clients of `path` expect."""
    if "/messages" in path:
        return ANTHROPIC
    return GEMINI if "enerateContent" in path else OPENAI


def is_streamed(path: str, body: bytes) -> bool:
    """Return whether a request asks for a stream."""
    return ":streamGenerateContent" in path or b'"stream":true' in body.replace(b" ", b"")


def _event(data: Any) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _openai(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": None, **choice}
    return {"id": "x", "object": kind, "created": 0, "model": "m", "choices": [choice]}


def _anthropic(content: list[Any]) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    return {**message, "content": content, "stop_reason": "end_turn", "stop_sequence": None}


def _gemini(text: str) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"index": 0, "content": content}], "modelVersion": "m"}


OPENAI = Shape(
    whole=lambda text: _openai(
        "chat.completion",
        {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
    ),
    piece=lambda text: _event(_openai("chat.completion.chunk", {"delta": {"content": text}})),
    closing=b"data: [DONE]\n\n",
)
_DELTA = {"stop_reason": "end_turn", "stop_sequence": None}
_BLOCK = {"index": 0, "content_block": {"type": "text", "text": ""}}
ANTHROPIC = Shape(
    whole=lambda text: _anthropic([{"type": "text", "text": text}]),
    opening=_event({"type": "message_start", "message": _anthropic([])})
    + _event({"type": "content_block_start", **_BLOCK}),
    piece=lambda text: _event(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    ),
    closing=_event({"type": "content_block_stop", "index": 0})
    + _event({"type": "message_delta", "delta": _DELTA, "usage": {"output_tokens": 3}})
    + _event({"type": "message_stop"}),
)
GEMINI = Shape(whole=_gemini, piece=lambda text: _event(_gemini(text)))
