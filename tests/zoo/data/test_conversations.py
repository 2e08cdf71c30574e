"""Conversations: what is read, what is learnt, and that packed ones never see each other."""

import json
import random
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.data import Conversations
from zoo.errors import DataError, GenerationError
from zoo.layers import IGNORED
from zoo.tokenizer import train

WORDS = ["the", "cat", "dog", "sat", "on", "mat", "ran", "to"]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def chats(number: int = 40) -> list[dict[str, Any]]:
    draw = random.Random(0)

    def said(role: str) -> dict[str, str]:
        return {"role": role, "content": " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))}

    return [{"messages": [said("user"), said("assistant")] * draw.randint(1, 3)} for _ in range(number)]


def data_of(source: str, **choices: Any) -> Conversations:
    data = Conversations(
        source, vocab_size=300, max_length=choices.pop("max_length", 96), batch_size=4, **choices
    )
    data.setup("fit")
    return data


def test_only_what_the_assistant_says_is_learnt(tmp_path: Path) -> None:
    data = data_of(write(tmp_path, chats()), max_length=200)
    batch = data.collate(data.examples()[0][:6])
    for example, ids, labels in zip(data.examples()[0], batch["input_ids"], batch["labels"], strict=False):
        learnt = labels != IGNORED
        assert torch.equal(ids[learnt], labels[learnt])
        said = [message["content"] for message in example.messages if message["role"] == "assistant"]
        text = data.tokenizer.decode(ids[learnt].tolist(), skip_special=False)
        assert text == "".join(f"{one}<|endoftext|>" for one in said)


def test_packed_conversations_are_learnt_as_separate_ones(tmp_path: Path) -> None:
    source = write(tmp_path, chats())
    separate, packed = data_of(source), data_of(source, row_tokens=128)
    sizes = {"vocab_size": 300, "max_position_embeddings": 128, "initializer_range": 0.1}
    module = zoo.modules.DecoderModule(zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, **sizes}))
    module.build()
    found = []
    for data in (separate, packed):
        batch = data.collate(data.examples()[0][:8])
        loss = module.loss(batch)
        (gradient,) = torch.autograd.grad(loss.total, [module.backbone.get_parameter("embedding.weight")])
        found.append((loss.total, torch.tensor(int(loss.num_labels)), gradient, len(batch["input_ids"])))
    assert_close(found[0][:3], found[1][:3], rtol=1e-4, atol=1e-4)
    assert found[0][3] == 8 > found[1][3]


def test_a_question_and_its_answer_are_a_conversation(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hello"},
    ]
    (one, two) = Conversations(write(tmp_path, rows)).read_source(str(tmp_path / "chats.jsonl"))
    assert [message["content"] for message in one.messages] == ["Add.\n\n1, 2", "3"]
    assert [message["role"] for message in one.messages] == ["user", "assistant"]
    assert two.messages[0]["content"] == "Greet."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "a row has neither `messages` nor a question"),
        ({"prompt": "a"}, "a row has no `output`"),
        ({"messages": "hi"}, "the assistant says nothing in a conversation"),
        ({"messages": []}, "`messages` must be a list of messages, got []"),
        (
            {"messages": [{"from": "human", "value": "a"}]},
            "a message of `messages` must have a `role` and a `content`, "
            "got {'from': 'human', 'value': 'a'}",
        ),
        ({"messages": [{"role": "assistant", "content": ""}]}, "`content` is empty"),
    ],
)  # fmt: skip
def test_rows_that_are_no_conversation_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = write(tmp_path, [*chats(3), row])
    with pytest.raises(DataError) as refused:
        Conversations(source).examples()
    assert refused.value.message == message
    assert refused.value.source == f"{source}:4"


def test_a_model_without_a_template_keeps_the_one_it_was_trained_with(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    data = data_of(write(tmp_path, chats()), template=str(template))
    assert data.tokenizer.chat_template == template.read_text()
    with pytest.raises(DataError, match=r"the chat template `none\.jinja` cannot be read"):
        data_of(write(tmp_path, chats()), template="none.jinja")


def test_a_template_that_tells_no_answers_apart_is_refused(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[-1].content }}")
    data = data_of(write(tmp_path, chats()), template=str(template))
    with pytest.raises(GenerationError, match="does not tell the assistant's words apart"):
        data.collate(data.examples()[0])


def test_what_ends_no_answer_is_refused(tmp_path: Path) -> None:
    data = Conversations(write(tmp_path, chats()), vocab_size=300, max_length=32)
    module = zoo.modules.DecoderModule(zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "vocab_size": 300}))
    plain = train("bpe", ["the cat"], 96)
    module.tokenizer = type(plain)(plain.backend, {})
    data.trainer = types.SimpleNamespace(lightning_module=module)  # type: ignore[assignment]
    with pytest.raises(DataError, match="no `eos_token` to end what the assistant says"):
        data.setup("fit")


def test_the_last_answers_are_asked_for(tmp_path: Path) -> None:
    data = data_of(write(tmp_path, chats()))
    (prompts,) = data.predict_dataloader()
    assert len(prompts["prompts"]) == len(data.examples()[1])
    model = zoo.modules.DecoderModule(zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "vocab_size": 300}))
    model.build()
    model.adopt_tokenizer(data.tokenizer)
    assert all(isinstance(text, str) for text in model.predict(prompts["prompts"][:2]))
