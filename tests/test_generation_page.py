"""What docs/generation.md shows is run."""

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.generation import Settings
from zoo.modules import DecoderModule
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

PAGE = (Path(__file__).parents[1] / "docs" / "generation.md").read_text("utf-8")
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with `my-model`, which says nothing sensible, and two files of prompts."""
    home = tmp_path_factory.mktemp("generation")
    sizes = {"vocab_size": 300, "max_position_embeddings": 256}
    model = DecoderModule(backbone=zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, **sizes}))
    torch.manual_seed(0)
    model.build()
    trained = train_byte_level_bpe(["Once upon a time there was a story, the end.\n"] * 3, 300)
    model.adopt_tokenizer(Tokenizer(trained.backend, {**trained.config, "chat_template": TEMPLATE}))
    model.generation_config = {"max_new_tokens": 5}
    zoo.save(model, home / "my-model")
    (home / "prompts.txt").write_text("Once upon\nThe end\n")
    records = [{"prompt": "Once upon"}, {"messages": [{"role": "user", "content": "a story"}]}]
    (home / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return home


def test_the_python_runs_in_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(compile(code, "docs/generation.md", "exec"), names)


def test_the_commands_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for line in "".join(blocks("sh")).splitlines():
        monkeypatch.setattr(sys, "stdin", io.StringIO("Tell me a story.\n/quit\n"))
        words = shlex.split(line, comments=True)
        assert words[0] == "zoo"
        main(words[1:])
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert [answer["prompt"] for answer in answers] == ["Once upon", "The end"]
    assert capsys.readouterr().err == ""


def test_every_field_that_is_followed_is_named() -> None:
    fields = Settings.__dataclass_fields__
    assert {name for name in fields if f"`{name}`" not in PAGE} == set()
