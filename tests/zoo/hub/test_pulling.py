"""Models of the Hub: one commit, what is needed of it, checked; nothing else, and nothing unasked."""

import dataclasses
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import zoo
from zoo import registry
from zoo.errors import CheckpointError, SpecError, UnknownNameError, ZooError
from zoo.hub import pulling, remote
from zoo.specs import HubModel

from .loopback import Fault, Loopback

Edit = Callable[..., None]
NAME = "someone/llama"


@pytest.fixture
def commit(hub: Loopback, folder: Path) -> str:
    """The tiny Llama as `someone/llama`, with files that no one needs; its commit."""
    for name in (
        "README.md",
        "modeling_llama.py",
        "pytorch_model.bin",
        "optimizer.pt",
        "consolidated.safetensors",
    ):
        (folder / name).write_bytes(b"not to be fetched")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"not to be fetched")
    return hub.publish(NAME, folder)


def refusal(kind: type[ZooError] = CheckpointError, name: str = NAME, **choices: Any) -> str:
    with pytest.raises(kind) as caught:
        zoo.load(name, **choices)
    assert "hf_" not in str(caught.value)
    return str(caught.value)


def equal(one: Any, other: Any) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def cached_names(commit: str) -> set[str]:
    place = Path(constants.HF_HUB_CACHE) / "models--someone--llama" / "snapshots" / commit
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


# What is fetched


def test_a_model_loads_by_name_and_only_what_it_needs_is_fetched(
    hub: Loopback, commit: str, folder: Path
) -> None:
    loaded = zoo.load(NAME)
    assert equal(loaded, zoo.load(folder))
    assert loaded.tokenizer is not None
    assert loaded.origin == f"{NAME}@{commit}"
    assert cached_names(commit) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


