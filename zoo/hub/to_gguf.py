"""A decoder as one gguf file, from which llama.cpp and other runtimes of ggml write.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo import registry
from zoo.errors import ZooError
from zoo.extras import require
from zoo.hub import gguf_tokenizers, names
from zoo.specs import BackboneSpec, Gguf

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

FILE = "model.gguf"

_SIZES = {
    "vocab_size": "add_vocab_size",
    "max_position_embeddings": "add_context_length",
    "hidden_size": "add_embedding_length",
    "num_hidden_layers": "add_block_count",
    "intermediate_size": "add_feed_forward_length",
    "num_attention_heads": "add_head_count",
    "rms_norm_eps": "add_layer_norm_rms_eps",
    "layer_norm_eps": "add_layer_norm_eps",
}
"""The Hub's words for what a gguf file says of a model, as far as a spec has them."""
_TURNED = re.compile(r"blk\.\d+\.attn_([qk])\.\w+")
_PROJECTION = {"output.{}": "projection.{}"}


def export(model: "ZooModule", folder: Path, head: str | None = None) -> Path:
    """Writes model.gguf: sizes, tokenizer and weights, in float32, or in the half precision that they have.

    Args:
        model: Of a family that says how it stands in gguf files.
        folder: Where.
        head: The name of the one that is written, where there are several.

    Raises:
        ZooError: The package is not installed, or the model does not fit the format.
    """
    model = model.merged()
    family = _required(model, head)
    require("to export as gguf", "gguf", "gguf")
    import gguf

    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / f".{FILE}.part", family.architecture)
    _add_sizes(writer, model.spec)
    gguf_tokenizers.add(writer, model.tokenizer, model.spec)
    kind = _kind(gguf, next(tensor.dtype for tensor in model.parameters()))
    writer.add_file_type(kind["file"])
    for name, tensor in _tensors(model, family, head):
        dtype = kind["tensor"] if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(tensor.detach().float().cpu().numpy(), dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / f".{FILE}.part").rename(folder / FILE)


def _required(model: "ZooModule", head: str | None) -> Gguf:
    """How the model stands in a gguf file, where it can."""
    path, spec = registry.path_of(type(model.spec)), model.spec
    family = spec.gguf
    if family is None:
        raise ZooError(
            f"{path} does not say how it stands in gguf files",
            hint="`zoo export --format onnx` writes most families",
        )
    if not model.head_specs or type(model.head_specs[model.head_name(head)]).__name__ != "CausalLM":
        raise ZooError("a gguf file holds a decoder under zoo.heads.CausalLM, this model has another head")
    for name, value in family.needs.items():
        if getattr(spec, name) != value:
            raise ZooError(
                f"`{name}` must be {value} in a gguf file of {family.architecture}, got {getattr(spec, name)}"
            )
    rope = getattr(spec, "rope_parameters", None)
    if rope is not None and (rope.rope_type != "default" or rope.partial_rotary_factor is not None):
        raise ZooError(f"`rope_parameters` must be of type default in a gguf file, got {rope.rope_type}")
    if model.tokenizer is None:
        raise ZooError("a gguf file holds a tokenizer, this model has none")
    return family


def _add_sizes(writer: Any, spec: BackboneSpec) -> None:
    for name, add in _SIZES.items():
        if (value := getattr(spec, name, None)) is not None:
            getattr(writer, add)(value)
    num_heads = spec.num_attention_heads  # type: ignore[attr-defined]
    head_dim = getattr(spec, "head_dim", None) or spec.hidden_size // num_heads
    writer.add_head_count_kv(getattr(spec, "num_key_value_heads", None) or num_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if (rope := getattr(spec, "rope_parameters", None)) is not None:
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(rope.rope_theta)


def _kind(gguf: Any, dtype: torch.dtype) -> dict[str, Any]:
    """What matrices are written as, and what the file says of itself."""
    name = {torch.float16: "F16", torch.bfloat16: "BF16"}.get(dtype, "F32")
    file = gguf.LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"]
    return {"tensor": gguf.GGMLQuantizationType[name], "file": file}


def _tensors(model: "ZooModule", family: Gguf, head: str | None) -> Iterator[tuple[str, Tensor]]:
    spec, name = model.spec, model.head_name(head)
    tensors: dict[str, Tensor] = {
        **names.named_tensors(model.backbone, family.weights),
        **names.named_tensors(model.heads[name], _PROJECTION, model.head(head).tied),
    }
    num_heads = {"q": spec.num_attention_heads}  # type: ignore[attr-defined]
    num_heads["k"] = getattr(spec, "num_key_value_heads", None) or num_heads["q"]
    for name, tensor in tensors.items():
        turned = _TURNED.fullmatch(name) if family.has_neighbouring_pairs else None
        yield name, _in_pairs(tensor, num_heads[turned[1]]) if turned else tensor


def _in_pairs(tensor: Tensor, num_heads: int) -> Tensor:
    """Rows of each head so that those which turn together, here half a head apart, are neighbours."""
    halves = tensor.reshape(num_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
