"""The spec: JSON in and out, documented, and strict."""

import json
from dataclasses import fields
from typing import Any

import torch
from jsonargparse import ArgumentParser

from zoo.errors import SpecError
from zoo.hub.config import config_of, spec_of
from zoo.specs import BackboneSpec, from_plain
from zoo.testing.families import Family
from zoo.words import meanings


def spec_survives_json(family: Family) -> None:
    """A spec comes back from JSON, as recipes and as config.json write it, as it was."""
    spec = family.spec()
    again = from_plain(json.loads(json.dumps(spec.to_plain())))
    assert again == spec, f"{again} came back from JSON in place of {spec}"
    if family.is_registered:
        config = json.loads(json.dumps(config_of(spec, None, "float32")))
        read = spec_of(config, "config.json")  # which may name what the spec left to be computed
        assert read.to_hub() == spec.to_hub(), f"{read} came back from config.json in place of {spec}"


def spec_survives_the_command_line(family: Family) -> None:
    """A spec comes back from the parser of recipes as it was."""
    spec = family.spec()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=BackboneSpec)
    parsed = parser.parse_object({"it": spec.to_plain()})
    again = parser.instantiate(parser.parse_string(parser.dump(parsed))).it
    assert again == spec, f"{again} came back from the parser in place of {spec}"


def every_field_is_documented(family: Family) -> None:
    """Every field says what it is in a text below it, or is one of the Hub's common words."""
    known = meanings(family.kind)
    silent = [item.name for item in fields(family.kind) if item.name not in known]
    assert not silent, f"nothing says what these are: {', '.join(silent)}"


def bad_sizes_are_refused(family: Family) -> None:
    """A size below one, a probability above one, and heads that do not share a width evenly are refused."""
    sizes = {
        name: value
        for name, value in vars(family.spec()).items()
        if name.startswith("num_") or "_size" in name
    }
    for name in (name for name, value in sizes.items() if type(value) is int):
        least = _least(family, name)
        for wrong in (least - 1, least - 2):
            _require_refused(family, name, wrong)
    for name in (item.name for item in fields(family.kind) if "dropout" in item.name):
        _require_refused(family, name, 1.5)
    _require_refused_or_built(family, num_attention_heads=sizes.get("num_attention_heads", 0) + 3)


def _least(family: Family, name: str) -> int:
    """One; where nothing, or less, is the default, it has a meaning."""
    defaults = (item.default for item in fields(family.kind) if item.name == name)
    return min(1, next((default for default in defaults if type(default) is int), 1))


def _require_refused(family: Family, name: str, value: float) -> None:
    try:
        family.spec(**{name: value})
    except SpecError:
        return
    raise AssertionError(f"`{name}` may be {value}; `super().__post_init__()` refuses it")


def _require_refused_or_built(family: Family, **sizes: Any) -> None:
    if not all(name in {item.name for item in fields(family.kind)} for name in sizes):
        return
    try:
        spec = family.spec(**sizes)
    except SpecError:
        return
    try:
        module = family.fresh(**sizes)
        with torch.no_grad():
            module.hidden_states(family.batch())
    except Exception as error:
        raise AssertionError(
            f"{spec} is accepted, and cannot be computed: {type(error).__name__}: {error}; refuse it in "
            "`__post_init__`, as `require_divides` does"
        ) from error
