"""A model as an ONNX graph, for runtimes that know no torch."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import ZooError
from zoo.extras import require
from zoo.hub.saving import save
from zoo.layers.positions import forget_tables
from zoo.modules.base import Output, ZooModule, evaluating

FILE = "model.onnx"

LARGE_BYTES = 2**30
"""From here on weights stand in a file beside the graph: protobuf ends at 2 GiB."""


class _Graph(nn.Module):
    """A model of tensors in, a tensor out."""

    def __init__(self, model: ZooModule, head: str | None, names: list[str]) -> None:
        super().__init__()
        self.model, self.head, self.names = model, head, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits, or the hidden states where there is no head."""
        output: Output = self.model(**dict(zip(self.names, inputs, strict=True)), head=self.head)
        return output.last_hidden_state if output.logits is None else output.logits


def export(model: ZooModule, folder: Path, head: str | None = None) -> Path:
    """Writes model.onnx beside config.json and the tokenizer's files; batch and lengths stay open.

    Its inputs are `input_ids`, `attention_mask` and what else the model reads, int64 (batch, tokens); its
    output is `logits`, or `last_hidden_state` where there is no head.

    Args:
        model: It is computed in its own dtype.
        folder: Where.
        head: The name of the one that is written, where there are several.

    Raises:
        ZooError: The exporter is not installed, or the family's code does not suit it.
    """
    require("to export as onnx", "onnx", "onnx", "onnxscript")
    model = model.merged()
    name = model.head_name(head) if model.head_specs else None
    batch, tokens, written = (torch.export.Dim(word) for word in ("batch", "tokens", "written"))
    shapes = {
        name: {0: batch, 1: tokens} for name in ("input_ids", "attention_mask", *sorted(model.spec.inputs))
    }
    if model.shape == "encoder-decoder":
        shapes["decoder_input_ids"] = {0: batch, 1: written}
    # Each a tensor of its own: of two that are one, the exporter makes one input.
    lengths = {"decoder_input_ids": 4}
    examples = tuple(torch.ones(2, lengths.get(name, 5), dtype=torch.long) for name in shapes)
    graph = _Graph(model, name, list(shapes))
    forget_tables()
    try:
        with evaluating(graph), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "# The axis name")  # that axes share one is meant
            program = torch.onnx.export(
                graph,
                examples,
                dynamo=True,
                dynamic_shapes=(tuple(shapes.values()),),
                input_names=list(shapes),
                output_names=["last_hidden_state" if name is None else "logits"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ZooError(
            f"the code of {registry.path_of(type(model.spec))} cannot be written as ONNX: {reason[:200]}"
        ) from error
    finally:
        forget_tables()  # those that were traced hold no numbers
    assert program is not None
    for given in program.model.graph.inputs:
        if any(isinstance(size, int) for size in given.shape or ()):
            raise ZooError(
                f"the code of {registry.path_of(type(model.spec))} asks for numbers that a graph leaves "
                f"open, so `{given.name}` would have to be of one size",
                hint="`torch.compiler.is_exporting()` tells it when not to ask",
            )
    save(model, folder, head=head)
    (folder / "model.safetensors").unlink()
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    program.save(folder / FILE, external_data=size > LARGE_BYTES)
    return folder / FILE
