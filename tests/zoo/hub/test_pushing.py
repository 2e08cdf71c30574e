"""What is pushed: an allow-list of files, in one commit that lands whole or not at all."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import ModelCard, constants
from torch.testing import assert_close

import zoo
from zoo.errors import CheckpointError
from zoo.hub import remote
from zoo.modules import DecoderModule

from .loopback import TOKEN, Fault, Loopback, Repository

NAME = "me/llama"
FILES = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip
COMMIT = f"/api/models/{NAME}/commit/main"


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.hub.pushing.time.sleep", lambda _: None)  # the client's seconds, too


def refusal(model: Any, name: str = NAME, **choices: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        zoo.push(model, name, **choices)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def change(model: DecoderModule) -> None:
    with torch.no_grad():
        model.backbone.norm.weight.add_(1.0)


# What lands


def test_a_pushed_model_loads_in_the_zoo_and_in_transformers(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    address = zoo.push(model, NAME)
    repository = hub.repositories[NAME]
    assert address == f"{hub.url}/{NAME}/commit/{repository.head}"
    assert repository.names() == FILES
    assert repository.private
    assert repository.at("main").parent is not None
    assert len(repository.commits) == 2  # the first is the Hub's own
    ids = torch.randint(0, 290, (2, 9))
    expected = model(ids).logits
    assert_close(zoo.load(NAME)(ids).logits, expected, rtol=0, atol=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(zoo.pull(NAME))
    assert_close(theirs.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_nothing_new_is_no_commit_and_what_is_new_is_all_that_is_sent(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    first = zoo.push(model, NAME)
    hub.requests.clear()
    assert zoo.push(model, NAME) == first
    assert hub.lines("^(POST|PUT) .*(commit|large)") == []
    model.generation_config = {"max_new_tokens": 7}
    assert zoo.push(model, NAME) != first
    assert hub.lines("^PUT ") == []
    assert len(hub.repositories[NAME].commits) == 3


def test_files_of_the_model_before_go_and_others_stay(
    hub: Loopback, logged_in: str, model: DecoderModule, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.txt", "notes.md"):
        (before / name).write_text("of another model")
    hub.publish(NAME, before, private=True)
    zoo.push(model, NAME)
    assert hub.repositories[NAME].names() == FILES | {"notes.md"}


def test_a_folder_is_pushed_by_an_allow_list(hub: Loopback, logged_in: str, folder: Path) -> None:
    for name in (
        ".env",
        "modeling.py",
        "optimizer.pt",
        "events.out.tfevents.1",
        "x.pyc",
        "model.safetensors.part",
    ):
        (folder / name).write_text("mine")
    (folder / "README.md").write_text("# Mine\n")
    (folder / "runs").mkdir()
    (folder / "runs" / "config.json").write_text("{}")
    zoo.push(folder, NAME)
    assert hub.repositories[NAME].names() == FILES
    assert hub.read(NAME, "README.md") == b"# Mine\n"
    assert hub.read(NAME, "model.safetensors") == (folder / "model.safetensors").read_bytes()


def test_a_link_out_of_the_folder_is_not_followed(
    hub: Loopback, logged_in: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("mine")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    assert refusal(folder) == (
        f"{folder}/README.md leads out of its folder, to {tmp_path}/secret, so it is not pushed"
    )
    assert hub.repositories == {}


def test_a_file_with_a_token_is_not_pushed(hub: Loopback, logged_in: str, folder: Path) -> None:
    (folder / "README.md").write_text(f"token: {TOKEN}\n")
    assert refusal(folder) == f"{folder}/README.md holds what looks like a token, so nothing is pushed"
    assert hub.repositories == {}


def test_a_branch_is_made_and_a_pull_request_opened(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    zoo.push(model, NAME)
    main = hub.repositories[NAME].head
    change(model)
    zoo.push(model, NAME, branch="trial")
    repository = hub.repositories[NAME]
    assert repository.head == main != repository.refs["trial"]
    assert zoo.push(model, NAME, pull_request=True) == f"{hub.url}/{NAME}/discussions/1"
    assert repository.head == main
    assert repository.names("refs/pr/1") == FILES


# Who may, and who sees it


def test_without_a_token_nothing_is_asked(hub: Loopback, model: DecoderModule) -> None:
    assert refusal(model) == "nobody is logged in to the Hub\n  `hf auth login`, or set HF_TOKEN"
    assert hub.lines("models") == []


def test_a_token_that_is_no_more_or_is_anothers_is_said(
    hub: Loopback, logged_in: str, model: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = "  `hf auth login` with a token that may write, or name a repository of yours"
    assert refusal(model, "you/llama") == f"your token may not write to `you/llama` (403)\n{hint}"
    monkeypatch.setenv("HF_TOKEN", "hf_oldoldoldoldoldoldoldoldoldoldold")
    assert refusal(model) == f"your token may not write to `{NAME}` (401)\n{hint}"


def test_no_token_goes_over_plain_http(
    hub: Loopback, logged_in: str, model: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_is_loopback", lambda host: False)
    assert refusal(model) == (
        f"{hub.url} is neither https nor on this machine, so no token is sent there\n"
        "  set HF_ENDPOINT to an https address"
    )
    assert hub.requests == []


def test_the_store_of_large_files_never_sees_the_token(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    zoo.push(model, NAME)
    seen = [request.has_token for request in hub.requests if request.origin == "store"]
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(("private", "expected"), [(None, True), (True, True), (False, False)])
def test_a_new_repository_is_private_unless_said(
    hub: Loopback, logged_in: str, model: DecoderModule, private: bool | None, expected: bool
) -> None:
    zoo.push(model, NAME, private=private)
    assert hub.repositories[NAME].private is expected


def test_a_public_repository_is_refused_where_private_was_asked(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    hub.repositories[NAME] = Repository()
    message = (
        f"`{NAME}` is public, and a private one was asked for, so nothing was pushed\n"
        "  make it private in its settings on the Hub, or push without --private"
    )
    assert refusal(model, private=True) == message
    assert len(hub.repositories[NAME].commits) == 1
    assert hub.large == {}
    zoo.push(model, NAME)
    assert hub.repositories[NAME].names() == FILES


def test_offline_nothing_is_pushed(
    hub: Loopback, logged_in: str, model: DecoderModule, offline: Callable[[], None]
) -> None:
    offline()
    assert refusal(model) == "HF_HUB_OFFLINE forbids to push\n  unset it"


def test_a_name_that_is_no_id_is_refused(hub: Loopback, logged_in: str, model: DecoderModule) -> None:
    assert refusal(model, "llama") == "`llama` is no Hub id `owner/name`"


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault(COMMIT, "lost"),
        Fault(COMMIT, "status"),
        Fault(COMMIT, "reset"),
        Fault("/preupload/", "status"),
        Fault("objects/batch", "reset"),
        Fault("PUT /large/", "lost"),
        Fault("PUT /large/", "reset"),
        Fault("PUT /large/", "status", status=500),
        Fault("/api/repos/create", "lost"),
        Fault("/api/repos/create", "status"),
        Fault(f"GET /api/models/{NAME}/revision/main", "reset"),
        Fault("whoami", "reset"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.request}",
)
def test_what_passes_ends_in_one_commit(
    hub: Loopback, logged_in: str, model: DecoderModule, fault: Fault
) -> None:
    hub.faults.append(fault)
    address = zoo.push(model, NAME)
    assert fault.times == 0
    repository = hub.repositories[NAME]
    assert address == f"{hub.url}/{NAME}/commit/{repository.head}"
    assert len(repository.commits) == 2
    assert repository.names() == FILES


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("PUT /parts/.*/2", "status", status=500),
        Fault("PUT /parts/.*/1", "reset"),
        Fault("POST /large/", "lost"),
        Fault("POST /large/", "status"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.request}" if fault else "none",
)
def test_a_large_file_that_is_sent_in_parts_arrives_whole(
    hub: Loopback, logged_in: str, model: DecoderModule, fault: Fault | None
) -> None:
    hub.part_bytes = 50_000
    hub.faults += [fault] if fault else []
    zoo.push(model, NAME)
    assert len(hub.lines("^PUT /parts/")) > 2
    assert hub.lines("^PUT /large/") == []
    assert fault is None or fault.times == 0
    assert len(hub.repositories[NAME].commits) == 2
    ids = torch.arange(3, 12)[None]
    assert torch.equal(zoo.load(NAME)(ids).logits, zoo.load(zoo.pull(NAME))(ids).logits)
    assert len(hub.read(NAME, "model.safetensors")) > 2 * hub.part_bytes


@pytest.mark.parametrize("kind", ["lost", "status", "reset"])
def test_a_pull_request_whose_reply_does_not_come_is_opened_once(
    hub: Loopback, logged_in: str, model: DecoderModule, kind: Any
) -> None:
    zoo.push(model, NAME)
    repository = hub.repositories[NAME]
    main = repository.head
    change(model)
    assert zoo.push(model, NAME, pull_request=True).endswith("/discussions/1")
    change(model)
    hub.faults.append(Fault(COMMIT, kind))
    assert zoo.push(model, NAME, pull_request=True) == f"{hub.url}/{NAME}/discussions/2"
    assert repository.pull_requests == 2
    assert repository.head == main
    assert zoo.load(NAME, revision="refs/pr/2").backbone.norm.weight.eq(3).all()


def test_what_does_not_pass_leaves_the_old_revision_and_the_next_push_sends_the_rest(
    hub: Loopback, logged_in: str, model: DecoderModule
) -> None:
    zoo.push(model, NAME)
    before = hub.repositories[NAME].head
    change(model)
    hub.faults.append(Fault(COMMIT, "status", times=99))
    assert refusal(model) == (
        f"nothing was pushed: the Hub answers 503 for `{NAME}`\n"
        "  push again: what has arrived is not sent twice"
    )
    assert hub.repositories[NAME].head == before
    hub.faults.clear()
    hub.requests.clear()
    zoo.push(model, NAME)
    assert hub.lines("^PUT ") == []
    assert zoo.load(NAME).backbone.norm.weight.eq(2).all()


def test_two_who_push_at_once_mix_nothing(
    hub: Loopback, logged_in: str, model: DecoderModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.push(model, NAME)
    change(model)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text('{"theirs": 1}')
    serve, met = hub.serve, []

    def meanwhile(call: Any) -> Any:
        if call.path.endswith("/preupload/main") and not met:
            met.append(hub.publish(NAME, tmp_path / "theirs"))
        return serve(call)

    monkeypatch.setattr(hub, "serve", meanwhile)
    assert refusal(model) == (
        f"`{NAME}` has changed while this was pushed\n  look at what was pushed there, then push again"
    )
    assert hub.repositories[NAME].head == met[0]


SCRIPT = """
import sys, zoo
from zoo.hub import remote
remote.WAITS_SECONDS = (0.05, 0.05)
print(zoo.push(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture(params=[False, True], ids=["LFS", "Xet"])
def has_xet(
    hub: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> bool:
    """Whether the store of large files is Xet's, whose client waits for less than its 3 s between tries."""
    if request.param:
        hub.xet_folder = tmp_path / "xet"
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet-cache"))
        monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "10ms")
    return bool(request.param)


@pytest.mark.slow
def test_whatever_goes_wrong_a_repository_holds_one_whole_revision(
    hub: Loopback,
    logged_in: str,
    model: DecoderModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_xet: bool,
) -> None:
    """Random faults and kills; after each push the repository is one of the folders, never a mix."""
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.2)
    draw = random.Random(0)
    folders = []
    for number in range(4):
        change(model)
        model.generation_config = {"max_new_tokens": number + 1}
        folders.append(zoo.save(model, tmp_path / f"model-{number}"))
        (folders[-1] / "README.md").write_text(f"# The model {number}\n")
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    zoo.push(folders[0], NAME)
    content = ["xet-write-token"] if has_xet else ["objects/batch", "PUT /large/"]
    paths = [COMMIT, "/preupload/", *content, "GET /api/models/"]
    kinds: list[Any] = ["status", "reset", "lost", "cut", "stall"]
    met = killed = landed = 0
    for _ in range(100):
        hub.faults[:] = [
            Fault(draw.choice(paths), draw.choice(kinds), after=20, seconds=1.0)
            for _ in range(draw.randint(1, 3))
        ]
        folder, has_landed = draw.choice(folders), False
        if draw.random() < 0.06:
            killed += kill_amid(hub, folder, tmp_path, draw.uniform(0.0, 0.4))
        else:
            with suppress(CheckpointError):
                zoo.push(folder, NAME)
                has_landed = True
        met += sum(fault.times == 0 for fault in hub.faults)
        hub.faults.clear()
        landed += has_landed
        assert held(hub) in ([contents[folders.index(folder)]] if has_landed else contents)
    assert met >= 100
    assert killed >= 2
    assert landed >= 60
    assert bool(hub.large) is not has_xet


def held(hub: Loopback) -> dict[str, bytes]:
    """A repository's files as the client fetches them, and the card, which it does not."""
    folder = zoo.pull(NAME)
    return {
        name: hub.read(NAME, name) if name == "README.md" else (folder / name).read_bytes()
        for name in hub.repositories[NAME].names()
    }


def kill_amid(hub: Loopback, folder: Path, tmp_path: Path, seconds: float) -> bool:
    """Pushes in a process of its own, killed so long after its first request."""
    hub.requests.clear()
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN, **({} if hub.xet_folder else {"HF_HUB_DISABLE_XET": "1"}),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), NAME], env=environment)
    is_over = threading.Event()
    while not hub.lines("models") and process.poll() is None:
        is_over.wait(0.01)
    is_over.wait(seconds)
    is_running = process.poll() is None
    process.kill()
    process.wait()
    return is_running


