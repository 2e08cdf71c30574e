"""Chats, rendered as transformers renders them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers

from zoo.errors import CheckpointError, GenerationError
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

TEMPLATES = {
    "chatml": """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "llama-2": """\
{% if messages[0]['role'] == 'system' %}
    {% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
    {% set turns = messages[1:] %}
{% else %}
    {% set system = '' %}
    {% set turns = messages %}
{% endif %}
{% for turn in turns %}
    {% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: user, assistant, user …') }}
    {% endif %}
    {% set content = system + turn['content'] if loop.first else turn['content'] %}
    {% if turn['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% else %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}""",
    "zephyr": """\
{% for message in messages %}
{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "tools and a date": """\
{{ strftime_now('%Y') }}|{% for tool in tools or [] %}{{ tool | tojson }}{{ tool | tojson(indent=2) }}
{%- endfor %}
{%- set seen = namespace(count=0) %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{% continue %}{% endif %}
    {%- set seen.count = seen.count + 1 %}
{{ seen.count }}<{{ message.role }}>{{ message.content | trim }}{{ message.name if message.name is defined }}
    {%- if seen.count > 8 %}{% break %}{% endif %}
{%- endfor %}""",
    "what is trained is marked": """\
{% for message in messages %}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{% else %}
{{ message.content }}
{% endif %}
{% endfor %}""",
}
CHATS: dict[str, list[dict[str, Any]]] = {
    "one turn": [{"role": "user", "content": "the cat"}],
    "several": [
        {"role": "user", "content": "  the cat\n"},
        {"role": "assistant", "content": "sat <b>on</b> the mat & “more”", "name": None},
        {"role": "user", "content": "🦙 {{ 7 * 7 }} ü"},
    ],
    "with a system": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "the dog"},
        {"role": "assistant", "content": "ran"},
        {"role": "user", "content": "to?"},
    ],
}
TOOL = {"type": "function", "function": {"name": "grüße", "parameters": {"b": 1, "a": "<x>"}}}


def tokenizer_with(template: Any) -> Tokenizer:
    trained = train_byte_level_bpe(["the cat sat on the mat\n"] * 3, 300)
    config = {**trained.config, "bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    trained.backend.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    return Tokenizer(trained.backend, {key: value for key, value in config.items() if value is not None})


def theirs(tokenizer: Tokenizer, folder: Path) -> transformers.PreTrainedTokenizerBase:
    tokenizer.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("template", TEMPLATES)
def test_chats_are_rendered_as_transformers_renders_them(template: str, tmp_path: Path) -> None:
    ours = tokenizer_with(TEMPLATES[template])
    reference = theirs(ours, tmp_path)
    for chat in CHATS.values():
        for choices in ({}, {"add_generation_prompt": True}, {"tools": [TOOL]}):
            expected = reference.apply_chat_template(chat, tokenize=False, **choices)
            assert ours.apply_chat_template(chat, **choices) == expected
        wanted = reference.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert ours.encode_chat(chat, add_generation_prompt=True) == wanted


def test_a_date_is_todays() -> None:
    text = tokenizer_with("{{ strftime_now('%Y-%m') }}").apply_chat_template(CHATS["one turn"])
    assert text == datetime.now().strftime("%Y-%m")


def test_what_a_template_reads_besides_is_given_by_name() -> None:
    tokenizer = tokenizer_with("{{ enable_thinking }}{{ eos_token }}")
    assert tokenizer.apply_chat_template(CHATS["one turn"], enable_thinking=True) == "True</s>"


NAMED = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]


def test_named_templates_are_chosen_as_transformers_chooses(tmp_path: Path) -> None:
    ours = tokenizer_with(NAMED)
    reference = theirs(ours, tmp_path)
    for choices in ({}, {"tools": [TOOL]}):
        expected = reference.apply_chat_template(CHATS["one turn"], tokenize=False, **choices)
        assert ours.apply_chat_template(CHATS["one turn"], **choices) == expected
    assert ours.apply_chat_template(CHATS["one turn"], template="tool_use") == "tools"
    assert ours.apply_chat_template(CHATS["one turn"], tools=[TOOL], template="default") == "plain"


def test_templates_are_read_from_every_file_that_transformers_writes(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    reference = theirs(tokenizer_with(NAMED), old)
    reference.save_pretrained(new)
    assert "chat_template" not in json.loads((new / "tokenizer_config.json").read_text())
    assert (new / "additional_chat_templates" / "tool_use.jinja").is_file()
    read = Tokenizer.from_folder(new)
    assert read is not None
    assert read.chat_templates == {"default": "plain", "tool_use": "tools"}
    assert Tokenizer.from_plain(read.to_plain()).chat_templates == read.chat_templates
    again = tmp_path / "again"
    again.mkdir()
    read.save(again)
    assert transformers.AutoTokenizer.from_pretrained(again).chat_template == read.chat_templates


def test_the_file_of_its_own_counts_before_the_configuration(tmp_path: Path) -> None:
    theirs(tokenizer_with("of the configuration"), tmp_path)
    (tmp_path / "chat_template.jinja").write_text("of the file")
    ours, reference = (kind(tmp_path) for kind in (Tokenizer.from_folder, _reference))
    assert ours is not None
    expected = reference.apply_chat_template(CHATS["one turn"], tokenize=False)
    assert ours.apply_chat_template(CHATS["one turn"]) == expected == "of the file"


def _reference(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (
            TEMPLATES["llama-2"],
            [{"role": "assistant", "content": "hi"}],
            "the chat template refuses the messages: Roles must alternate: user, assistant, user …",
        ),
        (
            "{{ messages[0].nothing.more }}",
            CHATS["one turn"],
            "the chat template refuses the messages: 'dict object' has no attribute 'nothing'",
        ),
        (
            "{{ ''.__class__.__mro__ }}",
            CHATS["one turn"],
            "the chat template refuses the messages: "
            "access to attribute '__class__' of 'str' object is unsafe.",
        ),
        (
            "{{ messages.append(1) }}",
            CHATS["one turn"],
            "the chat template refuses the messages: "
            "access to attribute 'append' of 'list' object is unsafe.",
        ),
        ("any", [], "a chat needs at least one message"),
        (
            "any",
            [{"role": "user", "content": {1, 2}}],
            "a chat's messages must be plain JSON values: Object of type set is not JSON serializable",
        ),
        (
            None,
            CHATS["one turn"],
            "the model's tokenizer has no chat template\n  `zoo generate` continues a text",
        ),
        (
            [{"name": "rag", "template": "x"}],
            CHATS["one turn"],
            "the model has no chat template `default`\n  its templates: rag",
        ),
    ],
)
def test_what_cannot_be_rendered_is_refused(template: Any, messages: Any, message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        tokenizer_with(template).apply_chat_template(messages)
    assert str(caught.value) == message


def test_a_template_that_is_no_jinja_is_refused() -> None:
    with pytest.raises(CheckpointError) as caught:
        tokenizer_with("a\n{% if %}").apply_chat_template(CHATS["one turn"])
    assert str(caught.value) == (
        "the chat template cannot be read: "
        "Expected an expression, got 'end of statement block', in its line 2"
    )
