"""What `pickle` calls to make a value of what it has kept."""

from typing import Any, TypeVar

from nono_py._nono_py import CapabilitySet, SandboxState

_Value = TypeVar("_Value")


def capability_set(json: str) -> CapabilitySet:
    """Return the set that was pickled, its paths opened anew."""
    return SandboxState.from_json(json).to_caps()


def value(of: "type[_Value]", arguments: "dict[str, Any]") -> "_Value":
    """Return a configuration, judged anew."""
    return of(**arguments)
