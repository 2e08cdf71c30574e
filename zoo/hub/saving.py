"""A model as a folder that `from_pretrained` of transformers loads."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo.errors import CheckpointError
from zoo.generation.settings import FILE as GENERATION_FILE
from zoo.heads import sentence_transformers
from zoo.hub import config as hub_config
from zoo.hub import weights
from zoo.tokenizer.reading import FILES as TOKENIZER_FILES

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

# What a model's folder may hold under these names belongs to its model.
_OWN = (
    *TOKENIZER_FILES,
    *sentence_transformers.FILES,
    GENERATION_FILE,
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
_GENERATION_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def save(module: "ZooModule", folder: str | Path, head: str | None = None) -> Path:
    """Writes config.json, model.safetensors, the tokenizer's files and generation_config.json of what writes.

    The files are written aside and then moved, so the folder never holds half a model. Those of a model that
    was there before go; other files stay.

    Args:
        module: What is saved.
        folder: Where.
        head: The name of the one that is saved, where there are several.

    Raises:
        CheckpointError: The folder is a file.
        ZooError: Which of several heads was not said.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; a model is saved as a folder")
    name = module.head_name(head) if module.head_specs else None
    module.build()
    module = module.merged()
    whole = Path(os.path.abspath(folder))  # "." has no name
    aside = whole.with_name(f".{whole.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _write(module, name, aside)
        folder.mkdir(exist_ok=True)
        written = {path.relative_to(aside) for path in aside.rglob("*") if path.is_file()}
        held = [path for pattern in _OWN for path in folder.glob(pattern)]
        for old in [path for path in held if path.relative_to(folder) not in written]:
            old.unlink()
        for file in sorted(written):
            (folder / file).parent.mkdir(exist_ok=True)
            os.replace(aside / file, folder / file)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(module: "ZooModule", head: str | None, folder: Path) -> None:
    tensors = module.hub_tensors(head)
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    spec = module.head_specs[head] if head else None
    config = hub_config.config_of(module.spec, spec, str(dtype).removeprefix("torch."))
    if module.tokenizer is not None:
        module.tokenizer.save(folder)
        for name in ("bos_token", "eos_token", "pad_token"):
            if config.get(f"{name}_id") is None:
                config[f"{name}_id"] = module.tokenizer.special_id(name)
    hub_config.write_json(config, folder / hub_config.FILE)
    for name, value in (spec.files(module.spec) if spec else {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        hub_config.write_json(value, folder / name)
    if head and module.head(head).generates:
        ids = {key: config[key] for key in _GENERATION_IDS if config.get(key) is not None}
        hub_config.write_json({**ids, **module.generation_config}, folder / GENERATION_FILE)
    weights.write(tensors, folder)
    # safetensors makes files that no one else may read.
    shutil.copymode(folder / hub_config.FILE, folder / weights.FILE)
