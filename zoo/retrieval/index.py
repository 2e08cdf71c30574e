"""A corpus as vectors on disk, and faiss's index of them.

Johnson et al., 2017: https://arxiv.org/abs/1702.08734
Malkov and Yashunin, 2016 (HNSW): https://arxiv.org/abs/1603.09320
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from zoo.data.caching import content_hash
from zoo.data.reading import read_records, whole_text
from zoo.errors import DataError, SpecError
from zoo.extras import require
from zoo.hub.config import read_json

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

Kind = Literal["exact", "hnsw"]
"""Every vector is looked at; or those that lie near in a graph of neighbours."""

NEIGHBOURS = 32
"""Of a vector in the graph."""

NUM_AT_ONCE = 512
"""Passages after which what was done is kept."""

_FACTS, _VECTORS, _PASSAGES, _INDEX = "index.json", "vectors.npy", "passages.jsonl", "index.faiss"


@dataclass(frozen=True)
class Passage:
    """A text of a corpus, and how near it is to what was asked."""

    id: str
    text: str
    score: float


class Index:
    """Passages that are found by what they mean.

    Args:
        folder: That `build` wrote.
        encoder: The model that wrote it: one under `zoo.heads.Embedding`.

    Raises:
        DataError: There is no index, it is not finished, or another encoder wrote it.
    """

    def __init__(self, folder: str | Path, encoder: "ZooModule") -> None:
        require("an index", "retrieval", "faiss")
        import faiss

        self.folder, self.encoder = Path(folder), encoder
        if not (self.folder / _INDEX).is_file():
            raise DataError(
                f"{folder} holds no {_INDEX}, so it is no index",
                hint="zoo.retrieval.build makes one, or goes on",
            )
        _require_encoder(self.folder, encoder, fingerprint(encoder))
        # Not at every break that Unicode knows: texts hold those.
        lines = (self.folder / _PASSAGES).read_text("utf-8").split("\n")
        self._passages: list[dict[str, str]] = [json.loads(line) for line in lines]
        self._index: Any = faiss.read_index(str(self.folder / _INDEX))

    def __len__(self) -> int:
        return len(self._passages)

    def search(self, questions: Sequence[str], k: int = 5) -> list[list[Passage]]:
        """The nearest passages to each question, the nearest first."""
        vectors = np.asarray(self.encoder.predict(questions), dtype=np.float32)
        scores, numbers = self._index.search(vectors, min(k, len(self)))
        return [
            [
                Passage(**self._passages[number], score=score)
                for number, score in zip(*row, strict=True)
                if number >= 0  # a graph may lead to fewer
            ]
            for row in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]


def build(
    encoder: "ZooModule", corpus: str, folder: str | Path, *, column: str = "text", kind: Kind = "exact"
) -> Index:
    """Makes an index of a corpus, or goes on with one that was interrupted.

    Args:
        encoder: A model under `zoo.heads.Embedding`.
        corpus: A jsonl(.gz) or csv file, a folder of such, or `owner/name` on the Hub. A passage is `column`,
            after `title` where there is one; its id is `_id`, `id`, or its number.
        folder: Where: index.json (who made it), passages.jsonl, vectors.npy, index.faiss.
        column: Of the texts; one that several rows have is one passage.
        kind: Of the index.

    Raises:
        DataError: The corpus lacks the column; or the folder holds what another encoder, or another corpus,
            made.
        SpecError: The kind is unknown.
    """
    require("an index", "retrieval", "faiss")
    if kind not in get_args(Kind):
        raise SpecError(f"`kind` must be one of {', '.join(get_args(Kind))}, got `{kind}`")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    passages = _read(corpus, column)
    facts = {
        "encoder": encoder.origin or encoder.spec.architecture,
        "weights": fingerprint(encoder),
        "corpus": content_hash(text for passage in passages for text in passage.values()),
    }
    if (folder / _FACTS).is_file():
        _require_encoder(folder, encoder, facts["weights"])
        if read_json(folder / _FACTS)["corpus"] != facts["corpus"]:
            raise DataError(
                f"{folder} holds an index of another corpus than {corpus}", hint="take a new folder"
            )
    else:
        lines = (json.dumps(passage, ensure_ascii=False) for passage in passages)
        (folder / _PASSAGES).write_text("\n".join(lines), "utf-8")
        _keep(folder, {**facts, "done": 0})
    _embed(encoder, [passage["text"] for passage in passages], folder)
    _write_index(folder, kind)
    return Index(folder, encoder)


def fingerprint(encoder: "ZooModule") -> str:
    """A hash of a model's weights and of how it pools."""
    digest = hashlib.sha256(json.dumps([asdict(one) for one in encoder.head_specs.values()]).encode())
    for name, tensor in sorted(encoder.merged().hub_tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(corpus: str, column: str) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for number, record in enumerate(read_records(corpus, [column])):
        values = record.values
        parts = [str(values.get("title") or ""), whole_text(values[column], column, record.place)]
        text = " ".join(part for part in parts if part.strip())
        if text:
            found.setdefault(text, {"id": str(values.get("_id", values.get("id", number))), "text": text})
    return list(found.values())


def _require_encoder(folder: Path, encoder: "ZooModule", mine: str) -> None:
    """Refuses an encoder with another fingerprint than the one that wrote the folder."""
    facts = read_json(folder / _FACTS)
    if facts["weights"] != mine:
        raise DataError(
            f"the index in {folder} was built by {facts['encoder']} with the weights {facts['weights'][:8]}, "
            f"not by {encoder.origin or encoder.spec.architecture} with {mine[:8]}",
            hint="search with that encoder, or build an index in a new folder",
        )


def _keep(folder: Path, facts: dict[str, Any]) -> None:
    aside = folder / f".{_FACTS}.part"
    aside.write_text(json.dumps(facts, indent=2), "utf-8")
    os.replace(aside, folder / _FACTS)


def _embed(encoder: "ZooModule", texts: list[str], folder: Path) -> None:
    """Writes each text's vector to its row, from where an earlier run ended."""
    facts = read_json(folder / _FACTS)
    shape = (len(texts), encoder.spec.hidden_size)
    mode: Literal["r+", "w+"] = "r+" if facts["done"] else "w+"
    vectors = np.lib.format.open_memmap(folder / _VECTORS, mode, np.float32, shape if mode == "w+" else None)
    # Texts of like lengths are read together, so that little is padded.
    order = sorted(range(len(texts)), key=lambda number: (len(texts[number]), number))
    for start in range(facts["done"], len(texts), NUM_AT_ONCE):
        numbers = order[start : start + NUM_AT_ONCE]
        vectors[numbers] = np.asarray(encoder.predict([texts[number] for number in numbers]), np.float32)
        vectors.flush()
        _keep(folder, {**facts, "done": start + len(numbers)})


def _write_index(folder: Path, kind: Kind) -> None:
    import faiss

    vectors = np.load(folder / _VECTORS, mmap_mode="r")
    width = vectors.shape[1]
    made: Any = faiss.IndexFlatIP(width)
    if kind == "hnsw":
        made = faiss.IndexHNSWFlat(width, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(vectors), NUM_AT_ONCE):
        made.add(np.ascontiguousarray(vectors[start : start + NUM_AT_ONCE]))
    aside = folder / f".{_INDEX}.part"
    faiss.write_index(made, str(aside))
    os.replace(aside, folder / _INDEX)
