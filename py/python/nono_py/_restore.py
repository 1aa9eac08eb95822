"""What `pickle` calls to make a set of the text that it has kept."""

from nono_py._nono_py import CapabilitySet, SandboxState


def capability_set(json: str) -> CapabilitySet:
    """Return the set that was pickled, its paths opened anew."""
    return SandboxState.from_json(json).to_caps()
