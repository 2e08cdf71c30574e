"""Losses on pairs: equal to TRL's, on the same log-probabilities; what a head makes of a batch of pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.heads import Preference
from zoo.heads.answer_pairs import example
from zoo.heads.base import Batch
from zoo.heads.preference_losses import LOSSES
from zoo.layers import IGNORED

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "preference_losses.json").read_text())
"""What the functions of trl 1.16.0 return: those of DPOTrainer (dpo, hinge, ipo), KTOTrainer, and of its
experimental CPOTrainer (dpo with label smoothing, on ratios) and ORPOTrainer (which computes in float32).
"""


@pytest.mark.parametrize("case", RECORDED["losses"])
def test_losses_are_trls(case: str) -> None:
    objective, beta, label_smoothing = case.split("/")
    given = (torch.tensor(RECORDED[name], dtype=torch.float64) for name in ("policy", "reference", "lengths"))
    policy, reference, lengths = given
    found, _ = LOSSES[objective](policy, reference, lengths, float(beta), float(label_smoothing))
    expected = torch.tensor(RECORDED["losses"][case], dtype=torch.float64)
    assert_close(found if expected.ndim else found.mean(), expected, rtol=1e-6, atol=1e-6)


def test_every_objective_was_recorded() -> None:
    assert {case.split("/")[0] for case in RECORDED["losses"]} == set(LOSSES)


@pytest.mark.parametrize("objective", LOSSES)
def test_margins_rise_with_what_is_gained_by_the_better_answer(objective: str) -> None:
    policy, reference = torch.tensor([[-4.0, -9.0], [-5.0, -5.0], [-5.0, -5.0]]), torch.full((3, 2), -5.0)
    _, margins = LOSSES[objective](policy, reference, torch.full((3, 2), 5.0), 0.1, 0.0)
    assert margins[0] > 0 > margins[1]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"objective": "dp"}, "unknown `objective` for zoo.heads.Preference, got 'dp'"),
        ({"beta": 0.0}, "`beta` must be above 0, got 0.0"),
        ({"label_smoothing": 0.5}, "`label_smoothing` must lie in [0, 0.5), got 0.5"),
        (
            {"objective": "ipo", "label_smoothing": 0.1},
            "`label_smoothing` belongs to the objective dpo, got ipo",
        ),
    ],
)  # fmt: skip
def test_choices_that_make_no_sense_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        Preference(**choices)
    assert refused.value.message == message


def model_under(**choices: Any) -> zoo.modules.DecoderModule:
    sizes = {**zoo.decoders.Llama.tiny, "initializer_range": 0.1}
    module = zoo.modules.DecoderModule(zoo.decoders.Llama(**sizes), Preference(**choices))
    module.build()
    return module


def batch_for(module: zoo.modules.DecoderModule, answers: int = 2) -> Batch:
    return example(module.spec, answers)


def test_log_probabilities_are_those_of_the_logits() -> None:
    module = model_under()
    batch = batch_for(module)
    hidden = module.hidden_states(batch)
    found = module.head().log_probs(hidden, batch["labels"])
    wanted = batch["labels"][:, 1:]
    logits = module.head()(hidden, batch)[:, :-1].log_softmax(-1)
    expected = logits.gather(-1, wanted.clamp(min=0)[..., None])[..., 0].where(wanted != IGNORED, 0.0)
    assert_close(found, expected)
    weight = module.backbone.get_parameter("embedding.weight")
    gradients = [torch.autograd.grad((one.exp() * torch.arange(1, 12)).sum(), weight, retain_graph=True)
                 for one in (found, expected)]  # fmt: skip
    assert_close(*gradients)


def test_a_pair_of_which_an_answer_is_lost_does_not_count() -> None:
    module = model_under()
    batch = batch_for(module)
    whole = module.loss(batch)
    batch["labels"][4] = IGNORED  # the second pair's worse answer
    cut = module.loss(batch)
    assert (int(whole.num_labels), int(cut.num_labels)) == (3, 2)
    assert_close(cut.predicted, whole.predicted[[0, 2]])


def test_equal_log_probabilities_are_no_preference() -> None:
    module = model_under(objective="kto")
    batch = batch_for(module, answers=3)
    reference = module.head().answer_log_probs(module.hidden_states(batch), batch).detach()
    loss = module.loss({**batch, "reference": reference})
    assert_close(loss.mean, torch.tensor(0.5))
    assert_close(loss.predicted, torch.zeros(3))
