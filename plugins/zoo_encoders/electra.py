"""ELECTRA: BERT's encoder, taught to tell which tokens a smaller one replaced.

Clark et al., 2020: https://arxiv.org/abs/2003.10555
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zoo.layers import ACTIVATIONS, Attention, DenseDropout, DenseNorm, FeedForward, Linear, Mask
from zoo.specs import EncoderSpec, HubHead, require_divides, require_known, require_tied


def pooler(spec: "Electra") -> nn.Module:
    """What stands between the first token's hidden state and the labels; always with gelu."""
    given = spec.classifier_dropout
    dropout = spec.hidden_dropout_prob if given is None else given
    return DenseDropout(spec.hidden_size, dropout, activation="gelu")


def summary(spec: "Electra") -> nn.Module:
    """What stands between the first token's hidden state and an answer's score."""
    return DenseDropout(spec.hidden_size, spec.summary_last_dropout, first_dropout=0.0, activation="gelu")


def dropped(spec: "Electra") -> nn.Module:
    """What stands between each token's hidden state and its label."""
    given = spec.classifier_dropout
    return nn.Dropout(spec.hidden_dropout_prob if given is None else given)


def transform(spec: "Electra") -> nn.Module:
    """What stands between the hidden states and the vocabulary; always with gelu, as in the reference."""
    norm = nn.LayerNorm(spec.width, spec.layer_norm_eps)
    return DenseNorm(spec.hidden_size, "gelu", norm, output_size=spec.width)


@dataclass(frozen=True, kw_only=True)
class Electra(EncoderSpec):
    """Sizes of an ELECTRA, or of its generator; defaults are the paper's small model."""

    vocab_size: int = 30522
    hidden_size: int = 256
    embedding_size: int | None = 128
    """Width of the embeddings; None: hidden_size."""
    intermediate_size: int = 1024
    """Width of the feed-forward."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    """Kinds of segment: the first text and the second."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    """Before a classifier; None: as hidden_dropout_prob."""
    summary_last_dropout: float = 0.1
    """Before an answer's score."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_tied(self)

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    def build(self) -> "ElectraEncoder":
        """The backbone, without weights of its own choosing."""
        return ElectraEncoder(self)

    def to_hub(self) -> dict[str, object]:
        """The spec as keys of config.json, of which `embedding_size` is a number."""
        return {**super().to_hub(), "embedding_size": self.width}

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        return replace(head, width=self.width) if name == "MaskedLM" else head

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "electra.embeddings.word_embeddings.{}": "embedding.{}",
        "electra.embeddings.position_embeddings.{}": "positions.{}",
        "electra.embeddings.token_type_embeddings.{}": "token_types.{}",
        "electra.embeddings.LayerNorm.{}": "norm.{}",
        "electra.embeddings_project.{}": "widening.{}",
        "electra.encoder.layer.{}.attention.self.query.{}": "blocks.{}.attention.query.{}",
        "electra.encoder.layer.{}.attention.self.key.{}": "blocks.{}.attention.key.{}",
        "electra.encoder.layer.{}.attention.self.value.{}": "blocks.{}.attention.value.{}",
        "electra.encoder.layer.{}.attention.output.dense.{}": "blocks.{}.attention.output.{}",
        "electra.encoder.layer.{}.attention.output.LayerNorm.{}": "blocks.{}.attention_norm.{}",
        "electra.encoder.layer.{}.intermediate.dense.{}": "blocks.{}.feedforward.up.{}",
        "electra.encoder.layer.{}.output.dense.{}": "blocks.{}.feedforward.down.{}",
        "electra.encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.feedforward_norm.{}",
    }
    heads = {
        "ReplacedTokenDetection": HubHead(
            "ElectraForPreTraining",
            {
                "discriminator_predictions.dense.{}": "dense.{}",
                "discriminator_predictions.dense_prediction.{}": "projection.{}",
            },
        ),
        "MaskedLM": HubHead(
            "ElectraForMaskedLM",
            {
                "generator_predictions.dense.{}": "transform.dense.{}",
                "generator_predictions.LayerNorm.{}": "transform.norm.{}",
                "generator_lm_head.{}": "projection.{}",
            },
            bias=True,
            transform=transform,
        ),
        "SequenceClassification": HubHead(
            "ElectraForSequenceClassification",
            {"classifier.dense.{}": "transform.dense.{}", "classifier.out_proj.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
        "TokenClassification": HubHead(
            "ElectraForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True, transform=dropped
        ),
        "ExtractiveQA": HubHead("ElectraForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
        "MultipleChoice": HubHead(
            "ElectraForMultipleChoice",
            {"sequence_summary.summary.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=summary,
        ),
    }
    inputs = frozenset({"token_type_ids"})
    prefix = "electra."
    unread = frozenset({"electra.embeddings.position_ids"})
    ignored = frozenset(
        {
            "add_cross_attention",
            "position_embedding_type",
            "summary_activation",
            "summary_type",
            "summary_use_proj",
        }
    )
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "embedding_size": 24,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class ElectraBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: Electra) -> None:
        super().__init__()
        self.attention = Attention(
            spec.hidden_size,
            spec.num_attention_heads,
            bias=True,
            dropout=spec.attention_probs_dropout_prob,
        )
        self.attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.feedforward = FeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_act)
        self.feedforward_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

    def forward(self, x_BTD: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask)))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class ElectraEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Electra) -> None:
        super().__init__()
        width = spec.width
        self.embedding = nn.Embedding(spec.vocab_size, width, padding_idx=spec.pad_token_id)
        self.positions = nn.Embedding(spec.max_position_embeddings, width)
        self.token_types = nn.Embedding(spec.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        is_narrow = width != spec.hidden_size
        self.widening = Linear(width, spec.hidden_size) if is_narrow else nn.Identity()
        self.blocks = nn.ModuleList(ElectraBlock(spec) for _ in range(spec.num_hidden_layers))

    def forward(self, input_ids: Tensor, mask: Mask, token_type_ids: Tensor | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row.

        Args:
            input_ids: (batch, tokens).
            mask: Which tokens are real.
            token_type_ids: (batch, tokens), the segment of each; by default the first.
        """
        kinds_BT = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x_BTD = self.embedding(input_ids) + self.token_types(kinds_BT)
        # From the first real token; the reference counts padding that stands on the left.
        x_BTD = x_BTD + self.positions(mask.positions(input_ids))
        hidden_BTD: Tensor = self.widening(self.dropout(self.norm(x_BTD)))
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD, mask)
        return hidden_BTD
