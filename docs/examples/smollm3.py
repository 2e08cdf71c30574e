"""SmolLM3: Llama, some of whose layers know no positions, and may look nearby alone.

Bakouch et al., 2025: https://huggingface.co/blog/smollm3
Yang et al., 2025 (layers without positions): https://arxiv.org/abs/2501.18795
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from zoo.errors import SpecError
from zoo.generation import Cache
from zoo.layers import Mask, RopeParameters
from zoo.specs import HubHead, require_layer_types, require_positive
from zoo_decoders.llama import Llama, LlamaDecoder


@dataclass(frozen=True, kw_only=True)
class SmolLM3(Llama):
    """Sizes of a SmolLM3; defaults are config.json's own."""

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 32768
    rope_parameters: RopeParameters = field(default_factory=lambda: RopeParameters(rope_theta=2e6))
    no_rope_layers: list[int] | None = None
    """Of each layer, 1 where it knows positions, else 0; None: as the next field says."""
    no_rope_layer_interval: int = 4
    """The last of so many layers knows no positions."""
    use_sliding_window: bool = False
    """Whether layers without positions see a window alone."""
    sliding_window: int | None = None
    """How many tokens, itself included, a token of a layer that slides sees."""
    layer_types: list[str] | None = None
    """Of each layer, `full_attention` or `sliding_attention`; None: as the two before say."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    def __post_init__(self) -> None:
        super().__post_init__()
        require_layer_types(self)
        require_positive(self, "no_rope_layer_interval")
        given, needed = self.no_rope_layers, self.num_hidden_layers
        if given is not None and len(given) < needed:
            told = f"`no_rope_layers` must speak of {needed} layers, got {len(given)}"
            raise SpecError(told, at="no_rope_layers")

    def has_rope(self, index: int) -> bool:
        """Whether a layer knows positions."""
        if self.no_rope_layers is not None:
            return bool(self.no_rope_layers[index])
        return bool((index + 1) % self.no_rope_layer_interval)

    def reach(self, index: int) -> int | None:
        """How many tokens a layer's token sees; None: all."""
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[index] == "sliding_attention" else None
        return self.sliding_window if self.use_sliding_window and not self.has_rope(index) else None

    def build(self) -> "SmolLM3Decoder":
        """The backbone, without weights of its own choosing."""
        return SmolLM3Decoder(self)

    def to_hub(self) -> dict[str, Any]:
        """The spec as keys of config.json, where transformers takes a `head_dim` of null for a width."""
        width = self.head_dim or self.hidden_size // self.num_attention_heads
        return {**super().to_hub(), "head_dim": width}

    heads = {
        "CausalLM": HubHead("SmolLM3ForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead("SmolLM3ForSequenceClassification", {"score.{}": "projection.{}"}),
    }
    gguf = None
    ignored = frozenset({"max_window_layers", "pretraining_tp"})
    tiny = {
        **Llama.tiny,
        "no_rope_layer_interval": 2,
        "use_sliding_window": True,
        "sliding_window": 4,
        "pad_token_id": 0,
    }


class SmolLM3Decoder(LlamaDecoder):
    """Token ids to hidden states."""

    def __init__(self, spec: SmolLM3) -> None:
        super().__init__(spec)
        self.layers = [(spec.has_rope(index), spec.reach(index)) for index in range(spec.num_hidden_layers)]

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x = self.embedding(input_ids)
        views = {reach: mask.causal().within(reach) for _, reach in self.layers}
        for index, (block, (has_rope, reach)) in enumerate(zip(self.blocks, self.layers, strict=True)):
            x = block(x, views[reach], rope if has_rope else None, cache.layer(index) if cache else None)
        output: Tensor = self.norm(x)
        return output
