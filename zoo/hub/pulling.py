"""A model from the Hub: one commit, the files that are needed, checked when they arrive."""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionResolutionError,
)

from zoo.data.caching import cached
from zoo.errors import CheckpointError
from zoo.generation.settings import FILE as GENERATION_FILE
from zoo.heads import sentence_transformers
from zoo.hub import remote, weights
from zoo.hub.config import FILE as CONFIG_FILE
from zoo.hub.telling import tell
from zoo.specs import HubModel
from zoo.tokenizer.reading import FILES as TOKENIZER_FILES
from zoo.tokenizer.reading import LARGEST_BYTES
from zoo.untrusted import require_bytes

_COMMIT = re.compile("[0-9a-f]{40}")
_ABANDONED_SECONDS = 3600.0


def folder_of(model: HubModel, *, weights: bool = True) -> Path:
    """The folder with the model's files, fetched first where it is a Hub id.

    Args:
        model: A folder or a Hub id.
        weights: False fetches config.json alone.

    Raises:
        CheckpointError: The files are not to be had.
    """
    return Path(model.name) if model.is_folder else fetch(pinned(model), weights=weights)[0]


def pinned(model: HubModel, file: str = CONFIG_FILE) -> HubModel:
    """The same model at the commit that its revision names now; a folder, or a commit, as it is.

    Args:
        model: A folder or a Hub id.
        file: One that it has, which is needed in any case.

    Raises:
        CheckpointError: The Hub knows no such model or revision, or cannot be asked.
    """
    if model.is_folder or _COMMIT.fullmatch(model.revision or ""):
        return model
    try:
        commit = _cached_commit(model) if remote.is_offline() else remote.tried(lambda: _commit(model, file))
    except remote.FAILURES as error:
        raise remote.explained(error, model) from error
    tell(f"{model.name} is at commit {commit}")
    return HubModel(f"{model.repo_id}@{commit}")


def _commit(model: HubModel, file: str) -> str:
    info = remote.api().model_info(model.repo_id, revision=model.revision, timeout=remote.TIMEOUT_SECONDS)
    # The client notes for offline use which commit it was of.
    path = _download(model, file)
    if path.parent.name != info.sha:
        # The client falls back on what is cached when it is cut off; or there was a commit just now.
        raise httpx2.NetworkError(f"{model.name} is not what it was a moment ago")
    return path.parent.name


def _cached_commit(model: HubModel) -> str:
    try:
        found = remote.api().resolve_revision(model.repo_id, revision=model.revision, local_files_only=True)
    except RevisionResolutionError as error:
        raise OfflineModeIsEnabled(model.name) from error
    return found.resolved


def _download(model: HubModel, name: str) -> Path:
    path = remote.api().hf_hub_download(
        model.repo_id, name, revision=model.revision, etag_timeout=remote.TIMEOUT_SECONDS
    )
    return Path(path)


def fetch(
    model: HubModel, *, weights: bool = True, allow_pickle: bool = False
) -> tuple[Path, Collection[str]]:
    """A commit's files in huggingface_hub's cache; without a request where it has them.

    Args:
        model: A Hub id with a commit.
        weights: False fetches config.json alone.
        allow_pickle: Whether pickled weights are fetched where there are no others.

    Returns:
        Their folder, and the names of those that a model is read from.

    Raises:
        CheckpointError: A file is not to be had, or is not what the Hub says it is.
    """
    try:
        config = remote.tried(lambda: _download(model, CONFIG_FILE))
        folder = config.parent
        names = _needed(model, folder, allow_pickle=allow_pickle) if weights else [CONFIG_FILE]
        if missing := [name for name in names if not (folder / name).is_file()]:
            _snapshot(model, missing)
    except remote.FAILURES as error:
        raise remote.explained(error, model) from error
    for name in names:
        _verify(model, folder / name)
    return folder, names


def fetch_file(model: HubModel, name: str) -> Path:
    """One file of a commit, which a model need not have.

    Raises:
        CheckpointError: It is not to be had, or is not what the Hub says it is.
    """
    try:
        path = remote.tried(lambda: _download(model, name))
    except RemoteEntryNotFoundError as error:
        raise CheckpointError(f"`{model.name}` holds no {name}") from error
    except remote.FAILURES as error:
        raise remote.explained(error, model) from error
    _verify(model, path)
    return path


def _snapshot(model: HubModel, names: Collection[str]) -> None:
    """Fetches files of these names, and the commit's listing."""
    if remote.is_offline():
        return
    api = remote.api()
    remote.tried(
        lambda: api.snapshot_download(
            model.repo_id,
            revision=model.revision,
            allow_patterns=[re.sub(r"([*?\[])", r"[\1]", name) for name in names],
            etag_timeout=remote.TIMEOUT_SECONDS,
            max_workers=4,
        )
    )


