"""Projections in four bits, which are not trained: bitsandbytes'.

Dettmers et al., 2023: https://arxiv.org/abs/2305.14314
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.extras import require


def is_quantized(part: nn.Module) -> bool:
    """Whether a layer's weight is in four bits."""
    return isinstance(part, nn.Linear) and hasattr(part.weight, "quant_state")


@torch.no_grad()
def quantize(part: Any, kind: str) -> nn.Linear:
    """The layer with its weight in four bits, whose scales are quantized, too; the bias stays."""
    require("model.adapter.quantization", "qlora", "bitsandbytes")
    import bitsandbytes as bnb

    made = bnb.nn.Linear4bit(
        part.in_features, part.out_features, bias=part.bias is not None, quant_type=kind, device="meta"
    )
    made.weight = bnb.nn.Params4bit(part.weight.detach(), requires_grad=False, quant_type=kind, module=made)
    made.bias = part.bias
    # On a processor an evaluation would pack weights anew, with coarser scales, and training could not go on.
    made.support_avx512bf16_for_cpu = False
    made = made.to(part.weight.device)  # which quantizes
    made.register_load_state_dict_pre_hook(_take)
    assert isinstance(made, nn.Linear)
    return made


def _take(part: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Takes a weight and its scales from a state, of which bitsandbytes itself only takes the weight."""
    import bitsandbytes as bnb

    start = f"{prefix}weight."
    scales = {name.removeprefix(start): state.pop(name) for name in list(state) if name.startswith(start)}
    part.weight = bnb.nn.Params4bit.from_prequantized(
        state[f"{prefix}weight"], scales, device=part.weight.device, module=part
    )


def dense(part: Any) -> Tensor:
    """The weight of a layer, as numbers that can be multiplied."""
    if not is_quantized(part):
        whole: Tensor = part.weight.detach()
        return whole
    from bitsandbytes.functional import dequantize_4bit

    found: Tensor = dequantize_4bit(part.weight.data, part.weight.quant_state)
    return found
