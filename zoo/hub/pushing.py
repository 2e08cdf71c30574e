"""A model to the Hub: an allow-list of files in one commit that lands whole or not at all."""

import functools
import hashlib
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelInfo
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling

from zoo.errors import CheckpointError
from zoo.heads import sentence_transformers
from zoo.hub import cards, curves, published, remote, results
from zoo.hub.config import read_config, spec_of
from zoo.hub.loading import load, read_checkpoint
from zoo.hub.runs import Run
from zoo.hub.saving import save
from zoo.hub.sharded import is_sharded
from zoo.specs import HubModel
from zoo.tokenizer.reading import FILES as TOKENIZER_FILES

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

_NAMES = (*TOKENIZER_FILES, *sentence_transformers.FILES, *sentence_transformers.ITS_OWN)
_MODEL = re.compile(
    r"config\.json|generation_config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|"
    + "|".join(re.escape(name).replace(r"\*", r"[\w.-]+") for name in _NAMES)
    + f"|{re.escape(published.FILE)}|{re.escape(curves.FILE)}|{results.FILES}"
)
"""What belongs to a model, and goes with the one that was there before."""
_BESIDE = frozenset({cards.FILE})
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class Place:
    """Where on the Hub."""

    repo_id: str
    private: bool | None = None
    """Whether others may not see it; None: a new repository is private, one that is there stays as it is."""
    branch: str = "main"
    """It is made where it is missing."""
    pull_request: bool = False
    """Whether a pull request is opened in place of a commit to the branch."""

    def require_access(self) -> None:
        """Finds out before any work whether there is somebody to push as.

        Raises:
            CheckpointError: The name is no Hub id, nobody is logged in, or a token could be overheard.
        """
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo_id):
            raise CheckpointError(f"`{self.repo_id}` is no Hub id `owner/name`")
        if remote.is_offline():
            raise CheckpointError("HF_HUB_OFFLINE forbids to push", hint="unset it")
        if not remote.may_send_token():
            raise CheckpointError(
                f"{remote.endpoint()} is neither https nor on this machine, so no token is sent there",
                hint="set HF_ENDPOINT to an https address",
            )
        if huggingface_hub.get_token() is None:
            raise CheckpointError("nobody is logged in to the Hub", hint="`hf auth login`, or set HF_TOKEN")
        try:
            remote.tried(lambda: remote.api().whoami(cache=True))
        except remote.FAILURES as error:
            raise refused(error, self) from error


def push(
    model: "ZooModule | str | Path",
    repo_id: str,
    *,
    private: bool | None = None,
    branch: str = "main",
    pull_request: bool = False,
    head: str | None = None,
    license: str | None = None,
    language: str | None = None,
) -> str:
    """Publishes a model so that the zoo and transformers load it by name.

    Args:
        model: A model, a folder in the Hub's format, or a run's `.ckpt`. A folder with a README.md goes up
            as it lies.
        repo_id: `owner/name`.
        private: Whether others may not see it. By default a new repository is private; True refuses one that
            is public.
        branch: It is made where it is missing.
        pull_request: Opens one in place of a commit to the branch.
        head: The name of the one that is published, where there are several.
        license: For the card: `apache-2.0`, `mit` …
        language: For the card: `en` …

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        CheckpointError: Nobody is logged in, the repository is public, or the Hub cannot be reached.
    """
    place = Place(repo_id, private, branch, pull_request)
    place.require_access()
    run = Run(license=license, language=language)
    if isinstance(model, (str, Path)):
        path = Path(model)
        if (path / cards.FILE).is_file():  # a folder whose owner has described it
            spec_of(read_config(path), str(path))
            return publish(path, place)
        if not path.is_dir() or is_sharded(path):
            run = Run.of_checkpoint(path, read_checkpoint(path), run)
        model = load(path)
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as aside:
        folder = save(model, Path(aside, "model"), head=head)
        cards.write(folder, model, repo_id, run, head=head)
        return publish(folder, place)


def publish(folder: Path, place: Place) -> str:
    """Pushes a folder's files; returns the address of the commit, or of the pull request."""
    files = allowed(folder)
    try:
        return _published(files, place)
    except CheckpointError:
        raise
    except (*remote.FAILURES, RuntimeError, ValueError) as error:
        raise refused(error, place) from error


def allowed(folder: Path) -> dict[str, Path]:
    """The files of a folder that belong to a model or its card.

    Raises:
        CheckpointError: One leads out of the folder, or holds what looks like a token.
    """
    named = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    found = {
        name: path
        for name, path in named.items()
        if path.is_file() and (_MODEL.fullmatch(name) or name in _BESIDE)
    }
    for name, path in found.items():
        whole = path.resolve()
        if not whole.is_relative_to(folder.resolve()) and not whole.is_relative_to(
            Path(HF_HUB_CACHE).resolve()
        ):
            raise CheckpointError(f"{path} leads out of its folder, to {whole}, so it is not pushed")
        if not name.endswith(".safetensors") and _TOKEN.search(path.read_bytes()):
            raise CheckpointError(f"{path} holds what looks like a token, so nothing is pushed")
    return found