# In processes of their own


PROCESS = """
import sys, torch, zoo
verb, model, name = sys.argv[1:]
if verb == "push":
    print(zoo.push(model, name))
else:
    ids = torch.arange(3, 12)[None]
    print(torch.equal(zoo.load(name)(ids).logits, zoo.load(model)(ids).logits))
"""


@pytest.mark.slow
def test_processes_that_know_nothing_of_each_other_push_and_pull(
    hub: Loopback, logged_in: str, model: DecoderModule, tmp_path: Path, has_xet: bool
) -> None:
    """Without Xet the client is told so; with it, it does as it does by default."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN, **({} if has_xet else {"HF_HUB_DISABLE_XET": "1"}),
    }  # fmt: skip

    def run(verb: str, folder: Path) -> str:
        words = (sys.executable, "-c", PROCESS, verb, str(folder), NAME)
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout.strip()

    folders = [zoo.save(model, tmp_path / "one")]
    change(model)
    folders.append(zoo.save(model, tmp_path / "two"))
    for folder in folders:
        assert run("push", folder) == f"{hub.url}/{NAME}/commit/{hub.repositories[NAME].head}"
        assert run("load", folder) == "True"
    assert len(hub.repositories[NAME].commits) == 3
    assert bool(hub.lines("xet-write-token")) is bool(hub.lines("xet-read-token")) is has_xet
    assert bool(hub.large) is not has_xet


# The card


def test_the_card_says_what_it_is_and_how_to_load_it(
    hub: Loopback, logged_in: str, model: DecoderModule, tmp_path: Path
) -> None:
    zoo.push(model, "me/base", private=False)
    tuned = zoo.load("me/base")
    zoo.push(tuned, NAME, license="apache-2.0", language="en")
    (tmp_path / "card.md").write_bytes(hub.read(NAME, "README.md"))
    card = ModelCard.load(tmp_path / "card.md")
    data = card.data.to_dict()
    assert data == {
        "license": "apache-2.0",
        "language": "en",
        "base_model": "me/base",
        "base_model_revision": hub.repositories["me/base"].head,
        "pipeline_tag": "text-generation",
        "library_name": "lightning-zoo",
        "tags": ["lightning-zoo", "llama"],
    }
    assert f'zoo.load("{NAME}")' in card.text
    assert f'transformers.LlamaForCausalLM.from_pretrained("{NAME}")' in card.text
    assert f"at commit `{hub.repositories['me/base'].head}`" in card.text
    assert f"- torch: {torch.__version__}" in card.text


def test_a_card_that_its_owner_has_taken_over_stays(
    hub: Loopback, logged_in: str, model: DecoderModule, tmp_path: Path
) -> None:
    zoo.push(model, NAME)
    first = hub.read(NAME, "README.md")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My own words\n")
    files = dict(hub.repositories[NAME].at("main").files)
    hub.publish(NAME, tmp_path / "mine")
    theirs = hub.repositories[NAME].at("main").files["README.md"]
    hub.repositories[NAME].at("main").files.update({**files, "README.md": theirs})
    change(model)
    zoo.push(model, NAME)
    assert hub.read(NAME, "README.md") == b"# My own words\n"
    assert first.startswith(b"---\n")


def test_a_card_that_comes_with_a_folder_takes_the_place_of_any(
    hub: Loopback, logged_in: str, folder: Path
) -> None:
    for text in ("# One\n", "# Two\n"):
        (folder / "README.md").write_text(text)
        zoo.push(folder, NAME)
        assert hub.read(NAME, "README.md").decode() == text


# zoo push


def test_the_command_publishes_a_folder_and_says_where(
    hub: Loopback, logged_in: str, folder: Path, command: Callable[..., Any]
) -> None:
    done = command("push", str(folder), NAME, "--private")
    assert done.code == 0, done.err
    assert done.out == f"{hub.url}/{NAME}/commit/{hub.repositories[NAME].head}\n"
    assert TOKEN not in done.out + done.err
    assert command("push", str(folder), NAME, "--private", "--public").code == 2


def test_the_command_publishes_a_runs_checkpoint_with_its_recipe(
    hub: Loopback, logged_in: str, command: Callable[..., Any], workplace: Path
) -> None:
    ran = command("fit", "--config", "recipe.yaml")
    assert ran.code == 0, ran.err
    (path,) = workplace.rglob("last.ckpt")
    done = command("push", str(path), NAME, "--license", "mit")
    assert done.code == 0, done.err
    assert hub.repositories[NAME].names() == FILES | {"recipe.yaml"}
    assert b"zoo.decoders.Llama" in hub.read(NAME, "recipe.yaml")
    assert "```yaml" in hub.read(NAME, "README.md").decode()
    assert zoo.load(NAME).tokenizer is not None
    assert huggingface_hub.get_token() == TOKEN
