"""What the heads that say one thing of a whole text share."""

import torch
from torch import Tensor, nn

from zoo.heads.base import Batch, Head
from zoo.layers import Linear
from zoo.specs import BackboneSpec


class PooledHead(Head):
    """A projection of the hidden state that stands for each text.

    Args:
        spec: Of the backbone.
        name: The head's own, under which the family says how it stands on the Hub.
        num_outputs: Numbers that are told of a text.
    """

    def __init__(self, spec: BackboneSpec, name: str, num_outputs: int) -> None:
        super().__init__()
        hub_head = spec.hub_head(name)
        self.pooling = hub_head.pooling or ("first" if spec.shape == "encoder" else "last")
        eos = spec.eos_token_id
        self.eos_token_ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
        self.transform = hub_head.transform(spec) if hub_head.transform else nn.Identity()
        self.projection = Linear(spec.hidden_size, num_outputs, bias=hub_head.bias)

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, outputs).

        Args:
            hidden_BTD: Hidden states.
            batch: `input_ids`, and `attention_mask` where some are padding.
        """
        pooled_BD = pooled(hidden_BTD, batch, self.pooling, self.eos_token_ids)
        logits: Tensor = self.projection(self.transform(pooled_BD))
        return logits


def pooled(hidden_BTD: Tensor, batch: Batch, pooling: str, eos_token_ids: list[int]) -> Tensor:
    """The hidden state that stands for each text, (batch, hidden_size).

    Args:
        hidden_BTD: Hidden states.
        batch: `input_ids`, and `attention_mask` where some are padding.
        pooling: Its first token's, its last one's, its last end-of-text's (`eos`), or the `mean` of all.
        eos_token_ids: What ends a text.
    """
    ids_BT = batch["input_ids"]
    worth_BT = batch.get("attention_mask", torch.ones_like(ids_BT)).long()
    if pooling == "mean":
        hidden_BD: Tensor = (hidden_BTD * worth_BT[..., None]).sum(1)
        return hidden_BD.div(worth_BT.sum(1, keepdim=True))
    if pooling == "eos":  # of a text that was cut before its end, the last token
        worth_BT = worth_BT + worth_BT * torch.isin(ids_BT, ids_BT.new_tensor(eos_token_ids))
    if pooling != "first":  # the last one among equals
        width = ids_BT.shape[1]
        worth_BT = worth_BT * width + torch.arange(width, device=ids_BT.device)
    rows_B = torch.arange(ids_BT.shape[0], device=ids_BT.device)  # `len` would fix it in a graph
    return hidden_BTD[rows_B, worth_BT.argmax(-1)]
