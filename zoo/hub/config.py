"""config.json to a family's spec, and back."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import CheckpointError, SpecError, UnknownNameError
from zoo.specs import BackboneSpec, HeadSpec, make
from zoo.untrusted import require_size, require_types, short

FILE = "config.json"

MOST_LAYERS, LARGEST = 10_000, 10**8
LARGEST_JSON_BYTES = 2**26
"""An index of a model with a million tensors has as many."""

# Keys that every family's config.json may carry and that say nothing about the numbers of a forward pass.
_SILENT = frozenset(
    {
        "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "architectures", "auto_map", "dtype",
        "finetuning_task", "gradient_checkpointing", "id2label", "is_decoder", "is_encoder_decoder",
        "label2id", "model_type", "num_labels", "output_attentions", "output_hidden_states", "prefix",
        "problem_type", "return_dict", "task_specific_params", "tokenizer_class", "torch_dtype",
        "torchscript", "transformers_version", "use_cache",
    }
)  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says.

    Raises:
        CheckpointError: There is none, or it is no JSON object.
    """
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {FILE}, so it is no model in the Hub's format")
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{path} names no `model_type`, so no family can be found for it")
    return config


def spec_of(config: dict[str, Any], source: str) -> BackboneSpec:
    """The spec that a config.json describes.

    Raises:
        SpecError: A key or a value that the family does not have, with `source` as its place.
        UnknownNameError: No plugin registers the `model_type`.
    """
    family: type[BackboneSpec] = registry.family(config["model_type"])
    # A family of several `model_type`s has a field for it, as for all that it wants to know.
    ignored = (_SILENT | family.ignored) - {item.name for item in fields(family)}
    try:
        kept = {key: value for key, value in _modernised(config).items() if key not in ignored}
        values = family.of_config(kept)
        require_types(family, values)
        _require_sane(values)
        return make(family, values)
    except (SpecError, UnknownNameError) as error:
        error.source = source
        raise


def _modernised(config: dict[str, Any]) -> dict[str, Any]:
    """Files before 2026 say `rope_theta` and `rope_scaling` in place of `rope_parameters`."""
    config = dict(config)
    theta, scaling = config.pop("rope_theta", None), config.pop("rope_scaling", None)
    if theta is None and scaling is None:
        return config
    given = config.get("rope_parameters") or scaling or {}
    if not isinstance(given, dict):
        raise SpecError(f"`rope_scaling` must be an object, got {short(given)}", at="rope_scaling")
    rope = dict(given)
    if "type" in rope:
        rope.setdefault("rope_type", rope["type"])
        del rope["type"]
    if theta is not None:
        rope.setdefault("rope_theta", theta)
    return {**config, "rope_parameters": rope}


def _require_sane(values: Mapping[str, Any]) -> None:
    """Refuses sizes that no model has, before anything is built by them."""
    for name, value in values.items():
        if isinstance(value, int):
            is_size = name.startswith("num_") or name.endswith(("_size", "_dim"))
            most = MOST_LAYERS if name.endswith("_layers") else LARGEST if is_size else 2**31
            if abs(value) > most:
                raise SpecError(f"`{name}` is at most {most:,} in any model, got {short(value)}", at=name)


def config_of(spec: BackboneSpec, head: HeadSpec | None, dtype: str) -> dict[str, Any]:
    """The config.json of a spec, alone or under one head."""
    named = head.hub_head(spec).architecture if head else spec.architecture
    return {
        "architectures": [named],
        "dtype": dtype,
        "model_type": registry.model_type_of(type(spec)),
        **({"is_encoder_decoder": True} if spec.shape == "encoder-decoder" else {}),
        **spec.to_hub(),
        **(head.to_hub() if head else {}),
    }


def write_json(value: dict[str, Any], path: Path) -> None:
    """As the Hub's own tools write it: sorted, indented by two, with a newline at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        CheckpointError: It holds none.
    """
    require_size(path, LARGEST_JSON_BYTES)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path} cannot be read: it is nested too deeply") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value
