"""BERT: an encoder-only Transformer that reads a text in both directions.

Devlin et al., 2018: https://arxiv.org/abs/1810.04805
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.layers import ACTIVATIONS, Attention, DenseNorm, FeedForward, Linear, Mask
from zoo.specs import EncoderSpec, HubHead, require_divides, require_known, require_tied


class BertPooler(nn.Module):
    """A token's hidden state through a layer of its own, before a classifier."""

    def __init__(self, spec: "Bert") -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)
        given = spec.classifier_dropout
        self.dropout = nn.Dropout(spec.hidden_dropout_prob if given is None else given)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, hidden_size) in and out."""
        output: Tensor = self.dropout(torch.tanh(self.dense(hidden)))
        return output


def transform(spec: "Bert") -> nn.Module:
    """What stands between the hidden states and the vocabulary: the paper leaves it out, its code has it."""
    return DenseNorm(spec.hidden_size, spec.hidden_act, nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps))


def dropped(spec: "Bert") -> nn.Module:
    """What stands between each token's hidden state and its label."""
    given = spec.classifier_dropout
    return nn.Dropout(spec.hidden_dropout_prob if given is None else given)


@dataclass(frozen=True, kw_only=True)
class Bert(EncoderSpec):
    """Sizes of a BERT; defaults are the paper's base model, uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    intermediate_size: int = 3072
    """Width of the feed-forward."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    """Kinds of segment: the first text and the second."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    """Before a classifier; None: as hidden_dropout_prob."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_tied(self)

    def build(self) -> "BertEncoder":
        """The backbone, without weights of its own choosing."""
        return BertEncoder(self)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "bert.embeddings.word_embeddings.{}": "embedding.{}",
        "bert.embeddings.position_embeddings.{}": "positions.{}",
        "bert.embeddings.token_type_embeddings.{}": "token_types.{}",
        "bert.embeddings.LayerNorm.{}": "norm.{}",
        "bert.encoder.layer.{}.attention.self.query.{}": "blocks.{}.attention.query.{}",
        "bert.encoder.layer.{}.attention.self.key.{}": "blocks.{}.attention.key.{}",
        "bert.encoder.layer.{}.attention.self.value.{}": "blocks.{}.attention.value.{}",
        "bert.encoder.layer.{}.attention.output.dense.{}": "blocks.{}.attention.output.{}",
        "bert.encoder.layer.{}.attention.output.LayerNorm.{}": "blocks.{}.attention_norm.{}",
        "bert.encoder.layer.{}.intermediate.dense.{}": "blocks.{}.feedforward.up.{}",
        "bert.encoder.layer.{}.output.dense.{}": "blocks.{}.feedforward.down.{}",
        "bert.encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.feedforward_norm.{}",
    }
    heads = {
        "MaskedLM": HubHead(
            "BertForMaskedLM",
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
            "BertForSequenceClassification",
            {"bert.pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=BertPooler,
        ),
        "TokenClassification": HubHead(
            "BertForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True, transform=dropped
        ),
        "ExtractiveQA": HubHead("BertForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
        "MultipleChoice": HubHead(
            "BertForMultipleChoice",
            {"bert.pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=BertPooler,
        ),
    }
    aliases = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
    inputs = frozenset({"token_type_ids"})
    prefix = "bert."
    unread = frozenset({"bert.embeddings.position_ids", "bert.pooler.dense.{}", "cls.seq_relationship.{}"})
    ignored = frozenset({"add_cross_attention", "position_embedding_type"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class BertBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: Bert) -> None:
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


class BertEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Bert) -> None:
        super().__init__()
        width = spec.hidden_size
        self.embedding = nn.Embedding(spec.vocab_size, width, padding_idx=spec.pad_token_id)
        self.positions = nn.Embedding(spec.max_position_embeddings, width)
        self.token_types = nn.Embedding(spec.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        self.blocks = nn.ModuleList(BertBlock(spec) for _ in range(spec.num_hidden_layers))

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
        hidden_BTD: Tensor = self.dropout(self.norm(x_BTD))
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD, mask)
        return hidden_BTD
