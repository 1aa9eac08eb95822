"""Events as objects: what they are made of is checked by the same code that records them.

They are used as the models of pydantic are: made of keyword arguments, compared, copied, shown,
and turned into dictionaries and JSON and back. What is wrong is a `ValueError` that names the
field.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

from nono_py._errors import ConfigurationError
from nono_py._nono_py import _audit_model
from nono_py.audit._text import text

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:
    _T = TypeVar("_T")

    def dataclass_transform(**_: object) -> "Any":
        """Only type checkers need to know."""
        return lambda item: item


ApprovalDecision: TypeAlias = Literal["Granted", "Timeout"] | dict[str, Any]

#: What is in a list that is not given. Every object has a copy of it.
_NONE: list[str] = []


class Field(NamedTuple):
    """A field of a model: of what type it is, and what it is if it is not given."""

    annotation: Any
    default: Any = ...

    def is_required(self) -> bool:
        """Whether it has to be given."""
        return self.default is ...


@dataclass_transform(kw_only_default=True, eq_default=True)
class _Model:
    """What all models share. A subclass names its fields, and those that are models themselves."""

    #: The fields by their names, in the order in which they are written down, and shown.
    model_fields: ClassVar[dict[str, Field]] = {}
    #: What the format calls it: a class of somebody's own is of the form that it is derived from.
    _form: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        given = cls.__annotations__
        if _Model in cls.__bases__:
            cls._form = cls.__name__
            cls.model_fields = {
                name: Field(kind, getattr(cls, name, ...)) for name, kind in given.items()
            }
        elif more := [name for name in given if name not in cls.model_fields]:
            raise TypeError(f"{cls.__name__}: {cls._form} has no field {more[0]!r}, as its format")

    def __init__(self, /, **data: Any) -> None:
        name = self._form
        members = []
        for key, value in data.items():
            try:
                members.append(f"{text(key)}:{text(value)}")
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigurationError(f"{name}: {key}: {error}") from error
        self._fill(json.loads(_audit_model(name, "{" + ",".join(members) + "}")), data)

    def _fill(self, data: Mapping[str, Any], given: object) -> None:
        """Take over what was checked. `given` is what that was before."""
        if isinstance(given, _Model):
            names, given = set(given.model_fields_set), dict(given)
        else:
            given = given if isinstance(given, Mapping) else data
            names = set(given)
        object.__setattr__(self, "_given", names)
        for name, field in self.model_fields.items():
            default = None if field.is_required() else field.default
            value = data.get(name, list(default) if default is _NONE else default)
            model = _model_of(name, value)
            if model is not None:
                nested: _Model = model.__new__(model)
                nested._fill(value, given.get(name))
                value = nested
            object.__setattr__(self, name, value)

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the fields that were given, or set since."""
        # One that an earlier version pickled has no such note.
        given: set[str] = self.__dict__.setdefault("_given", set(self.model_fields))
        return given

    @classmethod
    def model_validate(cls, value: object) -> "Self":
        """Make one of a mapping; one that is one already is returned as it is."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            kind = type(value).__name__
            raise ConfigurationError(f"{cls.__name__}: a mapping is needed, not {kind}")
        return cls(**{str(key): item for key, item in value.items()})

    @classmethod
    def model_validate_json(cls, value: str | bytes) -> "Self":
        """Make one of JSON."""
        given = value if isinstance(value, str) else value.decode("utf-8")
        model: Self = cls.__new__(cls)
        model._fill(json.loads(_audit_model(cls._form, given)), json.loads(given))
        return model

    def model_dump(
        self,
        *,
        mode: Literal["python", "json"] = "python",
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """Return it as a dictionary of all its fields, or without what was not given or is `None`.

        In both modes the values are those of JSON: there are no others.
        """
        if mode not in ("python", "json"):
            raise ConfigurationError(f"mode {mode!r} is not 'python' or 'json'")

        def dumped(value: object) -> object:
            if isinstance(value, _Model):
                return value.model_dump(exclude_unset=exclude_unset, exclude_none=exclude_none)
            # Of JSON: what is changed in the dictionary must not change the model.
            return copy.deepcopy(value) if isinstance(value, list | dict) else value

        return {
            name: dumped(value)
            for name, value in self
            if not (exclude_unset and name not in self.model_fields_set)
            and not (exclude_none and value is None)
        }

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> str:
        """Return what `model_dump` does as JSON."""
        separators = (",", ":") if indent is None else None
        dumped = self.model_dump(exclude_unset=exclude_unset, exclude_none=exclude_none)
        return json.dumps(dumped, indent=indent, separators=separators, ensure_ascii=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> "Self":
        """Return another one, with the fields in `update` changed; those are not checked."""
        model: Self = type(self).__new__(type(self))
        object.__setattr__(model, "_given", set(self.model_fields_set))
        for name, value in self:
            object.__setattr__(model, name, value)
        for name, value in (update or {}).items():
            setattr(model, name, value)
        return model

    __copy__ = model_copy

    def to_wire(self) -> dict[str, Any]:
        """Return it as the format has it: without what may be left out."""
        wire: dict[str, Any] = json.loads(_audit_model(self._form, text(dict(self))))
        return wire

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.model_fields:
            raise ConfigurationError(f'"{type(self).__name__}" object has no field "{name}"')
        object.__setattr__(self, name, value)
        self.model_fields_set.add(name)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.model_fields)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self)
        return f"{type(self).__name__}({fields})"


class ScrubPolicyDiffPayload(_Model):
    """What a policy of redaction adds to the default one, and what it takes away."""

    added_flags: list[str] = _NONE
    removed_flags: list[str] = _NONE
    added_headers: list[str] = _NONE
    removed_headers: list[str] = _NONE
    added_query_keys: list[str] = _NONE
    removed_query_keys: list[str] = _NONE


class SessionStartedEvent(_Model):
    """The beginning of a session."""

    type: Literal["session_started"]
    started: str
    command: list[str]
    redaction_policy: ScrubPolicyDiffPayload | None = None


class SessionEndedEvent(_Model):
    """The end of a session."""

    type: Literal["session_ended"]
    ended: str
    exit_code: int


class CapabilityRequestPayload(_Model):
    """A path that was asked for."""

    request_id: str
    path: str
    access: Literal["Read", "Write", "ReadWrite"]
    reason: str | None = None
    child_pid: int
    session_id: str


class AuditEntryPayload(_Model):
    """What was asked for, and the answer."""

    timestamp: str
    request: CapabilityRequestPayload
    decision: ApprovalDecision
    backend: str
    duration_ms: int


class CapabilityDecisionEvent(_Model):
    """A decision about a path."""

    type: Literal["capability_decision"]
    entry: AuditEntryPayload


class UrlOpenRequestPayload(_Model):
    """A URL that was to be opened, and who asked for it."""

    request_id: str
    url: str
    child_pid: int
    session_id: str


class UrlOpenEvent(_Model):
    """A URL that was to be opened outside the sandbox."""

    type: Literal["url_open"]
    request: UrlOpenRequestPayload
    success: bool
    error: str | None = None


class NetworkAuditEventPayload(_Model):
    """Something of the network, and what was decided about it."""

    timestamp_unix_ms: int
    mode: str
    decision: str
    route_id: str | None = None
    auth_mechanism: str | None = None
    auth_outcome: str | None = None
    managed_credential_active: bool | None = None
    injection_mode: str | None = None
    denial_category: str | None = None
    target: str
    port: int | None = None
    method: str | None = None
    path: str | None = None
    status: int | None = None
    reason: str | None = None


class NetworkEvent(_Model):
    """Something of the network."""

    type: Literal["network"]
    event: NetworkAuditEventPayload


AuditEvent: TypeAlias = (
    SessionStartedEvent | SessionEndedEvent | CapabilityDecisionEvent | UrlOpenEvent | NetworkEvent
)


class AuditEventRecord(_Model):
    """A line of a log."""

    sequence: int
    prev_chain: str | None = None
    leaf_hash: str
    chain_hash: str
    event_json: str | None = None
    event: AuditEvent


_EVENTS: dict[str, type[_Model]] = {
    "session_started": SessionStartedEvent,
    "session_ended": SessionEndedEvent,
    "capability_decision": CapabilityDecisionEvent,
    "url_open": UrlOpenEvent,
    "network": NetworkEvent,
}


def _model_of(name: str, value: object) -> type[_Model] | None:
    """Return the model that a field holds, if it holds one."""
    if not isinstance(value, dict):
        return None
    if name == "request":
        return UrlOpenRequestPayload if "url" in value else CapabilityRequestPayload
    if name == "event":
        return _EVENTS[value["type"]] if "type" in value else NetworkAuditEventPayload
    return {"entry": AuditEntryPayload, "redaction_policy": ScrubPolicyDiffPayload}.get(name)
