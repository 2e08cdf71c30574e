"""Learning-rate schedules, by name: `zoo.schedules.WarmupCosine`."""

import math
from dataclasses import dataclass

from zoo import registry
from zoo.errors import SpecError
from zoo.specs import ScheduleSpec

__getattr__, __dir__ = registry.namespace(__name__)


@dataclass(frozen=True, kw_only=True)
class _Warmup(ScheduleSpec):
    """A linear rise from zero, then what a child says."""

    warmup_fraction: float = 0.05
    """Share of the run in which the rate rises."""
    final_fraction: float = 0.0
    """Share of the optimizer's rate that is left at the end."""

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"`{name}` must lie in [0, 1], got {getattr(self, name)}", at=name)

    def factor(self, progress: float) -> float:
        """The share of the optimizer's learning rate at this share of the run."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        left = 1 - (progress - self.warmup_fraction) / max(1 - self.warmup_fraction, 1e-9)
        return self.final_fraction + (1 - self.final_fraction) * self.shape(min(max(left, 0.0), 1.0))

    def shape(self, left: float) -> float:
        """From 1 to 0, as `left` goes from 1 to 0."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WarmupCosine(_Warmup):
    """A linear rise, then half a cosine down.

    Loshchilov and Hutter, 2016: https://arxiv.org/abs/1608.03983
    """

    def shape(self, left: float) -> float:
        """Half a cosine."""
        return 0.5 - 0.5 * math.cos(math.pi * left)


@dataclass(frozen=True, kw_only=True)
class LinearWarmup(_Warmup):
    """A linear rise, then a straight line down.

    Devlin et al., 2018, appendix A.2: https://arxiv.org/abs/1810.04805
    """

    def shape(self, left: float) -> float:
        """A straight line."""
        return left


@dataclass(frozen=True, kw_only=True)
class Noam(ScheduleSpec):
    """A linear rise, then down by the inverse square root of the step; the optimizer's rate is the highest.

    Vaswani et al., 2017, section 5.3, where the highest is (hidden_size · warm-up steps) ** -0.5:
    https://arxiv.org/abs/1706.03762
    """

    warmup_fraction: float = 0.05
    """Share of the run in which the rate rises."""

    def __post_init__(self) -> None:
        if not 0 < self.warmup_fraction <= 1:
            raise SpecError(
                f"`warmup_fraction` must lie in (0, 1], got {self.warmup_fraction}", at="warmup_fraction"
            )

    def factor(self, progress: float) -> float:
        """The share of the optimizer's learning rate at this share of the run."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        return math.sqrt(self.warmup_fraction / progress)


@dataclass(frozen=True, kw_only=True)
class Constant(ScheduleSpec):
    """The optimizer's rate throughout."""

    def factor(self, progress: float) -> float:
        """Always one."""
        return 1.0
