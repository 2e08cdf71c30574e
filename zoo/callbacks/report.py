"""A run in plain words, when it ends."""

import shlex
import shutil
import sys
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from zoo.callbacks.samples import require_sampling
from zoo.data.text import Text
from zoo.modules.generating import GeneratingModule


class Report(Callback):
    """Prints how well held-out text is predicted beside simple baselines, a sample, and where to look.

    Args:
        prompt: What the sample continues.
        max_new_tokens: Length of the sample; by default 64, or what the model's length leaves.
        temperature: Of the sample; 0 is greedy.
        stop: Texts that end the sample.
        language: Of the sample, for its colours.
    """

    def __init__(
        self,
        prompt: str,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        stop: list[str] | None = None,
        language: str = "text",
    ) -> None:
        require_sampling(max_new_tokens, temperature)
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.stop = stop or []
        self.language = language
        self._started = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock; refuses a sample that is too long before anything is trained."""
        if isinstance(pl_module, GeneratingModule):
            pl_module.require_room([self.prompt], self.max_new_tokens)
        self._started = time.monotonic()

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the report."""
        console = Console()
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        console.print(
            f"\nTrained a model of [bold]{parameters / 1e6:.1f} million[/] parameters "
            f"for {trainer.global_step} steps in {minutes} min {seconds} s."
        )
        if (table := self._comparison(trainer)) is not None:
            console.print(table)
        if isinstance(pl_module, GeneratingModule):
            console.print(self._sample(pl_module))
        self._pointers(trainer, console)

    def _comparison(self, trainer: L.Trainer) -> Table | None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        measured = trainer.callback_metrics.get("val/bits_per_byte")
        if measured is None or not isinstance(data, Text):
            return None
        table = Table()
        table.add_column("to tell a byte it never saw")
        table.add_column("bits", justify="right")
        for name, bits in {**data.baselines(), "this model": float(measured)}.items():
            table.add_row(name, f"{bits:.3f}", style="bold" if name == "this model" else None)
        return table

    def _sample(self, module: GeneratingModule) -> Panel:
        text = module.generate(
            self.prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=0,
        )
        written = Syntax((self.prompt + text).rstrip(), self.language, background_color="default")
        return Panel(written, title="what it writes", title_align="left")

    def _pointers(self, trainer: L.Trainer, console: Console) -> None:
        run = _short(Path(trainer.log_dir or trainer.default_root_dir))
        checkpoint = next(iter(sorted(run.rglob("last.ckpt"))), None)
        console.print(f"The run lies in [bold]{run}[/]. To look further:")
        lines = [f"{_command('tensorboard')} --logdir {shlex.quote(str(run))}"]
        if checkpoint is not None:
            zoo, quoted = _command("zoo"), shlex.quote(str(checkpoint))
            lines += [
                f"{zoo} generate {quoted} {shlex.quote(self.prompt)} --temperature 0.7",
                f"{zoo} export {quoted} my-model",
            ]
        for line in lines:
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _command(name: str) -> str:
    """A command as it can be typed here, whether or not its environment is activated."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.is_file() else str(_short(beside))
