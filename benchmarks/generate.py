"""Writing with a Llama of 25 million parameters, GPT-2 of 124 and T5-small, beside transformers' `generate`.

Both sides load one folder of random weights that transformers saved, and take turns; figures are medians over
the turns, of time on the wall and of processors' time, which hardly heeds what else runs when one thread is
used (OMP_NUM_THREADS=1). Both must write the same ids. Beside transformers' default stands its static cache,
uncompiled. `data` are 256 prompts of 4 to 64 tokens with answers of 1 to 128: transformers takes 32 at once,
in order; the zoo replaces those that have ended. `lookup` is one row whose text repeats itself, with guesses
by looking back beside none, both by the zoo. `llama-1b` is for a GPU: 1.2 billion parameters in bfloat16,
whose roundings may choose other ids. The last line is JSON; a ratio above 1 says that the zoo is faster.
Threads that share cores with other work wait for each other: run case by case on a quiet machine.

    python benchmarks/generate.py [--turns 5] [--steps 64] [--cases llama …] [--compile] [--litgpt-python P]
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import zoo
from zoo.generation import Decoding, PromptLookup, Row, Sampler, Speculation
from zoo.modules.generating import GeneratingModule

PROMPT = 32
LLAMA = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
LLAMA_1B = {
    **LLAMA,
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "llama-1b": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_1B)).bfloat16(),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(num_layers=6, decoder_start_token_id=0)
    ),
}
WAYS: dict[str, tuple[str, int, int]] = {
    "llama": ("llama", 1, 1),
    "llama-8": ("llama", 8, 1),
    "gpt2": ("gpt2", 1, 1),
    "t5": ("t5", 1, 1),
    "t5-beams": ("t5", 1, 4),
    "llama-1b": ("llama-1b", 1, 1),
}
"""The model, rows and beams of a case."""
ON_GPU = ("llama-1b",)
STATIC = {"cache_implementation": "static", "disable_compile": True}
Side = Callable[[], Any]


class Pair:
    """One model on both sides."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.folder, self.device = tempfile.TemporaryDirectory(), "cuda" if name in ON_GPU else "cpu"
        model = MODELS[name]().eval()
        model.save_pretrained(self.folder.name)
        kind = type(model)
        self.zoo, load_zoo = timed(lambda: zoo.load(self.folder.name, device=self.device))
        self.peer, load_peer = timed(
            lambda: kind.from_pretrained(self.folder.name, dtype="auto").eval().to(self.device)
        )
        self.load_seconds = {"zoo": round(load_zoo["wall"], 2), "transformers": round(load_peer["wall"], 2)}
        self.zoo.generation_config = {"eos_token_id": []}
        self.num_bytes = sum(weight.numel() * weight.element_size() for weight in self.zoo.parameters())
        self.is_read = bool(self.peer.config.is_encoder_decoder)

    def peer_writes(self, ids: Tensor, **choices: Any) -> list[list[int]]:
        """Transformers' new ids."""
        choices = {"attention_mask": torch.ones_like(ids), "do_sample": False, **choices}
        found = self.peer.generate(ids, eos_token_id=None, pad_token_id=0, **choices)
        new: list[list[int]] = found[:, 1 if self.is_read else ids.shape[1] :].tolist()
        return new


