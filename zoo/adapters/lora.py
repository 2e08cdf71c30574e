"""What an adapter adds to a model, in the words of PEFT's adapter_config.json.

Hu et al., 2021: https://arxiv.org/abs/2106.09685
"""

from dataclasses import dataclass
from typing import Literal, get_args

from zoo.errors import SpecError

Quantization = Literal["nf4", "fp4"]
"""Kinds of four bits: as likely as numbers of a normal distribution are, or floating."""


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Products of two thin matrices beside a model's projections; the model itself stays as it is."""

    r: int = 8
    """Numbers in between: the rank of what is added."""
    lora_alpha: float = 16
    """What is added is multiplied by `lora_alpha / r`."""
    target_modules: list[str] | None = None
    """Projections, by the ends of their names here (`query`) or on the Hub (`q_proj`); None: all of the
    backbone."""
    lora_dropout: float = 0.0
    """Probability of dropping a channel before it, in training."""
    use_rslora: bool = False
    """Whether the factor is `lora_alpha / sqrt(r)`. Kalajdzievski, 2023: https://arxiv.org/abs/2312.03732"""
    use_dora: bool = False
    """Whether rows' lengths are learnt apart. Liu et al., 2024: https://arxiv.org/abs/2402.09353"""
    quantization: Quantization | None = None
    """In which four bits the backbone's projections are kept meanwhile; None: as they are. Dettmers et al.,
    2023 (QLoRA): https://arxiv.org/abs/2305.14314"""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise SpecError(f"`r` must be at least 1, got {self.r}", at="r")
        if not 0 <= self.lora_dropout < 1:
            raise SpecError(f"`lora_dropout` must lie in [0, 1), got {self.lora_dropout}", at="lora_dropout")
        if self.quantization not in (None, *get_args(Quantization)):
            known = ", ".join(get_args(Quantization))
            raise SpecError(
                f"`quantization` must be one of {known}, got `{self.quantization}`",
                at="quantization",
            )
