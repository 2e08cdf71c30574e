"""A checkpoint loaded by the zoo and by transformers' `from_pretrained`, on a processor.

BERT-base in float32 and a Llama of 1.1 billion parameters in bfloat16 and several files, random weights, by
turns, each in a process that does nothing else: time from the call that loads to the logits of a few tokens,
once all is imported; the most memory above that, as a multiple of the files; for the Llama also time from the
start of the process to its first new token. The files are in the page cache. Each turn is printed; the last
line is JSON, of medians; `ratio` is transformers' time over the zoo's, where it is smallest. torchmetrics
imports transformers where it is installed: `--zoo-python` and `--peer-python` measure each in an environment
of its own.

    python benchmarks/hub.py [--turns 5] [--steps 8] [--zoo-python PATH] [--peer-python PATH]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

MEASURE = r"""
import json, pathlib, re, sys, time
side, folder, number, named = sys.argv[1:]
import torch
ids = torch.arange(3, 3 + int(number))[None]

def memory(name):
    return 1024 * int(re.search(name + r":\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])

if side == "zoo":
    import zoo
    load = zoo.load
    group, family, module, head = named.split()
    getattr(getattr(zoo, group), family), getattr(zoo.modules, module), getattr(zoo.heads, head)
else:
    import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    load = getattr(transformers, named).from_pretrained
with torch.inference_mode():
    torch.nn.functional.linear(torch.ones(8, 8), torch.ones(8, 8))
    before, start = memory("VmRSS"), time.perf_counter()
    logits = load(folder)(input_ids=ids).logits
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "bytes": memory("VmHWM") - before, "sum": float(logits.float().sum())}))
"""

FIRST_TOKEN = {
    "zoo": """
import sys, torch, zoo
ids = torch.arange(3, 3 + int(sys.argv[2]))[None]
print(zoo.load(sys.argv[1]).generate(ids, max_new_tokens=1, temperature=0.0), flush=True)
""",
    "transformers": """
import sys, torch, transformers
ids = torch.arange(3, 3 + int(sys.argv[2]))[None]
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(model.generate(ids, max_new_tokens=1, do_sample=False), flush=True)
""",
}


def bert(folder: Path) -> None:
    """BERT-base under its masked language model's head."""
    import torch

    import zoo

    module = zoo.modules.EncoderModule(zoo.encoders.Bert(vocab_size=30_522), zoo.heads.MaskedLM())
    module.build(torch.float32)
    zoo.save(module, folder)


def llama(folder: Path) -> None:
    """As many parameters as TinyLlama, in files of half a gigabyte."""
    import torch
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
    )
    torch.set_default_dtype(torch.bfloat16)
    transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="500MB")


NAMES = {
    "bert-base": {"zoo": "encoders Bert EncoderModule MaskedLM", "transformers": "BertForMaskedLM"},
    "llama-1b": {"zoo": "decoders Llama DecoderModule CausalLM", "transformers": "LlamaForCausalLM"},
}
MAKERS: dict[str, Callable[[Path], None]] = {"bert-base": bert, "llama-1b": llama}


def run(script: str, *words: str, python: str = sys.executable) -> tuple[str, float]:
    """The line that a fresh process prints, and the seconds from its start to that."""
    start = time.perf_counter()
    with subprocess.Popen([python, "-c", script, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line, seconds = process.stdout.readline(), time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return line, seconds


def side_by_side(measure: Callable[[str], dict[str, float]], turns: int) -> dict[str, dict[str, float]]:
    """Medians of what each side gives, by turns; the first turn warms the page cache and is not counted."""
    taken: dict[str, list[dict[str, float]]] = {"zoo": [], "transformers": []}
    for turn in range(turns + 1):
        for side, values in taken.items():
            found = measure(side)
            told = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            print(f"{f'turn {turn}' if turn else 'not counted'}, {side}: {told}", flush=True)
            if turn:
                values.append(found)
    return {
        side: {key: statistics.median(value[key] for value in values) for key in values[0]}
        for side, values in taken.items()
    }


def case(name: str, folder: Path, turns: int, tokens: int, pythons: dict[str, str]) -> dict[str, Any]:
    """The figures of one checkpoint; each side by an interpreter."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    def load(side: str) -> dict[str, float]:
        words = (side, str(folder), str(tokens), NAMES[name][side])
        found: dict[str, float] = json.loads(run(MEASURE, *words, python=pythons[side])[0])
        return {"seconds": found["seconds"], "memory": found["bytes"] / size}

    def first_token(side: str) -> dict[str, float]:
        return {"cold_seconds": run(FIRST_TOKEN[side], str(folder), str(tokens), python=pythons[side])[1]}

    found = side_by_side(load, turns)
    if name.startswith("llama"):
        cold = side_by_side(first_token, turns)
        found = {side: values | cold[side] for side, values in found.items()}
    times = [key for key in found["zoo"] if key.endswith("seconds")]
    ratio = {key: round(found["transformers"][key] / found["zoo"][key], 3) for key in times}
    rounded = {side: {key: round(value, 3) for key, value in own.items()} for side, own in found.items()}
    return {**rounded, "ratio": ratio, "file_mb": round(size / 1e6)}


def main() -> None:
    """Writes both checkpoints to a temporary folder, takes turns and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="tokens of the first forward pass")
    parser.add_argument("--cases", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--folder", type=Path, help="keeps the checkpoints there")
    parser.add_argument("--zoo-python", default=sys.executable, help="has lightning-zoo")
    parser.add_argument("--peer-python", default=sys.executable, help="has transformers")
    choices = parser.parse_args()
    pythons = {"zoo": choices.zoo_python, "transformers": choices.peer_python}
    figures = {}
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as aside:
        for name in choices.cases:
            folder = (choices.folder or Path(aside)) / name
            if not folder.is_dir():
                making = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport hub"
                run(f"{making}\nhub.MAKERS[{name!r}](hub.Path({str(folder)!r}))\nprint()")
            figures[name] = case(name, folder, choices.turns, choices.steps, pythons)
            print(f"{name}: {figures[name]}", flush=True)
    summary = {
        "benchmark": Path(__file__).stem,
        "cases": figures,
        "ratio": min(value for each in figures.values() for value in each["ratio"].values()),
        "turns": choices.turns,
        "tokens": choices.steps,
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "lightning")},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
