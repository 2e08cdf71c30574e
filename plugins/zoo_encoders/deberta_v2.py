"""DeBERTa, versions 2 and 3: an encoder that weighs what a token is and how far away it is apart.

He et al., 2020: https://arxiv.org/abs/2006.03654
Version 3, He et al., 2021: https://arxiv.org/abs/2111.09543
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.layers import ACTIVATIONS, Attention, DenseDropout, DenseNorm, FeedForward, Linear, Mask
from zoo.layers.feedforward import autocast_once
from zoo.specs import EncoderSpec, HubHead, require_divides, require_known, require_tied

KINDS = ("c2p", "p2c")
"""Whose content is weighed by the distance: the token's that looks, or that of the one it sees."""


def pooler(spec: "DebertaV2") -> nn.Module:
    """What stands between the first token's hidden state and the labels."""
    given = spec.cls_dropout
    return DenseDropout(
        spec.hidden_size,
        spec.hidden_dropout_prob if given is None else given,
        first_dropout=spec.pooler_dropout,
        activation=spec.pooler_hidden_act,
    )


def transform(spec: "DebertaV2") -> nn.Module:
    """What stands between the hidden states and the vocabulary, as wide as what embeds it."""
    width = spec.width
    if not spec.legacy and width != spec.hidden_size:
        raise SpecError(
            f"`legacy` must be true where `embedding_size` is not hidden_size, got {width}", at="legacy"
        )
    norm = nn.LayerNorm(width, spec.layer_norm_eps)
    return DenseNorm(spec.hidden_size, spec.hidden_act, norm, output_size=width)


AUTHORS = {
    "lm_predictions.lm_head.dense.{}": "transform.dense.{}",
    "lm_predictions.lm_head.LayerNorm.{}": "transform.norm.{}",
    "lm_predictions.lm_head.decoder.weight": "projection.weight",  # the embedding, which is never repeated
    "lm_predictions.lm_head.bias": "projection.bias",
}
"""Names in the head of masked words, as the authors' code has them."""


def dropped(spec: "DebertaV2") -> nn.Module:
    """What stands between each token's hidden state and its label."""
    return nn.Dropout(spec.hidden_dropout_prob)


