"""Adapters in PEFT's format: adapter_config.json and adapter_model.safetensors, by the Hub's names."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.adapters import layers
from zoo.adapters.lora import LoRA
from zoo.errors import CheckpointError
from zoo.extras import require
from zoo.hub import config as hub_config
from zoo.hub import names, pulling, weights
from zoo.specs import HubModel, make

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."
"""What PEFT puts before the names of the model that it wraps."""

_SILENT = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out",
        "inference_mode", "init_lora_weights",
        "layers_pattern", "layers_to_transform", "modules_to_save", "peft_type", "peft_version", "revision",
        "runtime_config", "task_type",
    }
)  # fmt: skip
"""Keys that say nothing about the numbers of a forward pass, or nothing that the tensors' names do not."""

_TASKS = {
    "text-generation": "CAUSAL_LM",
    "text2text-generation": "SEQ_2_SEQ_LM",
    "text-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
    "sentence-similarity": "FEATURE_EXTRACTION",
}
"""PEFT's words for tasks."""


def save(module: "ZooModule", folder: str | Path, name: str, head: str | None) -> Path:
    """Writes an adapter, and the head's own weights where they are trained beside it.

    Args:
        module: Whose it is.
        folder: Where.
        name: The adapter's.
        head: The name of the head; None where there is none.
    """
    from peft import get_peft_model_state_dict

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = get_peft_model_state_dict(module.backbone, adapter_name=name, save_embedding_layers=False)
    tensors = {}
    for key, tensor in own.items():
        layer, _, rest = key.partition(".lora_")
        tensors[f"{module.in_files(layers.hub_name(layer, module.spec.weights), head)}.lora_{rest}"] = tensor
    trained = _head_targets(module, head)
    given: Any = module.backbone.peft_config[name]  # type: ignore[index]
    repo_id, _, commit = (module.origin or "").partition("@")
    config = replace(
        given,
        target_modules={key.partition(".lora_")[0] for key in tensors},
        modules_to_save=sorted({_whole(key, module.spec.prefix) for key in trained}) or None,
        base_model_name_or_path=repo_id or _folder_of(module),
        revision=commit or None,
        task_type=_TASKS.get(module.head_specs[head].task) if head else None,
        inference_mode=True,
    )  # fmt: skip
    config.save_pretrained(str(folder))
    made = {
        f"{_PREFIX}{key}": tensor.detach().cpu().contiguous() for key, tensor in (tensors | trained).items()
    }
    save_file(made, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder


def _folder_of(module: "ZooModule") -> str | None:
    return module.source.name if isinstance(module.source, HubModel) else None


def _whole(key: str, prefix: str) -> str:
    """The outermost part of a head that a tensor belongs to; among the backbone's, its own layer."""
    is_beside = bool(prefix) and key.startswith(prefix)
    return key.rpartition(".")[0] if is_beside else key.partition(".")[0]


def _head_targets(module: "ZooModule", head: str | None) -> dict[str, Tensor]:
    """The weights of a head that is trained beside an adapter, by their names on the Hub."""
    if head is None or module.head(head).stays:
        return {}
    table = module.hub_head(head).weights
    return names.named_tensors(module.head(head), table, module.head(head).not_in_files)


def fetched(adapter: str | Path) -> Path:
    """The folder with an adapter's files; of a Hub id, fetched.

    Raises:
        CheckpointError: They are not to be had.
    """
    if (folder := Path(adapter)).is_dir():
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} holds no {name}, so it is no adapter in PEFT's format")
        return folder
    model = pulling.pinned(HubModel(str(adapter)), CONFIG_FILE)
    pulling.fetch_file(model, CONFIG_FILE)
    return pulling.fetch_file(model, WEIGHTS_FILE).parent


def read(folder: Path) -> tuple[dict[str, Any], LoRA]:
    """What adapter_config.json says, and the adapter that it describes.

    Raises:
        CheckpointError: It is another kind than LoRA, or asks for what is not done here.
    """
    from peft import LoraConfig

    config = hub_config.read_json(folder / CONFIG_FILE)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{folder} holds an adapter of kind {config.get('peft_type')}, not LORA")
    own = {item.name for item in fields(LoRA)} - {"target_modules", "quantization"}
    usual = LoraConfig().to_dict()
    for key, value in config.items():
        if key not in own | _SILENT | {"target_modules"} and value and value != usual.get(key):
            raise CheckpointError(f"`{key}` of {folder / CONFIG_FILE} must be {usual.get(key)}, got {value}")
    return config, make(LoRA, {key: value for key, value in config.items() if key in own})


