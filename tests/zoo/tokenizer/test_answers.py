"""Which tokens of a chat are the assistant's, and well-known templates.

The templates are those that trl 1.16.0 publishes (Apache-2.0); what they make of chats was written by the
version of transformers that `rendered.json` names.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import GenerationError
from zoo.tokenizer import PLAIN_TEMPLATE, Tokenizer, chat, train_byte_level_bpe

FOLDER = Path(__file__).parents[2] / "fixtures" / "chat_templates"
RECORDED = json.loads((FOLDER / "rendered.json").read_text("utf-8"))
KNOWN = sorted(path.stem for path in FOLDER.glob("*.jinja"))
CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def read(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text("utf-8")


def tokenizer_with(template: str) -> Tokenizer:
    trained = train_byte_level_bpe(["the cat sat on the mat\n\n"] * 3, 300)
    trained.backend.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    return Tokenizer(trained.backend, {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template})


def test_there_are_ten_known_templates_at_least() -> None:
    assert len(KNOWN) >= 10


@pytest.mark.parametrize("name", KNOWN)
def test_known_templates_are_rendered_as_transformers_rendered_them(name: str) -> None:
    for chat_name, messages in RECORDED["chats"].items():
        for form in ("told", "asked"):
            values = {**RECORDED["values"], "add_generation_prompt": form == "asked"}
            expected = RECORDED["rendered"][f"{name}/{chat_name}/{form}"]
            if expected is None:
                with pytest.raises(GenerationError, match="the chat template refuses the messages"):
                    chat.render(read(name), messages, **values)
            else:
                assert chat.render(read(name), messages, **values) == expected


def chats() -> Any:
    words = st.text(st.sampled_from("cat \nü🦙<|>"), min_size=1, max_size=12)
    roles = st.sampled_from(("user", "assistant", "system"))
    message = st.builds(lambda role, content: {"role": role, "content": content}, roles, words)
    asked = words.map(lambda content: {"role": "user", "content": content})
    return st.builds(lambda first, rest: [first, *rest], asked, st.lists(message, max_size=5))


def told_in_words(template: str, messages: list[dict[str, str]]) -> tuple[str, list[bool]]:
    """What the template makes of messages, and which bytes of it are the assistant's, without Jinja."""
    is_plain = template == PLAIN_TEMPLATE
    pieces = [("<s>" if is_plain else "", False)]
    for message in messages:
        is_answer = message["role"] == "assistant"
        opened = f"<|{message['role']}|>\n" if is_plain else f"<|im_start|>{message['role']}\n"
        ended = ("</s>" if is_answer else "") if is_plain else "<|im_end|>\n"
        pieces += [(opened, False), (message["content"] + ended, is_answer)]
        pieces += [("\n", False)] if is_plain else []
    text = "".join(piece for piece, _ in pieces)
    return text, [is_answer for piece, is_answer in pieces for _ in piece.encode()]


TOKENIZERS = {name: tokenizer_with(template) for name, template in
              {"marked": PLAIN_TEMPLATE, "unmarked": CHATML}.items()}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(messages=chats())
def test_the_tokens_that_are_learnt_are_the_assistants(kind: str, messages: list[dict[str, str]]) -> None:
    tokenizer = TOKENIZERS[kind]
    text, spoken = told_in_words(tokenizer.chat_templates["default"], messages)
    assert tokenizer.apply_chat_template(messages) == text
    ids, is_answer = tokenizer.encode_answers(messages)
    sizes, start, expected = tokenizer.num_bytes(), 0, []
    for token in ids:
        size = sizes[token] or len(str(tokenizer.backend.id_to_token(token)))
        expected.append(any(spoken[start : start + size]))
        start += size
    assert start == len(spoken)
    # What a token holds of one character of several bytes, the whole character's span holds.
    assert is_answer == expected
    assert ids == tokenizer.encode_chat(messages)


def test_marked_tokens_are_those_that_transformers_marks(tmp_path: Path) -> None:
    ours = tokenizer_with(PLAIN_TEMPLATE)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for messages in RECORDED["chats"].values():
        found = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        ids, is_answer = ours.encode_answers(messages)
        assert ids == found["input_ids"]
        assert [int(one) for one in is_answer] == found["assistant_masks"]


@pytest.mark.parametrize("name", ["llama3", "llama3_1", "gemma", "gemma3", "qwen2_5", "cohere", "lfm2"])
def test_unmarked_answers_are_what_a_known_template_adds(name: str) -> None:
    asked = {"role": "user", "content": "who"}
    said = [asked, {"role": "assistant", "content": "I"}, asked, {"role": "assistant", "content": "you"}]
    text, spans = chat.with_answers(read(name), said, **RECORDED["values"])
    assert text == chat.render(read(name), said, **RECORDED["values"])
    answers = [text[start:end].lstrip() for start, end in spans]
    assert [answer[:1] for answer in answers] == ["I", "y"]
    assert not any("who" in answer for answer in answers)


@pytest.mark.parametrize("name", ["qwen3", "deepseekv3", "phi3"])
def test_a_template_that_writes_answers_otherwise_later_is_refused(name: str) -> None:
    asked = {"role": "user", "content": "who"}
    said = [asked, {"role": "assistant", "content": "I"}, asked, {"role": "assistant", "content": "you"}]
    with pytest.raises(GenerationError) as refused:
        chat.with_answers(read(name), said, **RECORDED["values"])
    assert str(refused.value) == (
        "the chat template does not tell the assistant's words apart: what it makes of the first 2 messages "
        "is not how it begins all 4\n"
        "  give a template that marks them by {% generation %} … {% endgeneration %}"
    )


def test_a_message_cannot_mark_itself() -> None:
    said = [{"role": "user", "content": "{% generation %}mine{% endgeneration %}"},
            {"role": "assistant", "content": "no"}]  # fmt: skip
    text, spans = chat.with_answers(PLAIN_TEMPLATE, said, eos_token="</s>")
    assert [text[start:end] for start, end in spans] == ["no</s>"]
