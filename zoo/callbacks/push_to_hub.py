"""The run's model on the Hub: at its end, or on the way."""

import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from zoo.callbacks.checkpoint import Checkpoint
from zoo.errors import ZooError
from zoo.hub import cards
from zoo.hub.pushing import Place, publish
from zoo.hub.runs import Run
from zoo.hub.saving import save
from zoo.modules.base import ZooModule
from zoo.training.recording import Recording


class PushToHub(Callback):
    """Publishes the model with its card when the run ends; before, if asked, without holding training up.

    Args:
        repo_id: `owner/name`.
        private: Whether others may not see it; by default a new repository is private.
        branch: It is made where it is missing.
        pull_request: Opens one in place of a commit to the branch, at the end alone.
        every_n_checkpoints: Pushes besides after so many checkpoints, in the background; None: not.
        best: A measure such as `val/loss` or `val/accuracy`: the model is pushed as it was when that was
            best, at the end alone. None: as it is then.
        mode: Whether a smaller or a larger value is better.
        head: The name of the one that is published, where there are several.
        license: For the card: `apache-2.0`, `mit` …
        language: For the card: `en` …
    """

    def __init__(
        self,
        repo_id: str,
        private: bool | None = None,
        branch: str = "main",
        pull_request: bool = False,
        every_n_checkpoints: int | None = None,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        head: str | None = None,
        license: str | None = None,
        language: str | None = None,
    ) -> None:
        if every_n_checkpoints is not None and every_n_checkpoints < 1:
            raise ZooError(f"`every_n_checkpoints` must be at least 1, got {every_n_checkpoints}")
        self.place = Place(repo_id, private, branch, pull_request)
        self.every_n_checkpoints, self.best, self.mode = every_n_checkpoints, best, mode
        self.head, self.license, self.language = head, license, language
        self._num_checkpoints = 0
        self._best_value: float | None = None
        self._best_run: Run | None = None
        self._folder: Path | None = None
        self._pushes: ThreadPoolExecutor | None = None
        self._push: Future[str] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Finds out, before any work, whether the model can be pushed when it is done.

        Raises:
            ZooError: Nobody is logged in, or no process holds the whole model.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if pl_module.device_mesh is not None:
            raise ZooError(
                "zoo.callbacks.PushToHub pushes what one process holds, this strategy spreads the model",
                hint=f"when it is trained: zoo push CKPT {self.place.repo_id}",
            )
        if trainer.is_global_zero:
            self.place.require_access()
            self._folder = Path(tempfile.mkdtemp(prefix="zoo-push-"))
            self._pushes = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Pushes in the background, where one is due; while one is under way, the next waits its turn."""
        if self._folder is None or self._pushes is None or self.every_n_checkpoints is None:
            return
        if self.best or self.place.pull_request:  # at the end alone
            return
        self._num_checkpoints += 1
        if self._num_checkpoints % self.every_n_checkpoints or not self._is_idle():
            return
        folder = self._save(pl_module, self._folder / f"step-{trainer.global_step}")
        self._describe(pl_module, folder, self._run(trainer))
        self._push = self._pushes.submit(self._publish_and_clear, folder)

    def _is_idle(self) -> bool:
        if self._push is None:
            return True
        if not self._push.done():
            return False
        if (error := self._push.exception()) is not None:
            rank_zero_warn(f"a push on the way to {self.place.repo_id} failed: {error}")
        self._push = None
        return True

    def _publish_and_clear(self, folder: Path) -> str:
        try:
            return publish(folder, self.place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the best model so far aside.

        Raises:
            ZooError: There is no measure of that name.
        """
        if self._folder is None or self.best is None or trainer.sanity_checking:
            return
        found = trainer.callback_metrics.get(self.best)
        if found is None:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ZooError(f"no measure `{self.best}` is logged", hint=f"logged: {known}")
        value = float(found)
        before = self._best_value
        if before is None or (value < before if self.mode == "min" else value > before):
            self._best_value, self._best_run = value, self._run(trainer)
            self._save(pl_module, self._folder / "best")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pushes the model and says where it is.

        Raises:
            CheckpointError: It did not get there; the run's checkpoint is whole all the same.
        """
        if self._folder is None or self._pushes is None:
            return
        try:
            self._pushes.shutdown(wait=True)
            self._is_idle()
            folder, run = self._folder / "best", self._run(trainer)
            if self._best_run is not None:  # of its own measures, and of the whole run's curves
                run = replace(run, measures=self._best_run.measures, steps=self._best_run.steps)
            else:
                folder = self._save(pl_module, self._folder / "last")
            self._describe(pl_module, folder, run)
            rank_zero_info(f"pushed: {publish(folder, self.place)}")
        except ZooError as error:
            saved = next((c.saved for c in trainer.callbacks if isinstance(c, Checkpoint)), None)  # type: ignore[attr-defined]
            error.hint = f"zoo push {saved or 'CKPT'} {self.place.repo_id}\n{error.hint or ''}".strip()
            raise
        finally:
            self._clear()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Ends what is under way."""
        if self._pushes is not None:
            self._pushes.shutdown(wait=True, cancel_futures=True)
        self._clear()

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._pushes = self._push = None

    def _save(self, module: L.LightningModule, folder: Path) -> Path:
        assert isinstance(module, ZooModule)
        return save(module, folder, head=self.head)

    def _describe(self, module: L.LightningModule, folder: Path, run: Run) -> None:
        assert isinstance(module, ZooModule)
        cards.write(folder, module, self.place.repo_id, run, head=self.head)

    def _run(self, trainer: L.Trainer) -> Run:
        recording = next(one for one in trainer.callbacks if isinstance(one, Recording))  # type: ignore[attr-defined]
        run = Run(license=self.license, language=self.language)
        run = run.told(recording.state_dict(), trainer.global_step)
        measured = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("val/", "test/"))
        }
        recipe = Path(trainer.log_dir or trainer.default_root_dir) / "config.yaml"
        return replace(run, measures=measured).with_recipe(recipe)
