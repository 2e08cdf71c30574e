"""Several data for several heads, by steps."""

import pytest

import zoo
from zoo.data import Mixture
from zoo.errors import SpecError


def parts(text: str) -> dict[str, zoo.data.Text]:
    sizes = {"vocab_size": 300, "sequence_length": 16, "batch_size": 4}
    return {name: zoo.data.Text(source=text, **sizes) for name in ("first", "second")}


@pytest.mark.usefixtures("workplace")
def test_as_many_held_out_batches_of_a_part_are_drawn_as_are_asked_for() -> None:
    data = Mixture(parts("text.txt"), steps={"first": 1, "second": 1}, validation_steps={"first": 1})
    data.setup("fit")
    heads = [batch["head"] for batch in data.val_dataloader()]
    assert heads.count("first") == 1
    assert heads.count("second") == len(data.parts["second"].val_dataloader()) > 1  # type: ignore[arg-type]


def test_validation_steps_of_no_part_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        Mixture(parts("text.txt"), validation_steps={"frist": 1})
    assert str(caught.value).splitlines()[0] == "`validation_steps` names `frist`, which is no part"
    assert "did you mean `first`?" in str(caught.value)


def test_validation_steps_below_one_are_refused() -> None:
    with pytest.raises(SpecError, match=r"`validation_steps` of `first` must be at least 1, got 0"):
        Mixture(parts("text.txt"), validation_steps={"first": 0})


@pytest.mark.usefixtures("workplace")
def test_a_held_out_pass_that_was_cut_is_followed_by_a_whole_one() -> None:
    data = Mixture(parts("text.txt"))
    data.setup("fit")
    loader = data.val_dataloader()
    whole = [batch["input_ids"].tolist() for batch in loader]
    assert len(whole) > 2
    cut = iter(loader)
    next(cut)
    next(cut)
    del cut
    assert [batch["input_ids"].tolist() for batch in loader] == whole
