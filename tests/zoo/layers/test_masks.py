"""What attention may see, token by token."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.layers import Mask

from .views import View, packed_rows, views

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=300, derandomize=True)
@given(view=views(), data=st.data())
def test_a_token_sees_what_the_description_says(view: View, data: st.DataObject) -> None:
    num_keys = len(view.documents[0])
    num_queries = data.draw(st.integers(1, num_keys))
    seen = view.mask().dense(num_queries, num_keys, CPU)
    seen = torch.ones(1, 1, 1, 1, dtype=torch.bool) if seen is None else seen
    seen = seen.expand(len(view.documents), 1, num_queries, num_keys)
    for row, documents in enumerate(view.documents):
        for query in range(num_queries):
            place = query + num_keys - num_queries
            found = seen[row, 0, query].tolist()
            if documents[place]:
                assert found == [view.sees(row, place, key) for key in range(num_keys)]
            assert any(found)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(data=st.data(), several=st.booleans())
def test_a_document_of_another_text_is_seen_by_its_namesake(data: st.DataObject, several: bool) -> None:
    read = data.draw(packed_rows(data.draw(st.integers(1, 6)), several=several))
    written = data.draw(packed_rows(data.draw(st.integers(1, 6)), several=several))
    read, written = read[: len(written)], written[: len(read)]
    mask = Mask(torch.tensor(read)).across(Mask(torch.tensor(written)))
    seen = mask.dense(len(written[0]), len(read[0]), CPU)
    assert seen is not None
    seen = seen.expand(len(read), 1, len(written[0]), len(read[0]))
    for row, documents in enumerate(written):
        for query, number in enumerate(documents):
            found = seen[row, 0, query].tolist()
            if number in read[row]:
                assert found == [other == number for other in read[row]]
            assert any(found)


def test_one_that_writes_a_single_text_sees_the_first_document_alone() -> None:
    seen = Mask(torch.tensor([[1, 1, 2, 0]])).across(Mask()).dense(3, 4, CPU)
    assert seen is not None
    assert seen.tolist() == [[[[True, True, False, False]]]]


def test_a_mask_that_hides_nothing_takes_no_memory() -> None:
    assert Mask().dense(3, 3, CPU) is None
    assert Mask(is_causal=True).dense(1, 5, CPU) is None
    assert Mask(reach=5).dense(3, 5, CPU) is None
    assert Mask().across(Mask(torch.tensor([[1, 0]]))).dense(2, 3, CPU) is None


def test_without_documents_one_causal_mask_serves_every_row() -> None:
    seen = Mask(is_causal=True).dense(2, 4, CPU)
    assert seen is not None
    assert seen.tolist() == [[[[True, True, True, False], [True, True, True, True]]]]


def test_a_bias_is_minus_infinity_where_nothing_is_seen() -> None:
    bias = torch.randn(1, 2, 3, 3)
    dense = Mask(is_causal=True).with_bias(bias).dense(3, 3, CPU)
    assert dense is not None
    before = torch.ones(3, 3, dtype=torch.bool).tril()
    assert dense.equal(bias.masked_fill(~before, -torch.inf))
    assert Mask().with_bias(bias).dense(3, 3, CPU) is bias


def test_what_a_kernel_makes_is_made_once() -> None:
    mask = Mask(torch.tensor([[1, 1, 2]])).causal()
    assert mask.dense(3, 3, CPU) is mask.dense(3, 3, CPU)
    assert mask.within(2).dense(3, 3, CPU) is not mask.dense(3, 3, CPU)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(data=st.data(), several=st.booleans())
def test_positions_count_the_tokens_of_a_document(data: st.DataObject, several: bool) -> None:
    documents = data.draw(packed_rows(data.draw(st.integers(1, 8)), several=several))
    num_keys = len(documents[0])
    num_tokens = data.draw(st.integers(1, num_keys))
    ids = torch.zeros(len(documents), num_tokens, dtype=torch.long)
    for mask in (Mask(torch.tensor(documents)), Mask.from_attention_mask(torch.tensor(documents))):
        positions = mask.positions(ids, num_keys - num_tokens).expand_as(ids)
        assert (positions >= 0).all()
        for row, numbers in enumerate(documents):
            for token in range(num_tokens):
                place = num_keys - num_tokens + token
                if numbers[place]:
                    assert positions[row, token] == numbers[:place].count(numbers[place])


def test_positions_without_padding_go_on_from_the_past() -> None:
    ids = torch.zeros(3, 4, dtype=torch.long)
    assert Mask().positions(ids).tolist() == [[0, 1, 2, 3]]
    assert Mask().positions(ids, num_past=7).tolist() == [[7, 8, 9, 10]]


def test_the_hubs_attention_mask_says_which_tokens_are_real() -> None:
    mask = Mask.from_attention_mask(torch.tensor([[0, 1, 1]]))
    assert mask.documents_BS is not None
    assert mask.documents_BS.tolist() == [[False, True, True]]
    assert not mask.is_causal
    assert mask.causal() == Mask(mask.documents_BS, True)
    for whole in (None, torch.ones(2, 3, dtype=torch.long)):
        assert Mask.from_attention_mask(whole) == Mask()


def test_in_a_packed_row_it_says_which_document() -> None:
    documents = torch.tensor([[1, 1, 2, 2, 3, 0]])
    assert Mask.from_attention_mask(documents).documents_BS is documents


def test_padding_at_the_end_is_known_where_asking_costs_nothing() -> None:
    def is_right_padded(rows: list[list[int]]) -> bool:
        return Mask.from_attention_mask(torch.tensor(rows)).is_right_padded

    assert is_right_padded([[1, 1, 0], [1, 0, 0]])
    assert not is_right_padded([[1, 1, 0], [0, 1, 1]])
    assert not is_right_padded([[1, 2, 0]])