@dataclass(frozen=True, kw_only=True)
class DebertaV2(EncoderSpec):
    """Sizes of a DeBERTa; defaults are config.json's own. Those of version 3 are in the paper's table 7."""

    vocab_size: int = 128100
    hidden_size: int = 1536
    embedding_size: int | None = None
    """Width of the embeddings; None: hidden_size."""
    intermediate_size: int = 6144
    """Width of the feed-forward."""
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    max_position_embeddings: int = 512
    position_biased_input: bool = True
    """Whether positions are added to the embeddings."""
    type_vocab_size: int = 0
    """Kinds of segment; 0: none are told apart."""
    relative_attention: bool = False
    """Whether attention knows distances."""
    max_relative_positions: int = -1
    """From here on, distances are one; below 1: max_position_embeddings."""
    position_buckets: int = -1
    """Ranges of distance on either side; below 1: each distance stands for itself."""
    pos_att_type: list[str] | None = None
    """What is weighed by distance: c2p, p2c or both."""
    share_att_key: bool = False
    """Whether distances are projected as tokens are."""
    norm_rel_ebd: str = "none"
    """Whether distances are normed: layer_norm."""
    conv_kernel_size: int = 0
    """Tokens that a convolution beside the first block sees, an odd number; 0: there is none."""
    conv_act: str = "tanh"
    """What bends the convolution."""
    conv_groups: int = 1
    """Parts of the channels that it mixes, each by itself."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-7
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    pooler_dropout: float = 0.0
    """Before the layer that stands before a classifier."""
    pooler_hidden_act: str = "gelu"
    """What bends it."""
    cls_dropout: float | None = None
    """Before a classifier; None: as hidden_dropout_prob."""
    legacy: bool = True
    """Whether files spell the head of masked words as BERT's do, or as the authors' code does."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        for name in ("hidden_act", "pooler_hidden_act", "conv_act"):
            require_known(self, name, ACTIVATIONS)
        require_tied(self)
        for kind in self.pos_att_type or ():
            if kind not in KINDS:
                raise SpecError(
                    f"`pos_att_type` must name c2p, p2c or both for zoo.encoders.DebertaV2, got {kind!r}",
                    at="pos_att_type",
                )
        if self.conv_kernel_size and self.conv_kernel_size % 2 == 0:
            raise SpecError(
                f"`conv_kernel_size` must be odd, or 0, got {self.conv_kernel_size}", at="conv_kernel_size"
            )

    def build(self) -> "DebertaV2Encoder":
        """The backbone, without weights of its own choosing."""
        return DebertaV2Encoder(self)

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def weighed(self) -> tuple[str, ...]:
        """What is weighed by distance."""
        return tuple(kind for kind in KINDS if kind in (self.pos_att_type or ()))

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of.

        Older files join kinds by a bar, `p2c|c2p`, and may say how wide a head is.

        Raises:
            SpecError: Heads together are not as wide as the model.
        """
        values = super().of_config(config)
        if isinstance(kinds := values.get("pos_att_type"), str):
            values["pos_att_type"] = [kind.strip() for kind in kinds.lower().split("|")]
        head_dim, heads = values.pop("attention_head_size", None), values.get("num_attention_heads", 24)
        if head_dim is not None and head_dim * heads != values.get("hidden_size", 1536):
            raise SpecError(
                "`attention_head_size` must be hidden_size / num_attention_heads, "
                f"got {head_dim} for {heads} heads",
                at="attention_head_size",
            )
        return values

    def to_hub(self) -> dict[str, Any]:
        """The spec as keys of config.json, of which `embedding_size` is a number or not there."""
        return {**super().to_hub(), "embedding_size": self.width}

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        if name != "MaskedLM":
            return head
        return replace(head, width=self.width, weights=head.weights if self.legacy else AUTHORS)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "deberta.embeddings.word_embeddings.{}": "embedding.{}",
        "deberta.embeddings.position_embeddings.{}": "positions.{}",
        "deberta.embeddings.token_type_embeddings.{}": "token_types.{}",
        "deberta.embeddings.embed_proj.{}": "widening.{}",
        "deberta.embeddings.LayerNorm.{}": "norm.{}",
        "deberta.encoder.rel_embeddings.{}": "distances.table.{}",
        "deberta.encoder.LayerNorm.{}": "distances.norm.{}",
        "deberta.encoder.conv.conv.{}": "convolution.taps.{}",
        "deberta.encoder.conv.LayerNorm.{}": "convolution.norm.{}",
        "deberta.encoder.layer.{}.attention.self.query_proj.{}": "blocks.{}.attention.query.{}",
        "deberta.encoder.layer.{}.attention.self.key_proj.{}": "blocks.{}.attention.key.{}",
        "deberta.encoder.layer.{}.attention.self.value_proj.{}": "blocks.{}.attention.value.{}",
        "deberta.encoder.layer.{}.attention.self.pos_query_proj.{}": "blocks.{}.attention.distance_query.{}",
        "deberta.encoder.layer.{}.attention.self.pos_key_proj.{}": "blocks.{}.attention.distance_key.{}",
        "deberta.encoder.layer.{}.attention.output.dense.{}": "blocks.{}.attention.output.{}",
        "deberta.encoder.layer.{}.attention.output.LayerNorm.{}": "blocks.{}.attention_norm.{}",
        "deberta.encoder.layer.{}.intermediate.dense.{}": "blocks.{}.feedforward.up.{}",
        "deberta.encoder.layer.{}.output.dense.{}": "blocks.{}.feedforward.down.{}",
        "deberta.encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.feedforward_norm.{}",
    }
    heads = {
        "MaskedLM": HubHead(
            "DebertaV2ForMaskedLM",
            {
                "cls.predictions.transform.dense.{}": "transform.dense.{}",
                "cls.predictions.transform.LayerNorm.{}": "transform.norm.{}",
                "cls.predictions.decoder.weight": "projection.weight",
                "cls.predictions.bias": "projection.bias",
            },
            bias=True,
            transform=transform,
        ),
        "SequenceClassification": HubHead(
            "DebertaV2ForSequenceClassification",
            {"pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
        "TokenClassification": HubHead(
            "DebertaV2ForTokenClassification",
            {"classifier.{}": "projection.{}"},
            bias=True,
            transform=dropped,
        ),
        "ExtractiveQA": HubHead(
            "DebertaV2ForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True
        ),
        "MultipleChoice": HubHead(
            "DebertaV2ForMultipleChoice",
            {"pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
    }
    aliases = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
    inputs = frozenset({"token_type_ids"})
    prefix = "deberta."
    unread = frozenset(
        {
            "deberta.embeddings.position_ids",
            "deberta.embeddings.position_embeddings.{}",
            "mask_predictions.{}.{}",
        }
    )
    absent = frozenset({"type_vocab_size", "conv_kernel_size"})
    ignored = frozenset({"pooler_hidden_size", "summary_type"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "position_biased_input": False,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["c2p", "p2c"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
    }


class Distances(nn.Module):
    """What stands for each distance between two tokens: near ones for themselves, far ones in buckets."""

    def __init__(self, spec: DebertaV2) -> None:
        super().__init__()
        given = spec.max_relative_positions
        self.farthest = spec.max_position_embeddings if given < 1 else given
        self.num_buckets = spec.position_buckets
        self.reach = self.farthest if spec.position_buckets < 1 else spec.position_buckets
        self.table = nn.Embedding(2 * self.reach, spec.hidden_size)
        is_normed = "layer_norm" in spec.norm_rel_ebd.lower().split("|")
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps) if is_normed else nn.Identity()

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What stands for the kinds of distance in a row (kinds, hidden_size), and each pair's kind."""
        num_tokens, device = input_ids.shape[1], input_ids.device
        offsets = torch.arange(1 - num_tokens, num_tokens, device="cpu")
        rows = (self._buckets(offsets) + self.reach).clamp(0, 2 * self.reach - 1)
        first, last = 0, 2 * self.reach - 1
        if not torch.compiler.is_exporting():  # a graph takes rows of any length
            first, last = int(rows[0]), int(rows[-1])
        places_T = torch.arange(num_tokens, device=device)
        kinds_TS = (rows - first).to(device)[places_T[:, None] - places_T + num_tokens - 1]
        table_RD: Tensor = self.norm(self.table(torch.arange(first, last + 1, device=device)))
        return table_RD, kinds_TS

    def _buckets(self, offsets: Tensor) -> Tensor:
        """The bucket of each offset from the token that is seen to the one that looks."""
        if self.num_buckets < 1:
            return offsets
        num_near = self.num_buckets // 2
        distances = offsets.abs()
        # In float32 as the reference has it: a bucket ends where the logarithm is a whole number.
        growth = torch.log(distances / num_near) / torch.log(torch.tensor((self.farthest - 1) / num_near))
        far = torch.ceil(growth * (num_near - 1)) + num_near
        return torch.where(distances <= num_near, offsets, far * offsets.sign()).long()