@torch.no_grad()
def load(module: "ZooModule", folder: Path, name: str, head: str | None) -> LoRA:
    """Puts an adapter from its files into a module, and fills the head that they hold, if any.

    Args:
        module: It is built.
        folder: With the files.
        name: Under which the adapter is known from now on.
        head: The name of the head; None where there is none.

    Returns:
        What was added, its targets by our names.

    Raises:
        CheckpointError: The adapter is for another base, or for another head.
    """
    require("an adapter", "peft", "peft")
    from peft import set_peft_model_state_dict

    config, lora = read(folder)
    _require_base(module, config, folder)
    layers.make_linear(module.backbone)
    with weights.open_file(folder / WEIGHTS_FILE) as file:
        tensors = {key.removeprefix(_PREFIX): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    known = {
        spelled: own
        for own, _ in layers.projections(module.backbone)
        for spelled in _spellings(module, layers.hub_name(own, module.spec.weights), head)
    }
    targets = _head_targets(module, head)
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, is_lora, rest = key.partition(".lora_")
        if key in targets:
            _require_shape(module, folder, key, tensor, targets[key].shape)
        elif is_lora and layer in known:
            part = module.backbone.get_submodule(known[layer])
            _require_shape(module, folder, key, tensor, _shape(part, rest, lora))
            found[f"{known[layer]}.lora_{rest}"] = tensor
        else:
            raise _of_another_base(module, folder, f"holds `{key}`, which is not there")
    if targets and (missing := sorted(targets.keys() - tensors.keys())) and len(missing) < len(targets):
        raise CheckpointError(f"tensor `{missing[0]}` is missing from {folder}")
    lora = replace(lora, target_modules=sorted({key.partition(".lora_")[0] for key in found}))
    layers.inject(module.backbone, lora, name, lora.target_modules or [])
    set_peft_model_state_dict(module.backbone, found, adapter_name=name)
    for key in targets.keys() & tensors.keys():
        targets[key].copy_(tensors[key])
    return lora


def _spellings(module: "ZooModule", name: str, head: str | None) -> Iterator[str]:
    """How a layer may be called in files with this head, and in those without any."""
    whole = module.in_files(name, head)
    yield whole
    yield whole.removeprefix(module.spec.prefix)
    yield f"{module.spec.prefix}{whole}"


def _shape(part: nn.Module, rest: str, lora: LoRA) -> tuple[int, ...]:
    """What an adapter's tensor has beside a layer."""
    sizes: Mapping[str, tuple[int, ...]] = {
        "A": (lora.r, part.in_features),  # type: ignore[dict-item]
        "B": (part.out_features, lora.r),  # type: ignore[dict-item]
    }
    return sizes.get(rest[0], (part.out_features,))  # type: ignore[arg-type]


def _require_shape(
    module: "ZooModule", folder: Path, key: str, tensor: Tensor, shape: tuple[int, ...]
) -> None:
    if tuple(tensor.shape) != tuple(shape):
        fault = f"has `{key}` of shape {tuple(tensor.shape)}, where {tuple(shape)} would fit"
        raise _of_another_base(module, folder, fault)


def _require_base(module: "ZooModule", config: Mapping[str, Any], folder: Path) -> None:
    """Refuses an adapter that names another model of the Hub than the module came from."""
    theirs, mine = str(config.get("base_model_name_or_path")), (module.origin or "").partition("@")[0]
    if mine and theirs.count("/") == 1 and not Path(theirs).exists() and theirs != mine:
        raise _of_another_base(module, folder, f"was trained on {theirs}")


def _of_another_base(module: "ZooModule", folder: Path, fault: str) -> CheckpointError:
    mine = module.origin or type(module.spec).__name__
    return CheckpointError(
        f"the adapter in {folder} is for another base than {mine}: it {fault}",
        hint="load the base that its adapter_config.json names",
    )
