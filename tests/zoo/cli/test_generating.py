"""`zoo generate`: one prompt, or a file of them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.modules.generating import GeneratingModule

Command = Callable[..., Any]
SavedModel = Callable[..., str]

PROMPTS = ["the cat", "a", "the cat", "on the mat, the dog", "the cat sat on the mat, the dog ran to the sun"]


def lines(path: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


# One prompt


def test_what_is_no_terminal_gets_json(command: Command, saved_model: SavedModel) -> None:
    for shape in ("decoder", "encoder-decoder"):
        folder = saved_model(shape)
        outcome = command("generate", folder, "the cat", "--max-new-tokens", "9")
        assert (outcome.code, outcome.err) == (0, "")
        text = zoo.load(folder).generate("the cat", max_new_tokens=9)
        assert json.loads(outcome.out) == {"prompt": "the cat", "text": text}


def test_a_terminal_shows_the_text_as_it_comes(
    command: Command, saved_model: SavedModel, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape, shown in (("decoder", "the cat"), ("encoder-decoder", "")):
        folder = saved_model(shape)
        text = zoo.load(folder).generate("the cat")
        with monkeypatch.context() as patch:
            patch.setattr(GeneratingModule, "generate", None)
            outcome = command("generate", folder, "the cat")
        assert (outcome.code, outcome.out) == (0, f"{shown}{text}\n")


def test_every_option_reaches_generate(
    command: Command, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = saved_model(), {}

    def generate(self: GeneratingModule, inputs: Any, **choices: Any) -> str:
        asked.update(choices, inputs=inputs)
        return "x"

    monkeypatch.setattr(GeneratingModule, "generate", generate)
    flags = (
        "--max-new-tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --seed 4 --stop a --stop b "
        "--choices yes --choices no --repetition-penalty 1.2 --no-repeat-ngram-size 2 --num-beams 3 "
        "--length-penalty 0.5 --early-stopping never --num-return-sequences 2 --head head --batch-size 3"
    )
    assert (
        command("generate", folder, "the", *flags.split(), "--device", "cpu", "--dtype", "float32").code == 0
    )
    assert asked == {
        "inputs": "the",
        "max_new_tokens": 5,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "seed": 4,
        "stop": ["a", "b"],
        "choices": ["yes", "no"],
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 2,
        "num_beams": 3,
        "length_penalty": 0.5,
        "early_stopping": "never",
        "num_return_sequences": 2,
        "head": "head",
        "batch_size": 3,
    }


def test_guessed_tokens_change_no_text(command: Command, saved_model: SavedModel) -> None:
    folder = saved_model()
    plain = command("generate", folder, "the cat sat on the", "--temperature", "1", "--seed", "3")
    for flags in (("--draft", folder), ("--prompt-lookup",)):
        guessed = command(
            "generate", folder, "the cat sat on the", "--temperature", "1", "--seed", "3", *flags
        )
        assert (guessed.code, guessed.out) == (0, plain.out)
    refused(
        command("generate", folder, "the", "--draft", folder, "--prompt-lookup"),
        "tokens are guessed by --draft or by --prompt-lookup, not by both",
    )
    outcome = command("generate", folder, "the", "--draft", saved_model("encoder"))
    refused(outcome, "an encoder writes no text\n  `zoo predict` asks its head")


def test_a_prompt_may_be_put_into_the_chat_template(command: Command, chat_model: str) -> None:
    outcome = command("generate", chat_model, "the cat", "--chat")
    asked = zoo.load(chat_model).generate("<u>the cat\n<a>")
    assert json.loads(outcome.out) == {"prompt": "the cat", "text": asked}


def test_several_texts_of_a_prompt(command: Command, saved_model: SavedModel, terminal: None) -> None:
    flags = ("--num-return-sequences", "3", "--temperature", "1", "--seed", "0")
    shown = command("generate", saved_model(), "the cat", *flags).out
    texts = zoo.load("decoder").generate("the cat", num_return_sequences=3, temperature=1.0, seed=0)
    assert shown == "\n\n".join(f"the cat{text}" for text in texts) + "\n"


def test_a_model_whose_file_asks_for_beams_is_not_streamed(
    command: Command, saved_model: SavedModel, terminal: None
) -> None:
    folder = saved_model(saved={"num_beams": 3})
    found = zoo.load(folder).generate("the cat")
    assert command("generate", folder, "the cat").out == f"the cat{found}\n"
    greedy = zoo.load(folder).generate("the cat", num_beams=1)
    assert command("generate", folder, "the cat", "--num-beams", "1").out == f"the cat{greedy}\n"


# A file of prompts


def test_a_prompt_may_hold_line_ends_of_other_kinds(command: Command, saved_model: SavedModel) -> None:
    folder, prompt = saved_model(), "the cat\u2028sat\x0con\x85the mat"
    Path("prompts.jsonl").write_bytes(json.dumps({"prompt": prompt}, ensure_ascii=False).encode() + b"\r\n")
    for _ in "12":
        outcome = command("generate", folder, "--file", "prompts.jsonl", "--out", "out.jsonl")
        assert (outcome.code, outcome.out) == (0, "out.jsonl holds 1 of 1 answers\n")
    line = json.loads(Path("out.jsonl").read_text("utf-8"))
    assert line == {"line": 1, "prompt": prompt, "text": zoo.load(folder).generate(prompt)}


def test_each_line_of_a_text_is_answered_in_order(command: Command, saved_model: SavedModel) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    texts = [zoo.load(folder).generate(prompt) for prompt in PROMPTS]
    for size in ("1", "2", "8"):
        outcome = command("generate", folder, "--file", "prompts.txt", "--batch-size", size)
        assert (outcome.code, outcome.err) == (0, "")
        assert [json.loads(line) for line in outcome.out.splitlines()] == [
            {"line": number, "prompt": prompt, "text": text}
            for number, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True), 1)
        ]


def test_objects_keep_what_else_they_say_and_may_be_chats(command: Command, chat_model: str) -> None:
    chat = [{"role": "user", "content": "the dog"}]
    records = [{"id": 7, "prompt": "the cat"}, {"messages": chat, "text": "is replaced"}]
    Path("prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    outcome = command("generate", chat_model, "--file", "prompts.jsonl", "--out", "out.jsonl")
    assert (outcome.code, outcome.out) == (0, "out.jsonl holds 2 of 2 answers\n")
    model = zoo.load(chat_model)
    assert lines() == [
        {"line": 1, **records[0], "text": model.generate("the cat")},
        {"line": 2, **records[1], "text": model.generate(chat)},
    ]
    command("generate", chat_model, "--file", "prompts.jsonl", "--out", "chats.jsonl", "--chat")
    assert lines("chats.jsonl")[0]["text"] == model.generate("<u>the cat\n<a>")


DRAWN = ("--temperature", "1.5", "--seed", "3")


def test_draws_do_not_depend_on_the_batch_and_a_prompt_that_comes_again_is_drawn_anew(
    command: Command, saved_model: SavedModel
) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    drawn = [
        command("generate", folder, "--file", "prompts.txt", "--batch-size", size, *DRAWN).out
        for size in ("1", "3", "8")
    ]
    assert len(set(drawn)) == 1
    texts = [json.loads(line)["text"] for line in drawn[0].splitlines()]
    assert texts[0] != texts[2]
    assert texts[0] == zoo.load(folder).generate("the cat", temperature=1.5, seed=3)


def test_a_run_that_was_cut_off_anywhere_goes_on_to_the_same_file(
    command: Command, saved_model: SavedModel
) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    run = ("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl", *DRAWN)
    assert command(*run).code == 0
    whole = Path("out.jsonl").read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 1, ends[0] - 1, ends[0], ends[1] + 30, ends[-1] - 1, len(whole)):
        Path("out.jsonl").write_bytes(whole[:cut])
        outcome = command(*run)
        assert (outcome.code, outcome.out) == (0, "out.jsonl holds 5 of 5 answers\n")
        assert Path("out.jsonl").read_bytes() == whole


def test_what_was_done_before_an_interruption_is_kept_and_not_done_again(
    command: Command, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, finished = saved_model(), GeneratingModule.finished
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    asked: list[str] = []
    done: list[str] = []

    def watched(self: GeneratingModule, inputs: Any, **choices: Any) -> Any:
        asked.extend(inputs)
        for number, answer in finished(self, inputs, **choices):
            yield number, answer
            done.append(answer)
            if len(done) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(GeneratingModule, "finished", watched)
    run = ("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl", "--batch-size", "1")
    assert command(*run).code == 130
    assert [line["line"] for line in lines()] == [1, 2, 3]
    asked.clear()
    assert command(*run).code == 0
    assert asked == PROMPTS[3:]
    assert [line["line"] for line in lines()] == [1, 2, 3, 4, 5]


def test_an_answer_is_written_as_soon_as_it_and_all_before_it_are_done(
    command: Command, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS[1:]))
    seen: list[list[int]] = []

    def finished(self: GeneratingModule, inputs: Any, **choices: Any) -> Any:
        for number in (1, 0, 3, 2):
            yield number, f"{inputs[number]}!"
            seen.append([line["line"] for line in lines()])

    monkeypatch.setattr(GeneratingModule, "finished", finished)
    assert command("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl").code == 0
    assert seen == [[], [1, 2], [1, 2], [1, 2, 3, 4]]
    assert [line["text"] for line in lines()] == [f"{prompt}!" for prompt in PROMPTS[1:]]


def test_a_bad_prompt_is_reported_with_its_line_and_the_others_are_answered(
    command: Command, saved_model: SavedModel
) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text(f"the cat\n\n{'cat ' * 99}\na\n")
    length = len(zoo.load(folder).tokenizer.encode("cat " * 99))  # type: ignore[union-attr]
    for _ in "12":
        outcome = command("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl")
        assert outcome.code == 2
        assert outcome.out == "out.jsonl holds 2 of 4 answers\n"
        assert outcome.err == (
            "zoo: prompts.txt:2: the prompt is empty\n"
            f"zoo: prompts.txt:3: the model sees at most 64 tokens; the prompt has {length}\n"
            "zoo: 2 of 4 prompts in prompts.txt could not be followed\n"
        )
        assert [line["line"] for line in lines()] == [1, 4]


def test_lines_that_are_no_prompts_are_reported(command: Command, chat_model: str) -> None:
    bad = ['{"prompt": ', "[1]", '{"text": "a"}', '{"prompt": 1}', '{"prompt": ""}', '{"prompt": "\\ud800"}']
    Path("prompts.jsonl").write_text("\n".join([*bad, '{"messages": [1]}', '{"messages": []}']))
    outcome = command("generate", chat_model, "--file", "prompts.jsonl")
    neither = "neither a text as `prompt` nor a list of objects as `messages`"
    reasons = ["no JSON", "no JSON object", neither, neither, "the prompt is empty"]
    reasons += ["half of a surrogate pair, which is no text", neither, "a chat needs at least one message"]
    assert outcome.err.splitlines() == [
        *(f"zoo: prompts.jsonl:{number}: {reason}" for number, reason in enumerate(reasons, 1)),
        "zoo: 8 of 8 prompts in prompts.jsonl could not be followed",
    ]


def test_a_bar_tells_how_far_a_file_is(
    command: Command, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved_model()
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    outcome = command("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl", "--batch-size", "2")
    assert "prompts" in outcome.err
    assert "100%" in outcome.err
    assert outcome.out == "out.jsonl holds 5 of 5 answers\n"


# Mistakes


def refused(outcome: Any, message: str) -> None:
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"zoo: {message}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "it takes either PROMPT or --file"),
        (("the", "--file", "prompts.txt"), "it takes either PROMPT or --file"),
        (("the", "--out", "out.jsonl"), "--out goes with --file"),
        (("the", "cat"), "unrecognized arguments: cat"),
        (("the", "--top-k", "many"), "argument --top-k: invalid int value: 'many'"),
    ],
)
def test_options_that_do_not_fit_are_refused(command: Command, words: tuple[str, ...], message: str) -> None:
    outcome = command("generate", "model", *words)
    refused(outcome, f"zoo generate: {message}\n  `zoo generate --help` lists what it takes")


def test_an_empty_prompt_and_one_longer_than_the_model_are_refused(
    command: Command, saved_model: SavedModel
) -> None:
    folder = saved_model()
    refused(command("generate", folder, ""), "prompt 0 is empty\n  give at least one token to continue")
    length = len(zoo.load(folder).tokenizer.encode("cat " * 99))  # type: ignore[union-attr]
    message = f"the model sees at most 64 tokens; the prompt has {length}\n  shorten the prompt"
    refused(command("generate", folder, "cat " * 99), message)


def test_an_encoder_writes_no_text(command: Command, saved_model: SavedModel) -> None:
    outcome = command("generate", saved_model("encoder"), "the cat")
    refused(outcome, "an encoder writes no text\n  `zoo predict` asks its head")


def test_a_model_without_a_chat_template_is_refused(command: Command, saved_model: SavedModel) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    for words in (("the cat",), ("--file", "prompts.txt")):
        message = "the model has no chat template\n  `zoo generate` without --chat continues a text"
        refused(command("generate", folder, *words, "--chat"), message)


def test_a_device_that_is_not_there_is_refused(command: Command, saved_model: SavedModel) -> None:
    outcome = command("generate", saved_model(), "the cat", "--device", "cuda:7")
    assert outcome.code == 2
    assert outcome.err.startswith("zoo: there is no device `cuda:7`: ")
    assert len(outcome.err.splitlines()) == 1


def test_a_file_of_prompts_that_cannot_be_read_is_refused(command: Command, tmp_path: Path) -> None:
    missing, empty, latin = tmp_path / "missing.txt", tmp_path / "empty.txt", tmp_path / "latin.txt"
    empty.touch()
    latin.write_bytes("ü".encode("latin-1"))
    refused(
        command("generate", "model", "--file", str(missing)),
        f"{missing} cannot be read: No such file or directory",
    )
    refused(command("generate", "model", "--file", str(empty)), f"{empty} holds no prompt")
    refused(command("generate", "model", "--file", str(latin)), f"{latin} cannot be read: it is not UTF-8")


def test_an_out_file_that_cannot_be_written_is_refused_before_the_model_is_read(
    command: Command, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "nowhere" / "out.jsonl"
    prompts.write_text("the cat\n")
    words = ("generate", "no/model", "--file", str(prompts), "--out")
    refused(command(*words, str(out)), f"{out} cannot be written: No such file or directory")
    refused(command(*words, str(tmp_path)), f"{tmp_path} cannot be written: Is a directory")
    if os.geteuid() != 0:
        out = tmp_path / "read-only.jsonl"
        out.touch(0o400)
        refused(command(*words, str(out)), f"{out} cannot be written: Permission denied")


@pytest.mark.parametrize("text", ["notes of mine", "the cat", '{"prompt": "the cat"}', '{"line" 1'])
def test_a_file_that_only_lacks_its_last_line_break_is_no_cut_off_answer(
    command: Command, tmp_path: Path, text: str
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("the cat")
    out.write_text(text)
    for path in (out, prompts):
        outcome = command("generate", "no/model", "--file", str(prompts), "--out", str(path))
        hint = "remove it, or name another file with --out"
        refused(outcome, f"{path}:1 answers no line of {prompts}\n  {hint}")
    assert (out.read_text(), prompts.read_text()) == (text, "the cat")


def test_a_prompts_own_line_gives_way_to_its_number(command: Command, saved_model: SavedModel) -> None:
    folder = saved_model()
    Path("prompts.jsonl").write_text('{"line": "x", "prompt": "the cat"}\n')
    for _ in "12":
        assert command("generate", folder, "--file", "prompts.jsonl", "--out", "out.jsonl").code == 0
        assert [line["line"] for line in lines()] == [1]


def test_a_flag_may_mend_what_the_file_of_the_model_says(command: Command, saved_model: SavedModel) -> None:
    folder = saved_model(saved={"do_sample": True, "num_beams": 3})
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    outcome = command("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl")
    beams = "beam search draws nothing, got 3 beams and a `temperature` of 1.0"
    refused(outcome, f"{beams}\n  set `temperature` to 0, or `num_beams` to 1")
    mended = command("generate", folder, "--file", "prompts.txt", "--out", "out.jsonl", "--num-beams", "1")
    assert (mended.code, mended.err) == (0, "")


@pytest.mark.parametrize(
    "line", ['{"line": 1, "prompt": "another"}', '{"line": 9, "prompt": "the cat"}', '{"a": 1}', "7", "{"]
)
def test_an_out_file_with_other_answers_is_left_alone(command: Command, tmp_path: Path, line: str) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("the cat\nthe dog\n")
    before = f'{{"line": 2, "prompt": "the dog", "text": "x"}}\n{line}\n{{"lin'
    out.write_text(before)
    outcome = command("generate", "no/model", "--file", str(prompts), "--out", str(out))
    refused(outcome, f"{out}:2 answers no line of {prompts}\n  remove it, or name another file with --out")
    assert out.read_text() == before


def test_options_that_no_prompt_can_be_followed_with_are_one_error(
    command: Command, saved_model: SavedModel
) -> None:
    folder = saved_model()
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    outcome = command("generate", folder, "--file", "prompts.txt", "--temperature", "-1")
    refused(outcome, "`temperature` must not be negative, got -1.0")
    outcome = command("generate", folder, "--file", "prompts.txt", "--batch-size", "0")
    refused(outcome, "`batch_size` must be at least 1, got 0")
