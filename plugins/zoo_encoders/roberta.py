"""RoBERTa: BERT's encoder, trained longer, on positions that begin behind the padding's.

Liu et al., 2019: https://arxiv.org/abs/1907.11692
XLM-RoBERTa, Conneau et al., 2019: https://arxiv.org/abs/1911.02116
CamemBERT, Martin et al., 2019: https://arxiv.org/abs/1911.03894
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.layers import ACTIVATIONS, Attention, DenseDropout, DenseNorm, FeedForward, Mask
from zoo.specs import EncoderSpec, HubHead, require_divides, require_known, require_tied

MODEL_TYPES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
"""The Hub's `model_type`s of this one architecture, and how their `architectures` begin."""


def transform(spec: "Roberta") -> nn.Module:
    """What stands between the hidden states and the vocabulary; always with gelu, as in the reference."""
    return DenseNorm(spec.hidden_size, "gelu", nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps))


def pooler(spec: "Roberta") -> nn.Module:
    """What stands between the first token's hidden state and the labels."""
    given = spec.classifier_dropout
    return DenseDropout(spec.hidden_size, spec.hidden_dropout_prob if given is None else given)


def dropped(spec: "Roberta") -> nn.Module:
    """What stands between each token's hidden state and its label."""
    given = spec.classifier_dropout
    return nn.Dropout(spec.hidden_dropout_prob if given is None else given)


@dataclass(frozen=True, kw_only=True)
class Roberta(EncoderSpec):
    """Sizes of a RoBERTa; defaults are the paper's base model."""

    model_type: str = "roberta"
    """How the Hub calls it: roberta, xlm-roberta or camembert."""
    vocab_size: int = 50265
    hidden_size: int = 768
    intermediate_size: int = 3072
    """Width of the feed-forward."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 514
    """Rows of the table of positions, of which the first pad_token_id + 1 stand for no token's."""
    type_vocab_size: int = 1
    """Kinds of segment."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    """Before a classifier; None: as hidden_dropout_prob."""
    tie_word_embeddings: bool = True
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known(self, "model_type", MODEL_TYPES)
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_tied(self)
        if self.max_tokens < 1:
            given = self.max_position_embeddings
            raise SpecError(
                f"`max_position_embeddings` must be above pad_token_id + 1, got {given}",
                at="max_position_embeddings",
            )

    def build(self) -> "RobertaEncoder":
        """The backbone, without weights of its own choosing."""
        return RobertaEncoder(self)

    @property
    def max_tokens(self) -> int:
        """The longest text that can be read, in tokens."""
        return self.max_position_embeddings - self.pad_token_id - 1

    @property
    def architecture(self) -> str:
        """What config.json's `architectures` says of the backbone alone."""
        return f"{MODEL_TYPES[self.model_type]}Model"

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        named = head.architecture.removeprefix("Roberta")
        return replace(head, architecture=f"{MODEL_TYPES[self.model_type]}{named}")

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "roberta.embeddings.word_embeddings.{}": "embedding.{}",
        "roberta.embeddings.position_embeddings.{}": "positions.{}",
        "roberta.embeddings.token_type_embeddings.{}": "token_types.{}",
        "roberta.embeddings.LayerNorm.{}": "norm.{}",
        "roberta.encoder.layer.{}.attention.self.query.{}": "blocks.{}.attention.query.{}",
        "roberta.encoder.layer.{}.attention.self.key.{}": "blocks.{}.attention.key.{}",
        "roberta.encoder.layer.{}.attention.self.value.{}": "blocks.{}.attention.value.{}",
        "roberta.encoder.layer.{}.attention.output.dense.{}": "blocks.{}.attention.output.{}",
        "roberta.encoder.layer.{}.attention.output.LayerNorm.{}": "blocks.{}.attention_norm.{}",
        "roberta.encoder.layer.{}.intermediate.dense.{}": "blocks.{}.feedforward.up.{}",
        "roberta.encoder.layer.{}.output.dense.{}": "blocks.{}.feedforward.down.{}",
        "roberta.encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.feedforward_norm.{}",
    }
    heads = {
        "MaskedLM": HubHead(
            "RobertaForMaskedLM",
            {
                "lm_head.dense.{}": "transform.dense.{}",
                "lm_head.layer_norm.{}": "transform.norm.{}",
                "lm_head.decoder.weight": "projection.weight",
                "lm_head.bias": "projection.bias",
            },
            bias=True,
            transform=transform,
        ),
        "SequenceClassification": HubHead(
            "RobertaForSequenceClassification",
            {"classifier.dense.{}": "transform.dense.{}", "classifier.out_proj.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
        "TokenClassification": HubHead(
            "RobertaForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True, transform=dropped
        ),
        "ExtractiveQA": HubHead("RobertaForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
        "MultipleChoice": HubHead(
            "RobertaForMultipleChoice",
            {"roberta.pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
    }
    aliases = {"lm_head.decoder.bias": "lm_head.bias"}
    inputs = frozenset({"token_type_ids"})
    prefix = "roberta."
    unread = frozenset({"roberta.embeddings.position_ids", "roberta.pooler.dense.{}"})
    ignored = frozenset({"add_cross_attention", "position_embedding_type"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 66,
    }


class RobertaBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: Roberta) -> None:
        super().__init__()
        width, dropout = spec.hidden_size, spec.attention_probs_dropout_prob
        self.attention = Attention(width, spec.num_attention_heads, bias=True, dropout=dropout)
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(width, spec.intermediate_size, spec.hidden_act)
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

    def forward(self, x_BTD: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask)))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class RobertaEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Roberta) -> None:
        super().__init__()
        width, padding = spec.hidden_size, spec.pad_token_id
        self.embedding = nn.Embedding(spec.vocab_size, width, padding_idx=padding)
        self.positions = nn.Embedding(spec.max_position_embeddings, width, padding_idx=padding)
        self.token_types = nn.Embedding(spec.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        self.blocks = nn.ModuleList(RobertaBlock(spec) for _ in range(spec.num_hidden_layers))
        self.first_position = padding + 1

    def forward(self, input_ids: Tensor, mask: Mask, token_type_ids: Tensor | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row.

        Args:
            input_ids: (batch, tokens).
            mask: Which tokens are real; the reference takes each `pad_token_id` for padding, wherever it is.
            token_type_ids: (batch, tokens), the segment of each; by default the first.
        """
        kinds_BT = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x_BTD = self.embedding(input_ids) + self.token_types(kinds_BT)
        x_BTD = x_BTD + self.positions(mask.positions(input_ids) + self.first_position)
        hidden_BTD: Tensor = self.dropout(self.norm(x_BTD))
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD, mask)
        return hidden_BTD