class LitGPT:
    """LitGPT's own `generate` for a Llama of the same sizes, in a process that waits while others write."""

    def __init__(self, python: str, num_weights: int) -> None:
        peer = Path(__file__).parent / "peers" / "litgpt_writing.py"
        self.process = subprocess.Popen(
            [python, peer, json.dumps(LLAMA)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        found = int(self._answer())
        assert found == num_weights, f"LitGPT has {found} weights, the zoo {num_weights}"

    def write(self, num_tokens: int) -> None:
        """Writes so many tokens after a prompt; of its own weights, so that the ids are not compared."""
        assert self.process.stdin is not None
        print(json.dumps([PROMPT, num_tokens]), file=self.process.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        """Lets it go."""
        self.process.communicate()


def timed(call: Side) -> tuple[Any, dict[str, float]]:
    """What a call gives, and its seconds: on the wall, and of processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return found, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def by_turns(sides: dict[str, Side], num_turns: int, are_equal: bool = True) -> dict[str, dict[str, float]]:
    """Median seconds of each side, after one call that is not counted."""
    written = {name: side() for name, side in sides.items()}
    found = {str(ids) for ids in written.values() if ids}
    assert not are_equal or len(found) == 1, f"they write otherwise: {written}"
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(num_turns):
        for name, side in sides.items():
            taken[name].append(timed(side)[1])
    return {
        name: {clock: statistics.median(turn[clock] for turn in turns) for clock in ("wall", "cpu")}
        for name, turns in taken.items()
    }


def ratios(seconds: dict[str, dict[str, float]], peer: str) -> dict[str, float]:
    """How much faster the zoo is, by each clock; of another process, processors' time is not known."""
    clocks = ("wall",) if peer == "litgpt" else ("wall", "cpu")
    return {f"{peer} {clock}": round(seconds[peer][clock] / seconds["zoo"][clock], 2) for clock in clocks}


def tokens(
    pair: Pair,
    way: tuple[int, int],
    num_turns: int,
    num_tokens: int,
    compile: bool = False,
    litgpt: LitGPT | None = None,
) -> dict[str, Any]:
    """Tokens a second of one way to write, and the first token's seconds."""
    rows, beams = way
    ids = torch.randint(3, 500, (rows, PROMPT), generator=torch.Generator().manual_seed(0)).to(pair.device)
    on_gpu = pair.device == "cuda"

    def sides(number: int) -> dict[str, Side]:
        choices: dict[str, Any] = {"max_new_tokens": number, "num_beams": beams}
        found: dict[str, Side] = {
            "zoo": lambda: pair.zoo.generate(ids, **choices, compile=compile or on_gpu),
            "transformers": lambda: pair.peer_writes(ids, **choices),
        }
        if beams == 1 and number > 1:
            found["static"] = lambda: pair.peer_writes(ids, **choices, **STATIC)
        if litgpt is not None:
            found["litgpt"] = lambda: litgpt.write(number)
        return found

    first, whole = (by_turns(sides(number), num_turns, not on_gpu) for number in (1, num_tokens))
    per_second = {name: rows * num_tokens / each["wall"] for name, each in whole.items()}
    return {
        "tokens_per_second": {name: round(value, 1) for name, value in per_second.items()},
        "ratio": {
            key: value for peer in whole if peer != "zoo" for key, value in ratios(whole, peer).items()
        },
        "first_token_ms": {name: round(1e3 * each["wall"], 1) for name, each in first.items()},
        "share_of_read_bandwidth": round(
            pair.num_bytes * per_second["zoo"] / rows / read_bandwidth(pair.device), 2
        ),
    }


def data(pair: Pair, num_turns: int, num_prompts: int = 256, at_once: int = 32) -> dict[str, Any]:
    """Examples a second of prompts whose lengths, and whose answers' lengths, vary."""
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(3, 500, (int(length),), generator=generator).tolist()
        for length in torch.randint(4, 65, (num_prompts,), generator=generator)
    ]
    waits = torch.empty(num_prompts).exponential_(1 / 32, generator=generator)
    limits = [int(value) for value in waits.clamp(1, 128)]

    def ours() -> list[list[int]]:
        module: GeneratingModule = pair.zoo
        decoding = Decoding(
            max_new_tokens=128,
            sampler=Sampler(),
            num_rows=at_once,
            should_stop=lambda row, new: len(new) >= limits[row],
        )
        return module.new_ids(prompts, decoding, module.writer())

    def theirs() -> list[list[int]]:
        written: list[list[int]] = []
        for start in range(0, num_prompts, at_once):
            piece, ends = prompts[start : start + at_once], torch.tensor(limits[start : start + at_once])
            longest = max(map(len, piece))
            ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in piece])
            real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in piece])

            class Ends(transformers.StoppingCriteria):
                def __call__(self, ids: Tensor, scores: Any, ends: Tensor = ends, past: int = longest) -> Any:
                    return ids.shape[1] - past >= ends

            criteria = transformers.StoppingCriteriaList([Ends()])
            new = pair.peer_writes(ids, attention_mask=real, max_new_tokens=128, stopping_criteria=criteria)
            written += [row[:end] for row, end in zip(new, ends.tolist(), strict=True)]
        return written

    seconds = by_turns({"zoo": ours, "transformers": theirs}, num_turns)
    return {
        "examples_per_second": {name: round(num_prompts / each["wall"], 2) for name, each in seconds.items()},
        "ratio": ratios(seconds, "transformers"),
    }


