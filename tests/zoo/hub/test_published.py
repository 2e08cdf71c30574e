"""Recipes of the Hub run again, and what one may not say: held against an allow-list before any import."""

import contextlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import zoo
from zoo.errors import CheckpointError, RecipeError
from zoo.hub import published
from zoo.modules import DecoderModule

from .loopback import Loopback

NAME = "me/run"
Command = Callable[..., Any]
HINT = "read it on the Hub; what you trust of it runs from a file of your own"

GOOD = """\
base: [presets/cpu]
seed_everything: 1
model:
  class_path: zoo.modules.DecoderModule
  init_args:
    backbone: {class_path: zoo.decoders.Llama, init_args: {vocab_size: 300, hidden_size: 16}}
    head: {class_path: zoo.heads.CausalLM}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3}}
    lr_schedule: zoo.schedules.Constant
data:
  class_path: zoo.data.Text
  init_args: {source: "stanfordnlp/sst2@v1.0:train", validation: texts/held.out.txt, text: sentence}
trainer:
  max_steps: 2
  max_time: "00:00:02:30"
  precision: bf16-mixed
  strategy: ddp
  logger: false
  plugins: {class_path: zoo.training.Float8}
  callbacks:
  - class_path: zoo.callbacks.Samples
    init_args: {prompts: ["def read(self):\\n  - x", "e.g. this"]}
  - zoo.callbacks.GradNorm
"""


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        published.require_permitted(text, NAME)
    return str(caught.value)


def with_changes(change: Callable[[dict[str, Any]], None]) -> str:
    values = yaml.safe_load(GOOD)
    change(values)
    return str(yaml.safe_dump(values))


def test_what_a_run_needs_is_permitted() -> None:
    published.require_permitted(GOOD, NAME)


def test_every_packaged_recipe_is_permitted() -> None:
    for path in zoo.registry.recipes().values():
        published.require_permitted(path.read_text("utf-8"), NAME)


CLASSES = "one from the Hub may name registered classes, and torch's optimizers and schedulers"


@pytest.mark.parametrize(
    ("change", "message", "at"),
    [
        (lambda r: r["model"].update(class_path="os.system"), f"names 'os.system'; {CLASSES}", "model"),
        (
            lambda r: r["model"]["init_args"].update(optimizer={"class_path": "subprocess.Popen"}),
            f"names 'subprocess.Popen'; {CLASSES}",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"].update(optimizer="os.system"),
            f"names 'os.system'; {CLASSES}",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"].update(optimizer="{class_path: os.system}"),
            f"names 'os.system'; {CLASSES}",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"].update(head={"class_path": "CausalLM"}),
            f"names 'CausalLM'; {CLASSES}",
            "model.head",
        ),
        (
            lambda r: r["model"]["init_args"]["optimizer"].update(class_path="torch.optim.os.system"),
            f"names 'torch.optim.os.system'; {CLASSES}",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"]["optimizer"].update(class_path=["os.system"]),
            f"names ['os.system']; {CLASSES}",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"]["optimizer"].update(dict_kwargs={"foreach": True}),
            "has the key 'dict_kwargs', which none from the Hub may have",
            "model.optimizer",
        ),
        (
            lambda r: r["model"]["init_args"].update(__path__="x"),
            "has the key '__path__', which none from the Hub may have",
            "model",
        ),
        (
            lambda r: r.update(model="my.yaml"),
            "must say what class its model is by `class_path`, got 'my.yaml'",
            "model",
        ),
        (
            lambda r: r["trainer"].update(callbacks=["lightning.pytorch.callbacks.ModelCheckpoint"]),
            f"names 'lightning.pytorch.callbacks.ModelCheckpoint'; {CLASSES}",
            "trainer.callbacks",
        ),
        (
            lambda r: r["trainer"].update({"callbacks+": "ModelCheckpoint"}),
            f"names 'ModelCheckpoint'; {CLASSES}",
            "trainer.callbacks+",
        ),
        (
            lambda r: r["trainer"]["callbacks"].append(
                {"class_path": "zoo.callbacks.PushToHub", "init_args": {"repo_id": "you/model"}}
            ),
            "names `zoo.callbacks.PushToHub`: whether to publish is its reader's to say",
            "trainer.callbacks",
        ),
        (
            lambda r: r["trainer"].update(logger={"class_path": "lightning.pytorch.loggers.WandbLogger"}),
            "chooses a logger, which is its reader's to choose",
            "trainer.logger",
        ),
        (
            lambda r: r["trainer"].update(profiler="simple"),
            "sets 'profiler', which is its reader's to set",
            "trainer.profiler",
        ),
        (
            lambda r: r["trainer"].update(default_root_dir="/etc"),
            "names '/etc', a place outside of the folder that it is run in",
            "trainer.default_root_dir",
        ),
        (
            lambda r: r["data"]["init_args"].update(source="texts/../../secret.txt"),
            "names 'texts/../../secret.txt', a place outside of the folder that it is run in",
            "data.source",
        ),
        (
            lambda r: r["data"]["init_args"].update(source="~/.ssh/id_rsa"),
            "names '~/.ssh/id_rsa', a place outside of the folder that it is run in",
            "data.source",
        ),
        (
            lambda r: r["data"]["init_args"].update(source="s3://bucket/key"),
            "names 's3://bucket/key', a place outside of the folder that it is run in",
            "data.source",
        ),
        (
            lambda r: r["data"]["init_args"].update(text="${oc.env:HF_TOKEN}"),
            "holds '${oc.env:HF_TOKEN}', which asks for what is around it",
            "data.text",
        ),
        (lambda r: r.update(base="../a"), "starts from '../a', which is no packaged recipe", "base"),
        (
            lambda r: r.update(base=["presets/cpu", "my.yaml"]),
            "starts from 'my.yaml', which is no packaged recipe",
            "base",
        ),
        (lambda r: r.update(base={"a": 1}), "starts from {'a': 1}, which is no packaged recipe", "base"),
    ],
)  # fmt: skip
def test_whatever_else_is_refused_with_one_clear_sentence(
    change: Callable[[dict[str, Any]], None], message: str, at: str
) -> None:
    assert refusal(with_changes(change)) == f"the recipe of `{NAME}` {message}\n  at    {at}\n  {HINT}"