def test_all_chat_templates_are_fetched(hub: Loopback, folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (folder / "chat_template.jinja").write_text("plain")
    hub.publish(NAME, folder)
    assert zoo.load(NAME).tokenizer.chat_templates == {"default": "plain", "tool_use": "tools"}


@pytest.mark.parametrize("ask", [zoo.load, zoo.pull])
@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_a_file_of_a_gigabyte_that_is_no_weights_is_refused_before_it_is_fetched(
    hub: Loopback, commit: str, ask: Callable[[str], Any], name: str
) -> None:
    files = hub.repositories[NAME].at(commit).files
    files[name] = dataclasses.replace(files[name], size=2**30)
    with pytest.raises(CheckpointError) as caught:
        ask(NAME)
    assert str(caught.value) == (
        f"{name} of `{NAME}` has 1,073,741,824 bytes; no such file needs more than 268,435,456"
    )
    assert cached_names(commit) == {"config.json"}
    assert hub.lines(f"{name}|safetensors") == []


def test_a_second_load_asks_for_the_commit_alone_and_a_commit_asks_nothing(
    hub: Loopback, commit: str
) -> None:
    zoo.load(NAME)
    hub.requests.clear()
    zoo.load(NAME)
    assert hub.lines() == [f"GET /api/models/{NAME}", f"HEAD /{NAME}/resolve/main/config.json"]
    hub.requests.clear()
    zoo.load(NAME, revision=commit)
    zoo.load(f"{NAME}@{commit}")
    assert hub.lines() == []


def test_a_revision_is_taken_at_its_word(hub: Loopback, commit: str, folder: Path, edit: Edit) -> None:
    edit(max_position_embeddings=32)
    repository = hub.repositories[NAME]
    repository.refs["v1"] = commit
    newer = hub.publish(NAME, folder)
    assert newer != commit
    assert zoo.load(NAME).spec.max_position_embeddings == 32
    for revision in ("v1", commit):
        assert zoo.load(NAME, revision=revision).spec.max_position_embeddings == 64
    assert zoo.load(f"{NAME}@v1").origin == f"{NAME}@{commit}"


def test_what_moves_while_it_is_fetched_stays_one_commit(
    hub: Loopback, commit: str, folder: Path, edit_tensors: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push between two requests mixes no two revisions."""
    edit_tensors({"model.norm.weight": torch.full((32,), 7.0)})
    serve = hub.serve

    def moving(call: Any) -> Any:
        answer = serve(call)
        if call.path == f"/api/models/{NAME}/tree/{commit}":
            hub.publish(NAME, folder)
        return answer

    monkeypatch.setattr(hub, "serve", moving)
    loaded = zoo.load(NAME)
    assert hub.repositories[NAME].head != commit
    assert loaded.origin == f"{NAME}@{commit}"
    assert not loaded.backbone.norm.weight.eq(7).any()


def test_a_model_in_several_files_is_fetched_by_its_index(hub: Loopback, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {f"model-{part:05}-of-00002.safetensors": names[part - 1 :: 2] for part in (1, 2)}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    (folder / "model.safetensors").unlink()
    (folder / "model-of-another.safetensors").write_bytes(b"not to be fetched")
    weight_map = {name: file for file, own in files.items() for name in own}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    sha = hub.publish(NAME, folder)
    assert equal(zoo.load(NAME), zoo.load(folder))
    assert {name for name in cached_names(sha) if name.startswith("model")} == {*files, index.name}


def test_only_the_config_is_read_to_check_a_recipe(
    hub: Loopback, commit: str, command: Callable[..., Any], workplace: Path
) -> None:
    recipe = (workplace / "recipe.yaml").read_text()
    start, end = recipe.index("    backbone:"), recipe.index("    head:")
    (workplace / "recipe.yaml").write_text(f"{recipe[:start]}    backbone: {NAME}\n{recipe[end:]}")
    done = command("check", "recipe.yaml")
    assert done.code == 0, done.err
    assert "parameters" in done.out
    assert cached_names(commit) == {"config.json"}


def test_a_recipe_trains_a_model_of_the_hub_and_goes_on_without_it(
    hub: Loopback,
    commit: str,
    command: Callable[..., Any],
    workplace: Path,
    offline: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    recipe = (workplace / "recipe.yaml").read_text()
    start, end = recipe.index("    backbone:"), recipe.index("    head:")
    (workplace / "recipe.yaml").write_text(f"{recipe[:start]}    backbone: {NAME}@main\n{recipe[end:]}")
    ran = command("fit", "--config", "recipe.yaml")
    assert ran.code == 0, ran.err
    assert f"{NAME}@main is at commit {commit}" in caplog.messages
    (path,) = workplace.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["zoo"]["origin"] == f"{NAME}@{commit}"
    assert zoo.load(path).origin == f"{NAME}@{commit}"
    offline()
    shutil.rmtree(constants.HF_HUB_CACHE)
    hub.requests.clear()
    more = ("--ckpt_path", str(path), "--trainer.max_steps", "4")
    again = command("fit", "--config", "recipe.yaml", *more)
    assert again.code == 0, again.err
    assert hub.lines() == []


# Offline


def test_offline_what_is_cached_loads_without_a_request(
    hub: Loopback, commit: str, offline: Callable[[], None]
) -> None:
    expected = zoo.load(NAME)
    hub.requests.clear()
    offline()
    for model in (NAME, f"{NAME}@{commit}", f"{NAME}@main"):
        assert equal(zoo.load(model), expected)
    assert hub.lines() == []


def test_offline_what_is_not_whole_in_the_cache_is_refused(
    hub: Loopback, commit: str, offline: Callable[[], None]
) -> None:
    offline()
    for name in (NAME, f"{NAME}@{commit}"):
        assert refusal(name=name) == (
            f"`{name}` is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub\n"
            "  fetch it once with `zoo pull`, or unset HF_HUB_OFFLINE"
        )
    assert hub.lines() == []


def test_offline_a_config_alone_is_no_model(hub: Loopback, commit: str, offline: Callable[[], None]) -> None:
    pulling.folder_of(HubModel(NAME), weights=False)
    offline()
    assert refusal().startswith(f"`{NAME}@{commit}` is not in the cache, and HF_HUB_OFFLINE forbids")


# What goes wrong


def test_a_model_that_is_not_there_is_refused(hub: Loopback) -> None:
    assert refusal() == (
        f"there is no model `{NAME}` on the Hub, or none that you may see\n"
        "  check the name; for a private model, `hf auth login`"
    )


def test_a_private_model_needs_a_token(hub: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(NAME, folder, private=True)
    assert refusal().startswith(f"there is no model `{NAME}` on the Hub, or none that you may see")
    monkeypatch.setenv("HF_TOKEN", "hf_oldoldoldoldoldoldoldoldoldoldold")
    assert refusal() == (f"the Hub refuses `{NAME}` to your token (401)\n  `hf auth login` takes a new one")
    monkeypatch.setenv("HF_TOKEN", next(iter(hub.tokens)))
    assert zoo.load(NAME).is_built
    assert {request.has_token for request in hub.requests if request.origin == "store"} == {False}


def test_a_gated_model_says_where_to_ask(hub: Loopback, folder: Path) -> None:
    hub.publish(NAME, folder, gated=True)
    assert refusal() == (
        f"`{NAME}` is gated: its owner decides who may have it\n"
        f"  ask for access on {hub.url}/{NAME}, then `hf auth login`"
    )


def test_a_revision_that_is_not_there_is_refused(hub: Loopback, commit: str) -> None:
    message = f"`{NAME}` has no revision `v9`\n  give a branch, a tag or a commit"
    assert refusal(revision="v9") == message
    assert refusal(revision="0" * 40) == message.replace("v9", "0" * 40)


def test_no_connection_is_said(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert refusal() == (
        f"`{NAME}` cannot be had: no connection to http://127.0.0.1:9 (ConnectError)\n"
        "  check the network; HF_HUB_OFFLINE=1 uses what is in the cache"
    )


def test_an_old_revision_is_never_taken_for_the_newest(hub: Loopback, commit: str) -> None:
    """Where the Hub does not answer, the cached commit is not used without being asked for."""
    zoo.load(NAME)
    hub.faults.append(Fault(f"/api/models/{NAME}$", "status", times=99, status=500))
    assert refusal() == f"the Hub answers 500 for `{NAME}`\n  try again later"


def test_an_unknown_family_is_answered_by_those_that_are_registered(
    hub: Loopback, folder: Path, edit: Edit
) -> None:
    edit(model_type="xlstm")
    sha = hub.publish(NAME, folder)
    families = [entry.name for group in registry.FAMILIES for entry in registry.in_group(group)]
    assert refusal(UnknownNameError) == (
        "no installed plugin registers the model_type `xlstm`\n"
        f"  registered: {', '.join(sorted(families))}\n"
        "  a plugin adds one by an entry point `xlstm` in one of zoo.encoders, zoo.decoders, "
        "zoo.encoder_decoders"
    )
    assert cached_names(sha) == {"config.json"}


def test_a_repository_without_a_config_is_no_model(hub: Loopback, folder: Path) -> None:
    (folder / "config.json").unlink()
    hub.publish(NAME, folder)
    assert refusal() == f"`{NAME}` holds no config.json, so it is no model in the Hub's format"


def test_a_repository_without_weights_is_refused(hub: Loopback, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    hub.publish(NAME, folder)
    assert refusal() == f"`{NAME}` holds no model.safetensors"


def test_an_index_fetches_nothing_that_is_not_beside_it(hub: Loopback, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for name in ("../config.json", "onnx/model.safetensors", "gone.safetensors", "config.json"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        hub.publish(NAME, folder)
        assert re.search(
            rf"index\.json names `{name}`, which is no (file beside it|safetensors file)", refusal()
        )


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    hub: Loopback, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    message = refusal()
    assert re.match(rf"`{NAME}` takes [\d,]+ bytes more, the disk of .* has 1,000\n  HF_HOME moves", message)
    assert cached_names(commit) == {"config.json"}


def test_what_a_killed_download_left_is_swept_and_what_is_under_way_is_not(
    hub: Loopback, commit: str, tmp_path: Path
) -> None:
    """The client writes each download under a name of its own, and never goes on with one."""
    blobs = Path(constants.HF_HUB_CACHE) / "models--someone--llama" / "blobs"
    blobs.mkdir(parents=True)
    names = [f"{'0' * 64}.{number:08x}.incomplete" for number in range(2)]
    for name, age in zip(names, (2 * 3600, 60), strict=True):
        (blobs / name).write_bytes(b"half")
        os.utime(blobs / name, (time.time() - age,) * 2)
    zoo.pull(NAME)
    assert [name for name in names if (blobs / name).exists()] == names[1:]


# Faults on the way


@pytest.mark.parametrize(
    "fault",
    [
        Fault(f"GET /api/models/{NAME}$", "status", times=2),
        Fault(f"GET /api/models/{NAME}$", "reset", times=2),
        Fault(f"GET /api/models/{NAME}$", "lost", times=2),
        Fault("HEAD .*config.json", "reset"),
        Fault("HEAD .*config.json", "status", status=502),
        Fault("HEAD .*model.safetensors", "reset"),
        Fault("GET /large/", "status"),
        Fault("GET /large/", "reset"),
        Fault("GET /large/", "cut", after=5000),
        Fault("GET .*tokenizer.json", "cut", after=50),
    ],
    ids=lambda fault: f"{fault.kind} {fault.request}",
)
def test_what_passes_is_tried_again(
    hub: Loopback, commit: str, folder: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits for seconds
    hub.faults.append(fault)
    assert equal(zoo.load(NAME), zoo.load(folder))
    assert fault.times == 0


def test_a_busy_hub_is_asked_again_when_it_says(
    hub: Loopback, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    hub.faults += [
        Fault(f"GET /api/models/{NAME}$", "status", status=429, headers={"Retry-After": seconds})
        for seconds in ("7", "3600")
    ]
    zoo.pull(NAME)
    assert waited == [7.0, 60.0]  # not for an hour


@pytest.mark.parametrize("fault", [Fault("GET /large/", "status", 99, 403), Fault("GET /large/", "cut", 99)])
def test_no_refusal_tells_a_signed_address(
    hub: Loopback, commit: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits for seconds
    hub.faults.append(dataclasses.replace(fault))
    message = refusal()
    assert "signature" not in message
    assert "s3cret" not in message
    assert str(hub.store_url) not in message


def test_a_hub_that_falls_silent_is_given_up(
    hub: Loopback, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(remote, "WAITS_SECONDS", ())
    hub.faults.append(Fault("/api/models/", "stall", seconds=3))
    assert refusal() == (
        f"`{NAME}` cannot be had: no connection to {hub.url} (ReadTimeout)\n"
        "  check the network; HF_HUB_OFFLINE=1 uses what is in the cache"
    )


def test_every_call_of_the_client_ends(hub: Loopback) -> None:
    remote.api()
    assert huggingface_hub.get_session().timeout == httpx2.Timeout(20.0, read=60.0)


@pytest.mark.parametrize("name", ["large/", "tokenizer.json"])
def test_a_flipped_bit_is_noticed_once_and_the_file_fetched_anew(
    hub: Loopback, commit: str, folder: Path, name: str
) -> None:
    hub.faults.append(Fault(f"GET .*{name}", "flip"))
    file = "model.safetensors" if name == "large/" else name
    assert refusal() == (
        f"{file} of `{NAME}` is not what the Hub says it is: its checksum differs\n"
        "  it was deleted; fetch it again"
    )
    assert equal(zoo.load(NAME), zoo.load(folder))


def test_a_file_is_checked_when_it_arrives_and_not_again(
    hub: Loopback, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.load(NAME)
    monkeypatch.setattr(pulling, "_checksum", lambda *_: pytest.fail("checked again"))
    zoo.load(NAME)


# Tokens


def test_no_token_goes_over_plain_http_to_another_machine(
    hub: Loopback, commit: str, logged_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remote.may_send_token()
    zoo.pull(NAME)
    assert any(request.has_token for request in hub.requests)
    shutil.rmtree(constants.HF_HUB_CACHE)
    hub.requests.clear()
    monkeypatch.setattr(remote, "_is_loopback", lambda host: False)
    assert not remote.may_send_token()
    zoo.pull(NAME)
    assert not any(request.has_token for request in hub.requests)


# zoo pull


def test_pulling_gives_the_folder_and_copies_where_asked(
    hub: Loopback, commit: str, tmp_path: Path, command: Callable[..., Any], folder: Path
) -> None:
    done = command("pull", NAME)
    assert done.code == 0, done.err
    assert Path(done.out.strip()).name == commit
    done = command("pull", NAME, "--revision", "main", "--to", str(tmp_path / "copy"))
    assert done.out.strip() == str(tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == cached_names(commit)
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
    assert equal(zoo.load(tmp_path / "copy"), zoo.load(folder))
    done = command("pull", "someone/else")
    assert done.code == 2
    assert done.err.startswith("zoo: there is no model `someone/else` on the Hub")


def test_pickled_weights_are_refused_unless_asked_for_and_then_only_tensors_are_read(
    hub: Loopback, folder: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    expected = zoo.load(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    sha = hub.publish(NAME, folder)
    assert refusal() == (
        f"`{NAME}` holds no safetensors, only pickled weights (pytorch_model.bin), which may do anything "
        "when they are read\n"
        f"  zoo pull {NAME} --allow-pickle --to DIR reads their tensors alone, and writes safetensors"
    )
    assert cached_names(sha) == {"config.json"}
    with pytest.raises(CheckpointError, match=r"^pickled weights are written as safetensors, for which "):
        zoo.pull(NAME, allow_pickle=True)
    done = command("pull", NAME, "--allow-pickle", "--to", str(tmp_path / "safe"))
    assert done.code == 0, done.err
    assert not (tmp_path / "safe" / "pytorch_model.bin").exists()
    assert equal(zoo.load(tmp_path / "safe"), expected)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("content", ["bomb", "list", "rubbish"])
def test_pickled_weights_that_are_more_than_tensors_never_run(
    hub: Loopback, folder: Path, tmp_path: Path, content: str
) -> None:
    path = folder / "pytorch_model.bin"
    made = {"bomb": {"a": Bomb(tmp_path / "ran")}, "list": [torch.ones(2)], "rubbish": {"a": torch.ones(2)}}
    torch.save(made[content], path)
    if content == "rubbish":
        path.write_bytes(path.read_bytes()[:90])
    (folder / "model.safetensors").unlink()
    hub.publish(NAME, folder)
    with pytest.raises(CheckpointError, match=r"holds more than tensors|cannot be read"):
        zoo.pull(NAME, to=tmp_path / "safe", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


# Processes


SCRIPT = """
import sys, zoo
print(zoo.load(sys.argv[1]).origin)
"""


@pytest.mark.slow
def test_two_processes_fetch_one_model_at_once(hub: Loopback, commit: str, tmp_path: Path) -> None:
    environment = {
        "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"),
        "ZOO_CACHE": str(tmp_path / "zoo"), "HF_HUB_DISABLE_XET": "1", "PATH": "",
    }  # fmt: skip
    found: list[str] = []

    def load() -> None:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, NAME], env=environment, capture_output=True, text=True, timeout=120
        )
        found.append(done.stdout.strip() or done.stderr)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [f"{NAME}@{commit}"] * 2


LIGHT = """
import sys, zoo
print(zoo.pull(sys.argv[1]))
heavy = {"datasets", "lightning", "torchmetrics", "transformers"} & sys.modules.keys()
print(*sorted(heavy))
"""


def test_a_pull_imports_nothing_that_trains(folder: Path) -> None:
    words = [sys.executable, "-c", LIGHT, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [str(folder), ""]


def test_a_name_that_is_no_id_is_refused() -> None:
    with pytest.raises(SpecError):
        zoo.pull("not an id")