def lookup(pair: Pair, num_turns: int, num_tokens: int) -> dict[str, Any]:
    """Tokens a second of a text that repeats its prompt's, with guesses and without."""
    ids = torch.randint(3, 500, (1, PROMPT), generator=torch.Generator().manual_seed(0)).repeat(1, 4)

    def repeats(rows: Sequence[Row], logits: Tensor) -> Tensor:
        for row, of_row in zip(rows, logits, strict=True):
            of_row[row.ids[-PROMPT]] = torch.inf
        return logits

    def side(speculation: Speculation | None) -> Side:
        choices: dict[str, Any] = {"max_new_tokens": num_tokens, "processors": [repeats]}
        return lambda: pair.zoo.generate(ids, speculation=speculation, **choices)

    seconds = by_turns({"zoo": side(PromptLookup()), "no guesses": side(None)}, num_turns)
    return {
        "tokens_per_second": {name: round(num_tokens / each["wall"], 1) for name, each in seconds.items()},
        "ratio": ratios(seconds, "no guesses"),
    }


@functools.cache
def read_bandwidth(device: str) -> float:
    """Bytes a second that a GPU, or all threads, read at best."""
    numbers = torch.ones(2**30 if device == "cuda" else 2**26, device=device)
    return numbers.numel() * 4 / min(timed(lambda: numbers.sum().item())[1]["wall"] for _ in range(8))


def main() -> None:
    """Runs every case, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64, help="new tokens of a row")
    cases = [*WAYS, "data", "lookup"]
    here = [case for case in cases if torch.cuda.is_available() or case not in ON_GPU]
    parser.add_argument("--cases", nargs="+", choices=cases, default=here)
    parser.add_argument("--compile", action="store_true", help="the zoo's steps; it takes a minute")
    parser.add_argument("--litgpt-python", help="an interpreter that has litgpt, to stand beside `llama`")
    choices = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    figures = {}
    for case in choices.cases:
        model, *rows_and_beams = WAYS.get(case, ("llama", 1, 1))
        pair = Pair(model)
        if case == "data":
            figures[case] = data(pair, choices.turns, 256 if choices.steps > 1 else 8)
        elif case == "lookup":
            figures[case] = lookup(pair, choices.turns, choices.steps)
        else:
            python = choices.litgpt_python if case == "llama" else None
            litgpt = LitGPT(python, pair.num_bytes // 4) if python else None
            rows, beams = rows_and_beams
            way = (rows, beams)
            figures[case] = tokens(pair, way, choices.turns, choices.steps, choices.compile, litgpt)
            if litgpt is not None:
                litgpt.end()
        figures[case]["load_seconds"] = pair.load_seconds
        print(f"{case}: {figures[case]}", flush=True)
    summary = {
        "benchmark": Path(__file__).stem,
        "cases": figures,
        "ratio": min(
            value for each in figures.values() for key, value in each["ratio"].items() if key.endswith("wall")
        ),
        "read_gb_per_second": round(read_bandwidth(pair.device) / 1e9, 1),
        "turns": choices.turns,
        "steps": choices.steps,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
