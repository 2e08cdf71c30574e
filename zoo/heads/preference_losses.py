"""What is lost on pairs of answers of which one is better, given how likely each is.

Every function takes log-probabilities (answers, pairs): of the better answer, of the worse one and, for
`kto`, of another pair's answer, each summed over its tokens, of which `lengths` says how many there are. It
returns two rows of numbers, one a pair: the losses, and by how much the better answer is preferred.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Callable[[Tensor, Tensor, Tensor, float, float], tuple[Tensor, Tensor]]


def dpo(
    policy_AP: Tensor, reference_AP: Tensor, lengths_AP: Tensor, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Direct preference optimization; `label_smoothing` is the share of pairs that may be wrong.

    Rafailov et al., 2023: https://arxiv.org/abs/2305.18290
    """
    margins_P = beta * _better(policy_AP - reference_AP)
    losses_P = -(1 - label_smoothing) * F.logsigmoid(margins_P) - label_smoothing * F.logsigmoid(-margins_P)
    return losses_P, margins_P


def ipo(
    policy_AP: Tensor, reference_AP: Tensor, lengths_AP: Tensor, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Identity preference optimization, on means over tokens, as its authors computed it.

    Azar et al., 2023: https://arxiv.org/abs/2310.12036
    """
    gaps_P = _better((policy_AP - reference_AP) / lengths_AP)
    return (gaps_P - 1 / (2 * beta)).square(), beta * gaps_P


def hinge(
    policy_AP: Tensor, reference_AP: Tensor, lengths_AP: Tensor, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """The hinge of a margin.

    Zhao et al., 2023 (SLiC): https://arxiv.org/abs/2305.10425
    """
    margins_P = beta * _better(policy_AP - reference_AP)
    return F.relu(1 - margins_P), margins_P


def orpo(
    policy_AP: Tensor, reference_AP: Tensor, lengths_AP: Tensor, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """The better answer's own loss, and the ratio of odds; there is no reference.

    Hong et al., 2024: https://arxiv.org/abs/2403.07691
    """
    means_AP = policy_AP / lengths_AP
    certain = -1e-6  # of an answer that is certain, odds have no end
    odds_AP = means_AP - torch.log(-torch.expm1(means_AP.clamp(max=certain)))
    return -means_AP[0] - beta * F.logsigmoid(_better(odds_AP)), beta * _better(means_AP)


def kto(
    policy_AP: Tensor, reference_AP: Tensor, lengths_AP: Tensor, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Kahneman-Tversky optimization: each answer by itself, against how far the model has moved.

    Ethayarajh et al., 2024: https://arxiv.org/abs/2402.01306
    """
    ratios_AP = policy_AP - reference_AP
    moved = ratios_AP[2].mean().clamp(min=0).detach()
    losses_P = 2 - torch.sigmoid(beta * (ratios_AP[0] - moved)) - torch.sigmoid(beta * (moved - ratios_AP[1]))
    return losses_P / 2, beta * _better(ratios_AP)


def _better(values_AP: Tensor) -> Tensor:
    """By how much the first row is above the second."""
    return values_AP[0] - values_AP[1]


LOSSES: dict[str, PairLoss] = {"dpo": dpo, "ipo": ipo, "hinge": hinge, "orpo": orpo, "kto": kto}