def _needed(model: HubModel, folder: Path, *, allow_pickle: bool) -> list[str]:
    """The names of the files that a model is read from."""
    there = _listing(model, folder)
    small = [CONFIG_FILE, GENERATION_FILE, *sentence_transformers.FILES, *TOKENIZER_FILES]
    found = [name for pattern in small for name in there if fnmatchcase(name, pattern)]
    for name in (*found, weights.INDEX_FILE):
        require_bytes(f"{name} of `{model.repo_id}`", there.get(name, 0), LARGEST_BYTES)
    if weights.FILE in there:
        found.append(weights.FILE)
    elif weights.INDEX_FILE in there:
        index = remote.tried(lambda: _download(model, weights.INDEX_FILE))
        found += [weights.INDEX_FILE, *weights.shards_of(index, there)]
    elif pickles := sorted(filter(weights.PICKLES.fullmatch, there)):
        if not allow_pickle:
            raise CheckpointError(
                f"`{model.repo_id}` holds no safetensors, only pickled weights ({pickles[0]}), "
                "which may do anything when they are read",
                hint=f"zoo pull {model.repo_id} --allow-pickle --to DIR reads their tensors alone, "
                "and writes safetensors",
            )
        found += pickles
    elif remote.is_offline():
        raise OfflineModeIsEnabled(model.name)
    else:
        raise CheckpointError(f"`{model.repo_id}` holds no {weights.FILE}")
    _require_room(model, folder, {name: there[name] for name in found})
    return found


def _listing(model: HubModel, folder: Path) -> dict[str, int]:
    """The files of a commit and their sizes in bytes."""
    for is_asked in (False, True):
        try:
            tree = huggingface_hub.get_cached_repo_tree(model.repo_id, revision=model.revision)
            return {file.path: file.size for file in tree}
        except CachedRepoTreeNotFoundError:
            if not is_asked:
                _snapshot(model, [CONFIG_FILE])
    # Offline, and fetched by who lists nothing.
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def _require_room(model: HubModel, folder: Path, sizes: dict[str, int]) -> None:
    missing = sum(size for name, size in sizes.items() if not (folder / name).exists())
    if missing and remote.is_offline():
        raise OfflineModeIsEnabled(model.name)
    _sweep(folder.parents[1] / "blobs")
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise CheckpointError(
            f"`{model.repo_id}` takes {missing:,} bytes more, the disk of {folder} has {free:,}",
            hint="HF_HOME moves the cache",
        )


def _sweep(blobs: Path) -> None:
    """Removes what downloads that were killed have left: the client never goes on with it.

    One that is under way writes at least once a minute, or is given up.
    """
    for path in blobs.glob("*.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _verify(model: HubModel, path: Path) -> None:
    """Compares a file that has just arrived with its checksum, by which the cache names it."""
    # Not to the end: what Xet fetched lies in a store of its own, under another name.
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    named, whole = blob.name, path.resolve()
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", named):
        return
    mark = f"verified-{named}-{whole.stat().st_mtime_ns}"

    def compare(place: Path) -> None:
        if _checksum(whole, named) != named:
            for wrong in {path, Path(os.path.normpath(blob)), whole}:
                wrong.unlink(missing_ok=True)
            raise CheckpointError(
                f"{path.name} of `{model.repo_id}` is not what the Hub says it is: its checksum differs",
                hint="it was deleted; fetch it again",
            )
        place.touch()

    cached(mark, compare)


def _checksum(path: Path, like: str) -> str:
    """SHA-256 of a large file; git's own of one that git keeps."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def pull(
    model: str | Path,
    revision: str | None = None,
    to: str | Path | None = None,
    *,
    allow_pickle: bool = False,
) -> Path:
    """Fetches a model of the Hub; nothing of it is run.

    Args:
        model: `owner/name` on the Hub, or a folder.
        revision: A branch, tag or commit; by default the newest.
        to: A folder that gets copies; by default the files stay in huggingface_hub's cache.
        allow_pickle: Whether weights that are there as pickles alone are fetched, read with `weights_only`,
            and written to `to` as safetensors.

    Returns:
        The folder with the files.

    Raises:
        CheckpointError: It is not to be had, is not whole, or holds pickles alone.
    """
    named = HubModel(str(model) if revision is None else f"{model}@{revision}")
    if allow_pickle and to is None:
        raise CheckpointError("pickled weights are written as safetensors, for which a folder is needed")
    if named.is_folder:
        folder = Path(named.name)
        files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names: Collection[str] = list(files)
    else:
        folder, names = fetch(pinned(named), allow_pickle=allow_pickle)
    return folder if to is None else _copied(folder, Path(to), names)


def _copied(folder: Path, to: Path, names: Iterable[str]) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    pickles = sorted(filter(weights.PICKLES.fullmatch, names))
    has_safetensors = any(name.endswith(".safetensors") for name in names)
    for name in names:
        if name not in pickles:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            aside = (to / name).with_name(f".{Path(name).name}.part")
            shutil.copyfile(folder / name, aside)
            os.replace(aside, to / name)  # a model that was loaded from there may have it mapped
    if pickles and not has_safetensors:
        weights.convert([folder / name for name in pickles], to)
    return to