class DisentangledAttention(Attention):
    """Attention to which content speaks with content, and content with distance."""

    tensor_parallel = {**Attention.tensor_parallel, "distance_*": "colwise"}

    def __init__(self, spec: DebertaV2) -> None:
        width, heads, dropout = spec.hidden_size, spec.num_attention_heads, spec.attention_probs_dropout_prob
        scale = (width // heads * (1 + len(spec.weighed))) ** -0.5
        super().__init__(width, heads, bias=True, dropout=dropout, scale=scale)
        has_own = spec.relative_attention and not spec.share_att_key

        def own(kind: str) -> nn.Linear | None:
            return Linear(width, width) if has_own and kind in spec.weighed else None

        self.weighed, self.factor = spec.weighed, scale
        self.distance_key, self.distance_query = map(own, KINDS)

    def forward(  # type: ignore[override]
        self, x_BTD: Tensor, mask: Mask, distances: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out, given what `Distances` says."""
        q_BHTK, k_BHTK, v_BHTK = self.project(autocast_once(x_BTD))
        if distances is not None and self.weighed:
            table_RD, kinds_TS = distances
            scores = []
            if "c2p" in self.weighed:
                scores.append(self._scores(q_BHTK, (self.distance_key or self.key)(table_RD), kinds_TS))
            if "p2c" in self.weighed:
                part = self.distance_query or self.query
                scores.append(self._scores(k_BHTK, part(table_RD), kinds_TS.mT).mT)
            mask = mask.with_bias(sum(scores[1:], scores[0]))
        return self._look(q_BHTK, k_BHTK, v_BHTK, mask)

    def _scores(self, content_BHTK: Tensor, table_RD: Tensor, kinds_TS: Tensor) -> Tensor:
        """Of each token's content with its distances from all, (batch, heads, tokens, tokens)."""
        table_RHK = table_RD.view(len(table_RD), -1, self.head_dim) * self.factor
        scores_BHTR = torch.einsum("bhtk,rhk->bhtr", content_BHTK, table_RHK)
        return scores_BHTR.gather(-1, kinds_TS.expand(*scores_BHTR.shape[:2], -1, -1))


class DebertaV2Block(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: DebertaV2) -> None:
        super().__init__()
        width = spec.hidden_size
        self.attention = DisentangledAttention(spec)
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(width, spec.intermediate_size, spec.hidden_act)
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

    def forward(self, x_BTD: Tensor, mask: Mask, distances: tuple[Tensor, Tensor] | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        if distances is not None:
            table_RD, kinds_TS = distances
            distances = self.dropout(table_RD), kinds_TS
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask, distances)))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class Convolution(nn.Module):
    """What few tokens around each one say, added to what the first block makes of it."""

    def __init__(self, spec: DebertaV2) -> None:
        super().__init__()
        width, size = spec.hidden_size, spec.conv_kernel_size
        self.taps = nn.Conv1d(width, width, size, padding=size // 2, groups=spec.conv_groups)
        self.norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        self.activation = ACTIVATIONS[spec.conv_act]

    def forward(self, embedded_BTD: Tensor, x_BTD: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size), given the embeddings."""
        found_BDT = self._convolved(embedded_BTD, mask.documents_BS)
        output_BTD: Tensor = self.norm(x_BTD + self.activation(self.dropout(found_BDT.mT)))
        return output_BTD

    def _convolved(self, x_BTD: Tensor, documents_BT: Tensor | None) -> Tensor:
        """(batch, hidden_size, tokens), nothing being where there is padding or another document."""
        taps = self.taps
        if documents_BT is not None:
            x_BTD = x_BTD * (documents_BT > 0)[..., None]
        if documents_BT is None or documents_BT.dtype == torch.bool:
            found: Tensor = taps(x_BTD.mT)
            return found
        (size,), beside = taps.kernel_size, taps.kernel_size[0] // 2
        around_BTDW = F.pad(x_BTD, (0, 0, beside, beside)).unfold(1, size, 1)
        whose_BTW = F.pad(documents_BT, (beside, beside)).unfold(1, size, 1)
        own_BTDW = around_BTDW * (whose_BTW == documents_BT[..., None])[:, :, None]
        laid_out = own_BTDW.transpose(1, 2).flatten(-2)
        return F.conv1d(laid_out, taps.weight, taps.bias, stride=size, groups=taps.groups)


class DebertaV2Encoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: DebertaV2) -> None:
        super().__init__()
        width = spec.width

        def table(size: int) -> nn.Module:
            return nn.Embedding(size, width)

        self.embedding = nn.Embedding(spec.vocab_size, width, padding_idx=spec.pad_token_id)
        self.positions = table(spec.max_position_embeddings) if spec.position_biased_input else None
        self.token_types = table(spec.type_vocab_size) if spec.type_vocab_size else None
        is_narrow = width != spec.hidden_size
        self.widening = Linear(width, spec.hidden_size, bias=False) if is_narrow else nn.Identity()
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        self.distances = Distances(spec) if spec.relative_attention else None
        self.convolution = Convolution(spec) if spec.conv_kernel_size else None
        self.blocks = nn.ModuleList(DebertaV2Block(spec) for _ in range(spec.num_hidden_layers))

    def forward(self, input_ids: Tensor, mask: Mask, token_type_ids: Tensor | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row.

        Args:
            input_ids: (batch, tokens).
            mask: Which tokens are real.
            token_type_ids: (batch, tokens), the segment of each, where segments are told apart; by default
                the first.
        """
        x_BTD = self.embedding(input_ids)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(mask.positions(input_ids))
        if self.token_types is not None:
            kinds_BT = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x_BTD = x_BTD + self.token_types(kinds_BT)
        embedded_BTD: Tensor = self.dropout(self.norm(self.widening(x_BTD)))
        hidden_BTD = embedded_BTD
        distances = self.distances(input_ids) if self.distances else None
        for number, block in enumerate(self.blocks):
            hidden_BTD = block(hidden_BTD, mask, distances)
            if number == 0 and self.convolution is not None:
                hidden_BTD = self.convolution(embedded_BTD, hidden_BTD, mask)
        return hidden_BTD
