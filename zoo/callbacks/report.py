"""A run in plain words, when it ends."""

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text as RichText

from zoo.callbacks.samples import require_sampling
from zoo.data.base import ZooData, require_least
from zoo.data.measures import Measure, Question
from zoo.modules.base import ZooModule
from zoo.modules.generating import GeneratingModule

T = TypeVar("T")

LINE = 60
"""Characters of a text that a table shows."""


class Report(Callback):
    """Prints how well the model does on held-out data beside simple methods, what it says, and where to look.

    Args:
        prompt: What the sample continues; None: no sample.
        max_new_tokens: Length of the sample; by default 64, or what the model's length leaves.
        temperature: Of the sample; 0 is greedy.
        stop: Texts that end the sample.
        language: Of the sample, for its colours.
        num_questions: How many held-out texts are shown with the model's answers and the right ones.
    """

    def __init__(
        self,
        prompt: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        stop: list[str] | None = None,
        language: str = "text",
        num_questions: int = 6,
    ) -> None:
        require_sampling(max_new_tokens, temperature)
        require_least("num_questions", num_questions, 0)
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.stop = stop or []
        self.language = language
        self.num_questions = num_questions
        self._started = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock; refuses a sample that is too long before anything is trained."""
        if self.prompt is not None and isinstance(pl_module, GeneratingModule):
            pl_module.require_room([self.prompt], self.max_new_tokens)
        self._started = time.monotonic()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the report."""
        if not (trainer.is_global_zero or pl_module.device_mesh):  # those that share a model write together
            return
        console = Console(quiet=not trainer.is_global_zero)
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        console.print(
            f"\nTrained a model of [bold]{parameters / 1e6:.1f} million[/] parameters "
            f"for {_steps(trainer)} in {minutes} min {seconds} s."
        )
        if not isinstance(pl_module, ZooModule):
            return
        for part in _parts(trainer):
            self._ask(part, trainer, pl_module, console)
        if self.prompt is not None and isinstance(pl_module, GeneratingModule):
            console.print(self._sample(pl_module, self.prompt))
        self._pointers(trainer, pl_module, console)

    def _ask(self, data: ZooData, trainer: L.Trainer, module: ZooModule, console: Console) -> None:
        """Prints how well the model does on one data, and what it says to some of its questions."""
        questions, measure = data.questions(), data.measure
        if measure is None or measure.score is None:
            questions = _spread(questions, self.num_questions)
        predictions = module.predict([text for text, _ in questions], data.head) if questions else []
        answers = [data.answer(prediction) for prediction in predictions]
        if measure is not None:
            reached = _logged(trainer, data.head, measure.name)
            if measure.score is not None:
                reached = measure.score(answers, [right for _, right in questions])
            if reached is not None:
                console.print(_comparison(measure, {**data.baselines(), "this model": reached}))
        shown = _spread(list(zip(questions, answers, strict=True)), self.num_questions)
        if shown:
            console.print(_answers(shown))

    def _sample(self, module: GeneratingModule, prompt: str) -> Panel:
        text = module.generate(
            prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=0,
        )
        written = prompt + text if module.shape == "decoder" else text
        title = "what it writes" if module.shape == "decoder" else f"what it writes about {prompt}"
        shown = Syntax(written.rstrip(), self.language, background_color="default")
        return Panel(shown, title=RichText(title), title_align="left")

    def _pointers(self, trainer: L.Trainer, module: ZooModule, console: Console) -> None:
        run = _short(Path(trainer.log_dir or trainer.default_root_dir))
        console.print(f"The run lies in [bold]{run}[/]. To look further:")
        lines = [f"{_command('tensorboard')} --logdir {shlex.quote(str(run))}"]
        if (checkpoint := next(iter(sorted(run.rglob("last.ckpt"))), None)) is not None:
            verbs = self._verbs(shlex.quote(str(checkpoint)), run / "config.yaml", trainer, module)
            lines += [f"{_command('zoo')} {verb}" for verb in verbs]
        for line in lines:
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)

    def _verbs(self, checkpoint: str, recipe: Path, trainer: L.Trainer, module: ZooModule) -> Iterator[str]:
        """What `zoo` can do with the run."""
        if self.prompt is not None and isinstance(module, GeneratingModule):
            drawn = " --temperature 0.7" if module.shape == "decoder" else ""
            yield f"generate {checkpoint} {shlex.quote(self.prompt)}{drawn}"
        if recipe.is_file() and any(part.questions() for part in _parts(trainer)):
            yield f"predict --config {shlex.quote(str(recipe))} --ckpt_path {checkpoint}"
        several = f" --head {list(module.heads)[-1]}" if len(module.heads) > 1 else ""
        yield f"export {checkpoint} my-model{several}"


def _steps(trainer: L.Trainer) -> str:
    """How many were taken, and of how many, where the run ended early."""
    taken, meant = trainer.global_step, trainer.estimated_stepping_batches
    if taken < meant < float("inf"):
        return f"{taken} of {meant} steps"
    return f"{taken} steps"


def _parts(trainer: L.Trainer) -> list[ZooData]:
    """The data of each head; of data that the zoo does not know, none."""
    return list(getattr(trainer.datamodule, "parts", {}).values())  # type: ignore[attr-defined]


def _logged(trainer: L.Trainer, head: str | None, name: str) -> float | None:
    """What the last validation logged."""
    measured = trainer.callback_metrics
    found = measured.get(f"val/{head}/{name}", measured.get(f"val/{name}"))
    return None if found is None else float(found)


def _spread(items: Sequence[T], count: int) -> list[T]:
    """Some of them, from all over."""
    return [items[index * len(items) // count] for index in range(min(count, len(items)))]


def _comparison(measure: Measure, figures: Mapping[str, float]) -> Table:
    table = Table()
    table.add_column(measure.subject)
    table.add_column(measure.unit, justify="right")
    for name, figure in figures.items():
        table.add_row(name, format(figure, measure.form), style="bold" if name == "this model" else None)
    return table


def _answers(shown: Sequence[tuple[Question, str]]) -> Table:
    """Questions, answers, and what is right, a line each."""
    table = Table("what it reads", "what it says", "what is right", show_lines=True)
    for (text, right), answer in shown:
        read = text if isinstance(text, str) else " · ".join(map(str, text))
        cells = (RichText(_line(part)) for part in (read, answer, right))
        table.add_row(*cells, style=None if answer == right else "red")
    return table


def _line(text: str) -> str:
    """The first line, or as much as a table has room for."""
    first, _, rest = text.partition("\n")
    return f"{first[:LINE]} …" if rest or len(first) > LINE else first


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _command(name: str) -> str:
    """A command as it can be typed here, whether or not its environment is activated."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.is_file() else str(_short(beside))
