"""The JSON Schema of policies: what it accepts, the parser accepts."""

import copy
import json
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from nono_py import embedded_policy_json, load_policy, policy_schema_json

SCHEMA = json.loads(policy_schema_json())
VALIDATOR = Draft202012Validator(SCHEMA)
PATHS = [
    "/a", "a/b", ".", "~", "~/", "~/a", "$HOME", "$TMPDIR/x", "$XDG_CACHE_HOME/x", "/run/$UID/a",
    "$UID", "", "~a", "$HOM", "$HOMEX", "$HOME$UID", "/a/$HOME", "/*", "\x00", "\n", "~\n",
    "$HOME\n", "/ü", "$", "/$UIDX", "/$UID_", "a~", "${HOME}",
]  # fmt: skip
VALUES: list[object] = [
    None,
    True,
    0,
    1,
    1.0,
    1.5,
    -1,
    65535,
    65536,
    2**53 - 1,
    2**53,
    1e300,
    "",
    "x",
    [],
    {},
]


def accepts(document: object) -> bool:
    try:
        load_policy(json.dumps(document))
    except ValueError:
        return False
    return True


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    target: dict[str, Any] = SCHEMA
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def generate(schema: dict[str, Any], rng: random.Random) -> Any:
    """Return something that the schema is likely to accept, of any of its forms."""
    schema = resolve(schema)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        names = list(schema.get("properties", {}))
        chosen = [n for n in names if n in schema.get("required", ()) or rng.random() < 0.4]
        made = {name: generate(schema["properties"][name], rng) for name in chosen}
        if isinstance(other := schema.get("additionalProperties"), dict):
            made |= {rng.choice("abc"): generate(other, rng) for _ in range(rng.randrange(3))}
        return made
    if kind == "array":
        return [generate(schema["items"], rng) for _ in range(rng.randrange(3))]
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "integer":
        return rng.choice([schema.get("minimum", -3), schema.get("maximum", 7), 80, 443.0])
    if kind == "string":
        return rng.choice(PATHS if "pattern" in schema else ["", "x", "$HOME", "ü"])
    return rng.choice(VALUES)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a document with each of its keys."""
    if isinstance(value, dict):
        own: list[tuple[Any, Any]] = [(value, key) for key in value]
        return own + [place for item in value.values() for place in places(item)]
    if isinstance(value, list):
        own = [(value, index) for index in range(len(value))]
        return own + [place for item in value for place in places(item)]
    return []


def mutate(document: Any, rng: random.Random) -> Any:
    changed = copy.deepcopy(document)
    container, key = rng.choice(places(changed) or [({"": 0}, "")])
    match rng.randrange(4):
        case 0:
            del container[key]
        case 1:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        case 2 if isinstance(container, dict):
            container[rng.choice(["allow_proxy", "x", "", "prefix", key + "s"])] = container[key]
        case _:
            container[key] = rng.choice(PATHS)
    return changed


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(embedded_policy_json()))


@pytest.mark.parametrize("seed", range(8))
def test_what_the_schema_accepts_the_parser_accepts(seed: int) -> None:
    rng = random.Random(seed)
    both = refused = 0
    for _ in range(250):
        document = generate(SCHEMA, rng)
        for candidate in (document, mutate(document, rng), mutate(mutate(document, rng), rng)):
            if VALIDATOR.is_valid(candidate):
                both += 1
                assert accepts(candidate), json.dumps(candidate)
            else:
                refused += 1
    # Or the test would say nothing.
    assert both > 50
    assert refused > 50


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_judged_alike(path: str) -> None:
    group = {"description": "", "deny": {"access": [path]}}
    document = {"groups": {"g": group}}
    # The schema may be narrower where nobody would write it.
    assert VALIDATOR.is_valid(document) == accepts(document) or path == "\n"


@pytest.mark.parametrize("name", sorted(SCHEMA["$defs"]))
def test_unknown_fields_are_refused_by_both(name: str) -> None:
    if SCHEMA["$defs"][name]["type"] != "object":
        return
    parts: dict[str, Any] = {
        "group": {"x": 1},
        "network": {"network": {"x": 1}},
        "limits": {"limits": {"x": 1}},
        "route": {"network": {"custom_credentials": {"a": {"preset": "openai", "x": 1}}}},
    }
    document = {"groups": {"g": {"description": "", **parts[name]}}}
    assert not VALIDATOR.is_valid(document)
    assert not accepts(document)
