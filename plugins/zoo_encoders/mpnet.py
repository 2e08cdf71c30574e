"""MPNet: an encoder that knows positions and, in each score, distances.

Song et al., 2020: https://arxiv.org/abs/2004.09297
"""

from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.layers import ACTIVATIONS, Attention, DenseDropout, DenseNorm, FeedForward, Mask, RelativePositions
from zoo.specs import EncoderSpec, HubHead, require_divides, require_known, require_tied

PADDING = 1
"""The padding's id and the row of its position, whatever config.json says."""


def transform(spec: "MPNet") -> nn.Module:
    """What stands between the hidden states and the vocabulary; always with gelu, as in the reference."""
    return DenseNorm(spec.hidden_size, "gelu", nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps))


def pooler(spec: "MPNet") -> nn.Module:
    """What stands between the first token's hidden state and the labels."""
    return DenseDropout(spec.hidden_size, spec.hidden_dropout_prob)


def dropped(spec: "MPNet") -> nn.Module:
    """What stands between each token's hidden state and its label."""
    return nn.Dropout(spec.hidden_dropout_prob)


@dataclass(frozen=True, kw_only=True)
class MPNet(EncoderSpec):
    """Sizes of an MPNet; defaults are the paper's base model."""

    vocab_size: int = 30527
    hidden_size: int = 768
    intermediate_size: int = 3072
    """Width of the feed-forward."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 514
    """Rows of the table of positions, of which the first two stand for no token's."""
    relative_attention_num_buckets: int = 32
    """Ranges of distance that are told apart; the reference knows no other number."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    tie_word_embeddings: bool = True
    pad_token_id: int | None = PADDING
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        if self.relative_attention_num_buckets != 32:
            given = self.relative_attention_num_buckets
            raise SpecError(
                f"`relative_attention_num_buckets` must be 32 in zoo.encoders.MPNet, got {given}",
                at="relative_attention_num_buckets",
            )
        require_tied(self)
        if self.max_tokens < 1:
            raise SpecError(
                f"`max_position_embeddings` must be above 2, got {self.max_position_embeddings}",
                at="max_position_embeddings",
            )

    def build(self) -> "MPNetEncoder":
        """The backbone, without weights of its own choosing."""
        return MPNetEncoder(self)

    @property
    def max_tokens(self) -> int:
        """The longest text that can be read, in tokens."""
        return self.max_position_embeddings - PADDING - 1

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "mpnet.embeddings.word_embeddings.{}": "embedding.{}",
        "mpnet.embeddings.position_embeddings.{}": "positions.{}",
        "mpnet.embeddings.LayerNorm.{}": "norm.{}",
        "mpnet.encoder.relative_attention_bias.{}": "distances.bias.{}",
        "mpnet.encoder.layer.{}.attention.attn.q.{}": "blocks.{}.attention.query.{}",
        "mpnet.encoder.layer.{}.attention.attn.k.{}": "blocks.{}.attention.key.{}",
        "mpnet.encoder.layer.{}.attention.attn.v.{}": "blocks.{}.attention.value.{}",
        "mpnet.encoder.layer.{}.attention.attn.o.{}": "blocks.{}.attention.output.{}",
        "mpnet.encoder.layer.{}.attention.LayerNorm.{}": "blocks.{}.attention_norm.{}",
        "mpnet.encoder.layer.{}.intermediate.dense.{}": "blocks.{}.feedforward.up.{}",
        "mpnet.encoder.layer.{}.output.dense.{}": "blocks.{}.feedforward.down.{}",
        "mpnet.encoder.layer.{}.output.LayerNorm.{}": "blocks.{}.feedforward_norm.{}",
    }
    heads = {
        "MaskedLM": HubHead(
            "MPNetForMaskedLM",
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
            "MPNetForSequenceClassification",
            {"classifier.dense.{}": "transform.dense.{}", "classifier.out_proj.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
        "TokenClassification": HubHead(
            "MPNetForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True, transform=dropped
        ),
        "ExtractiveQA": HubHead("MPNetForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
        "MultipleChoice": HubHead(
            "MPNetForMultipleChoice",
            {"mpnet.pooler.dense.{}": "transform.dense.{}", "classifier.{}": "projection.{}"},
            bias=True,
            transform=pooler,
        ),
    }
    aliases = {"lm_head.decoder.bias": "lm_head.bias"}
    prefix = "mpnet."
    unread = frozenset({"mpnet.embeddings.position_ids", "mpnet.pooler.dense.{}"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 66,
    }


class MPNetBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: MPNet) -> None:
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


class MPNetEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: MPNet) -> None:
        super().__init__()
        width = spec.hidden_size
        self.embedding = nn.Embedding(spec.vocab_size, width, padding_idx=PADDING)
        self.positions = nn.Embedding(spec.max_position_embeddings, width, padding_idx=PADDING)
        self.distances = RelativePositions(spec.num_attention_heads)
        self.norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)
        self.blocks = nn.ModuleList(MPNetBlock(spec) for _ in range(spec.num_hidden_layers))

    def forward(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row.

        Args:
            input_ids: (batch, tokens).
            mask: Which tokens are real; the reference takes each id 1 for padding, wherever it stands.
        """
        positions_BTD = self.positions(mask.positions(input_ids) + PADDING + 1)
        hidden_BTD: Tensor = self.dropout(self.norm(self.embedding(input_ids) + positions_BTD))
        num_tokens = input_ids.shape[1]
        seen = mask.biased(self.distances(num_tokens, num_tokens))
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD, seen)
        return hidden_BTD