def _published(files: dict[str, Path], place: Place) -> str:
    _require_repository(place)
    known = _pull_requests(place) if place.pull_request else set()
    parent: str | None = None
    for seconds in (*remote.WAITS_SECONDS, None):
        info = remote.tried(lambda: _info(place))
        if parent is not None and (address := _landed(files, place, info, parent, known)):
            return address
        if parent is not None and info.sha != parent and not place.pull_request:
            raise CheckpointError(
                f"`{place.repo_id}` has changed while this was pushed",
                hint="look at what was pushed there, then push again",
            )
        parent = info.sha
        try:
            return _commit(files, place, info)
        except Exception as error:
            is_passing = (
                remote.is_transient(error) or remote.is_transient(error.__cause__) or _is_moved(error)
            )
            if not is_passing:
                raise
            if seconds is None:
                if address := _landed(files, place, remote.tried(lambda: _info(place)), "", known):
                    return address
                raise
            time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _landed(
    files: dict[str, Path], place: Place, info: ModelInfo, parent: str, known: set[str]
) -> str | None:
    """Where a push stands whose reply was lost; None: it did not land.

    Args:
        files: What was pushed.
        place: Where to.
        info: The branch as it is now.
        parent: The commit that it was at.
        known: Pull requests that were there before.
    """
    if not place.pull_request:
        has_landed = info.sha != parent and _holds(info, files)
        return f"{remote.endpoint()}/{place.repo_id}/commit/{info.sha}" if has_landed else None
    for ref in sorted(_pull_requests(place) - known):
        request = replace(place, branch=ref)
        if _holds(remote.tried(functools.partial(_info, request)), files):
            return f"{remote.endpoint()}/{place.repo_id}/discussions/{ref.rpartition('/')[2]}"
    return None


def _pull_requests(place: Place) -> set[str]:
    """Those that the repository has, as `refs/pr/1`."""
    api = remote.api()
    found = remote.tried(lambda: api.list_repo_refs(place.repo_id, include_pull_requests=True))
    return {request.ref for request in found.pull_requests or ()}


def _is_moved(error: BaseException) -> bool:
    return isinstance(error, HfHubHTTPError) and error.response.status_code == 412


def _require_repository(place: Place) -> None:
    api = remote.api()
    try:
        info = remote.tried(lambda: api.model_info(place.repo_id, timeout=remote.TIMEOUT_SECONDS))
    except RepositoryNotFoundError:
        private = place.private is not False
        remote.tried(lambda: api.create_repo(place.repo_id, private=private, exist_ok=True))
        info = remote.tried(lambda: api.model_info(place.repo_id, timeout=remote.TIMEOUT_SECONDS))
        if private and not info.private:
            raise _is_public(place) from None
    if place.private and not info.private:
        raise _is_public(place)


def _is_public(place: Place) -> CheckpointError:
    return CheckpointError(
        f"`{place.repo_id}` is public, and a private one was asked for, so nothing was pushed",
        hint="make it private in its settings on the Hub, or push without --private",
    )


def _info(place: Place) -> ModelInfo:
    api = remote.api()

    def ask() -> ModelInfo:
        return api.model_info(
            place.repo_id, revision=place.branch, files_metadata=True, timeout=remote.TIMEOUT_SECONDS
        )

    try:
        return ask()
    except RevisionNotFoundError:
        api.create_branch(place.repo_id, branch=place.branch, exist_ok=True)
        return ask()


def _commit(files: dict[str, Path], place: Place, info: ModelInfo) -> str:
    there = _files_of(info)
    sent = _to_send(files, place, info)
    gone = [name for name in there if _MODEL.fullmatch(name) and name not in files]
    if not sent and not gone:
        return f"{remote.endpoint()}/{place.repo_id}/commit/{info.sha}"
    done = remote.api().create_commit(
        place.repo_id,
        [
            *(CommitOperationAdd(name, str(path)) for name, path in sent.items()),
            *(CommitOperationDelete(name) for name in gone),
        ],
        commit_message="Model by Lightning Zoo",
        revision=place.branch,
        parent_commit=info.sha,
        create_pr=place.pull_request,
    )
    return str(done.pr_url if place.pull_request else done.commit_url)


def _files_of(info: ModelInfo) -> dict[str, RepoSibling]:
    """What a revision holds, by name."""
    return {sibling.rfilename: sibling for sibling in info.siblings or ()}


def _to_send(files: dict[str, Path], place: Place, info: ModelInfo) -> dict[str, Path]:
    """What the repository lacks, or has otherwise; a card that its owner has taken over stays."""
    there = _files_of(info)
    sent = {name: path for name, path in files.items() if not _is_same(there.get(name), path)}
    is_ours = cards.FILE in sent and cards.MARK in sent[cards.FILE].read_text("utf-8")
    if is_ours and cards.FILE in there:
        kept = remote.api().hf_hub_download(place.repo_id, cards.FILE, revision=info.sha)
        if cards.MARK not in Path(kept).read_text("utf-8"):
            del sent[cards.FILE]
    return sent


def _holds(info: ModelInfo, files: dict[str, Path]) -> bool:
    """Whether a revision has all of the files."""
    there = _files_of(info)
    return all(_is_same(there.get(name), path) for name, path in files.items() if name != cards.FILE)


def _is_same(remote_file: RepoSibling | None, path: Path) -> bool:
    if remote_file is None or remote_file.size != path.stat().st_size:
        return False
    if remote_file.lfs is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote_file.lfs.sha256
    content = path.read_bytes()
    named = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return named.hexdigest() == remote_file.blob_id


def refused(error: BaseException, place: Place) -> CheckpointError:
    """One sentence on why a model was not pushed."""
    inner = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    if isinstance(inner, HfHubHTTPError) and inner.response.status_code in (401, 403):
        return CheckpointError(
            f"your token may not write to `{place.repo_id}` ({inner.response.status_code})",
            hint="`hf auth login` with a token that may write, or name a repository of yours",
        )
    explained = remote.explained(inner, HubModel(f"{place.repo_id}@{place.branch}"))
    explained.message = f"nothing was pushed: {explained.message}"
    explained.args = (explained.message,)
    explained.hint = "push again: what has arrived is not sent twice"
    return explained
