"""Builders of events: dictionaries as a log has them, checked."""

import json
import uuid
from typing import Any, Literal

from nono_py._errors import ConfigurationError
from nono_py._nono_py import _audit_model
from nono_py.audit._models import ApprovalDecision, ScrubPolicyDiffPayload
from nono_py.audit._text import text


def event_text(event: object) -> str:
    """Return an event, an object or a dictionary, as JSON."""
    try:
        return text(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"event: {error}") from error


def _built(model: str, event: dict[str, Any]) -> dict[str, Any]:
    built: dict[str, Any] = json.loads(_audit_model(model, event_text(event)))
    return built


def session_started(
    *,
    started: str,
    command: list[str],
    redaction_policy: "dict[str, Any] | ScrubPolicyDiffPayload | None" = None,
) -> dict[str, Any]:
    """Build the event with which a session's log begins."""
    event = {"type": "session_started", "started": started, "command": command}
    return _built("SessionStartedEvent", {**event, "redaction_policy": redaction_policy})


def session_ended(*, ended: str, exit_code: int) -> dict[str, Any]:
    """Build the event with which a session's log ends."""
    event = {"type": "session_ended", "ended": ended, "exit_code": exit_code}
    return _built("SessionEndedEvent", event)


def capability_decision(
    *,
    timestamp: str,
    path: str,
    access: Literal["Read", "Write", "ReadWrite"],
    child_pid: int,
    session_id: str,
    decision: ApprovalDecision,
    backend: str,
    duration_ms: int,
    request_id: str | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Build the event of a decision about a path."""
    request = {
        "request_id": _id(request_id),
        "path": path,
        "access": access,
        "reason": reason,
        "child_pid": child_pid,
        "session_id": session_id,
    }
    entry = {
        "timestamp": timestamp,
        "request": request,
        "decision": decision,
        "backend": backend,
        "duration_ms": duration_ms,
    }
    return _built("CapabilityDecisionEvent", {"type": "capability_decision", "entry": entry})


def url_open(
    *,
    url: str,
    child_pid: int,
    session_id: str,
    success: bool,
    error: str | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Build the event of a URL that was to be opened outside the sandbox."""
    request = {
        "request_id": _id(request_id),
        "url": url,
        "child_pid": child_pid,
        "session_id": session_id,
    }
    event = {"type": "url_open", "request": request, "success": success, "error": error}
    return _built("UrlOpenEvent", event)


def network(
    *,
    timestamp_unix_ms: int,
    mode: str,
    decision: str,
    target: str,
    route_id: str | None = None,
    auth_mechanism: str | None = None,
    auth_outcome: str | None = None,
    managed_credential_active: bool | None = None,
    injection_mode: str | None = None,
    denial_category: str | None = None,
    port: int | None = None,
    method: str | None = None,
    path: str | None = None,
    status: int | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Build the event of something of the network."""
    return _built("NetworkEvent", {"type": "network", "event": dict(locals())})


def approval_granted() -> ApprovalDecision:
    """Return the decision that something is granted."""
    return "Granted"


def approval_timeout() -> ApprovalDecision:
    """Return the decision that nobody made in time."""
    return "Timeout"


def approval_denied(reason: str) -> dict[str, Any]:
    """Return the decision that something is denied, and why."""
    return {"Denied": {"reason": reason}}


def _id(given: str | None) -> str:
    return uuid.uuid4().hex if given is None else given
