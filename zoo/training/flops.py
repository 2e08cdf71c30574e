"""Floating-point operations of a training step, and what devices could do in a second.

The convention: matrix products and attention of the forward pass, attention counted in full whatever the mask
hides, times three for forward and backward; nothing for recomputing activations. For a decoder this is
6 N + 12 L d T a token, N being the parameters that multiply: Chowdhery et al., 2022, appendix B,
https://arxiv.org/abs/2204.02311.
"""

import functools

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.heads.base import Batch
from zoo.modules.base import ZooModule

PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}
"""Dense bfloat16 or float16 matrix operations a second, as the maker says; the first name that fits."""


def peak(device: torch.device, precision: str) -> float | None:
    """What a device could do in a second; None where it is not known for this precision."""
    if device.type != "cuda" or "16" not in precision:
        return None
    name = torch.cuda.get_device_name(device)
    return next((figure for part, figure in PEAKS.items() if part in name), None)


class StepFlops:
    """Counts the operations of a module's training steps, by the shapes of their batches."""

    def __init__(self, module: ZooModule) -> None:
        self.module = module
        self._of_shape = functools.cache(self._backbone)
        self._of_head = {
            name: sum(part.weight.numel() for part in head.modules() if isinstance(part, nn.Linear))
            for name, head in module.heads.items()
        }

    def __call__(self, batch: Batch, num_labels: Tensor | int) -> Tensor | int:
        """Operations of one step: the backbone at every token, the head where there is a label."""
        shapes = tuple(tuple(ids.shape) for ids, _ in self.module.read(batch))
        head = self._of_head[self.module.head_name(batch.get("head"))]
        return 3 * self._of_shape(shapes) + 6 * head * num_labels

    def _backbone(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """Operations of one forward pass, counted without computing."""
        twin = type(self.module)(**self.module.described())
        twin.build(device="meta")
        ids = (torch.zeros(shape, dtype=torch.long, device="meta") for shape in shapes)
        batch = dict(zip(("input_ids", "decoder_input_ids"), ids, strict=False))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            twin.hidden_states(batch)
        return int(counter.get_total_flops())