@pytest.mark.parametrize("key", ["ckpt_path", "weights_only", "config", "model.class_path", "trainer.logger"])
def test_what_its_reader_decides_is_not_for_a_recipe(key: str) -> None:
    told = refusal(f"{key}: x\n{GOOD}")
    assert told == f"the recipe of `{NAME}` says {key!r}, which is its reader's to say\n  {HINT}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "it has the anchor or alias 'x'"),
        ("model: !!python/name:os.system\n", "it has the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("model: " + "[" * 100 + "]" * 100, "it is nested more than 64 deep"),
        ("model: [", "while parsing a flow node"),
        ("model: 2026-11-24: x\n", "mapping values are not allowed here"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused(text: str, reason: str) -> None:
    assert refusal(text) == f"the recipe of `{NAME}` is no YAML that the zoo reads: {reason}"


def test_a_date_is_no_plain_value() -> None:
    told = refusal("seed_everything: 2026-11-24\n")
    assert told.startswith(f"the recipe of `{NAME}` holds a date, which is no plain value\n")


# Hostile recipes, by hypothesis

HOSTILE: list[Any] = [
    {"class_path": "hostile_module.Class"},
    {"class_path": "hostile_module.Class", "init_args": {"x": 1}},
    "hostile_module.function",
    "{class_path: hostile_module.Class}",
    "[{class_path: hostile_module.Class}]",
    '{"init_args": {"x": "class_path: hostile_module.Class"}}',
    "- class_path: hostile_module.Class",
    "/etc/passwd",
    "a/../../b",
    "~root",
    "file:///etc/passwd",
    "C:\\windows",
    "..\\x",
    "${HOME}",
    {"dict_kwargs": {"x": 1}},
    {"__default_config__": "x"},
    [[{"class_path": "builtins.exec"}]],
]


def places(values: Any, key: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Everywhere in a recipe where something can stand."""
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    return [key, *(place for name, item in items for place in places(item, (*key, name)))]


PLACES = [key for key in places(yaml.safe_load(GOOD)) if key]


@given(place=st.sampled_from(PLACES), hostile=st.sampled_from(HOSTILE), depth=st.integers(0, 5))
@settings(max_examples=400, deadline=None)
def test_what_is_hostile_is_refused_wherever_it_stands_and_nothing_is_imported(
    place: tuple[Any, ...], hostile: Any, depth: int
) -> None:
    is_file = hostile == "hostile_module.function" and place[-1] in ("source", "validation")
    assume(not is_file)  # as `text.txt` is
    for number in range(depth):
        hostile = [hostile] if number % 2 else {f"key{number}": hostile}
    values = yaml.safe_load(GOOD)
    node = values
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = hostile

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            return ModuleSpec(name, None) if name == "hostile_module" else None

    before = set(sys.modules)
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    try:
        told = refusal(str(yaml.safe_dump(values)))
    finally:
        sys.meta_path.remove(Finder)  # type: ignore[arg-type]
    assert told.startswith(f"the recipe of `{NAME}` ")
    assert set(sys.modules) - before == set()


@given(st.text(max_size=200) | st.text("{}[]:-&*!\n '\"ab.\\/~$", max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_text_at_all_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(RecipeError):
        published.require_permitted(text, NAME)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_values_at_all_do_more_than_be_refused(values: Any) -> None:
    with contextlib.suppress(RecipeError):
        published.require_permitted(str(yaml.safe_dump(values)), NAME)


# What is published


def test_what_belongs_to_one_run_alone_is_not_published() -> None:
    text = """\
trainer:
  max_steps: 2
  precision: null
  logger: {class_path: lightning.pytorch.loggers.TensorBoardLogger}
  default_root_dir: /home/me/runs
  callbacks:
  - class_path: zoo.callbacks.PushToHub
    init_args: {repo_id: me/secret}
  - class_path: zoo.callbacks.GradNorm
model: {class_path: zoo.modules.DecoderModule}
data: {class_path: zoo.data.Text}
ckpt_path: /home/me/last.ckpt
"""
    assert yaml.safe_load(published.recipe_of(text)) == {
        "model": {"class_path": "zoo.modules.DecoderModule"},
        "data": {"class_path": "zoo.data.Text"},
        "trainer": {"max_steps": 2, "callbacks": [{"class_path": "zoo.callbacks.GradNorm"}]},
    }


# Run again


@pytest.fixture
def pushed(hub: Loopback, logged_in: str, command: Command, workplace: Path) -> Loopback:
    """A run whose model is on the Hub with its recipe."""
    ran = command("fit", "--config", "recipe.yaml")
    assert ran.code == 0, ran.err
    (path,) = workplace.rglob("last.ckpt")
    assert command("push", str(path), NAME).code == 0
    return hub


def test_a_pushed_recipe_runs_again_to_the_same_model(
    pushed: Loopback, command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = pushed.repositories[NAME].head
    monkeypatch.setattr(sys, "argv", ["zoo", "fit", "--config", f"hub:{NAME}"])
    again = command("fit", "--config", f"hub:{NAME}")
    assert again.code == 0, again.err
    first, second = (next((workplace / "runs" / name).rglob("last.ckpt")) for name in ("recipe", "me-run"))
    one, other = zoo.load(first), zoo.load(second)
    for name, tensor in one.state_dict().items():
        assert tensor.equal(other.state_dict()[name]), name
    kept = (second.parent.parent / "config.yaml").read_text()
    assert kept.startswith(f"# Recipe: hub:{NAME}@{commit}\n")
    assert sys.argv == ["zoo", "fit", "--config", f"hub:{NAME}@{commit}"]
    assert command("push", str(second), "me/again").code == 0
    assert pushed.read("me/again", "recipe.yaml").decode().startswith(f"# Recipe: hub:{NAME}@{commit}\n")


def test_a_revision_and_flags_on_top_of_it_hold(pushed: Loopback, command: Command, workplace: Path) -> None:
    commit = pushed.repositories[NAME].head
    checked = command("check", f"hub:{NAME}@{commit}", "--model.backbone.num_hidden_layers", "3")
    assert checked.code == 0, checked.err
    missing = command("check", f"hub:{NAME}@none")
    assert missing.code == 2
    assert missing.err == (f"zoo: `{NAME}` has no revision `none`\n  give a branch, a tag or a commit\n")


def test_a_hostile_recipe_is_refused_by_the_command(
    hub: Loopback, logged_in: str, model: DecoderModule, command: Command, folder: Path, workplace: Path
) -> None:
    (folder / "recipe.yaml").write_text(GOOD.replace("zoo.data.Text", "os.system"))
    zoo.push(folder, NAME)
    (folder / "README.md").write_text("# Mine\n")
    zoo.push(folder, NAME)
    done = command("fit", "--config", f"hub:{NAME}")
    assert done.code == 2
    assert done.err.splitlines()[-3:] == [
        f"zoo: the recipe of `{NAME}@{hub.repositories[NAME].head}` names 'os.system'; {CLASSES}",
        "  at    data",
        f"  {HINT}",
    ]
    assert not (workplace / "runs").exists()


def test_no_other_file_of_the_repository_is_a_base(pushed: Loopback, tmp_path: Path) -> None:
    path, name = published.fetch(f"hub:{NAME}")
    assert name == f"hub:{NAME}@{pushed.repositories[NAME].head}"
    assert [file.name for file in path.parent.iterdir()] == ["recipe.yaml"]


def test_a_model_without_a_recipe_says_so(hub: Loopback, logged_in: str, model: DecoderModule) -> None:
    zoo.push(model, NAME)
    with pytest.raises(CheckpointError) as caught:
        published.fetch(f"hub:{NAME}")
    assert str(caught.value) == f"`{NAME}@{hub.repositories[NAME].head}` holds no recipe.yaml"
