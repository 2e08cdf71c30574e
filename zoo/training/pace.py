"""How often a figure is logged: a call of `log` costs as much as a layer of a small model."""

import time

LONG_SECONDS = 1.0
"""Who watches a bar waits no longer for its next figure."""


class Pace:
    """Lets a figure pass when loggers write, and where it has not passed for long."""

    def __init__(self) -> None:
        self._passed: dict[str, tuple[int, float]] = {}

    def is_due(self, name: str, step: int, every_n_steps: int) -> bool:
        """Whether the figure of this step, from 1, should be logged.

        Args:
            name: Of the figure.
            step: Optimizer steps with this one.
            every_n_steps: Steps between what loggers write.
        """
        now = time.monotonic()
        last_step, last_time = self._passed.get(name, (-every_n_steps, now))
        is_due = (
            step % max(every_n_steps, 1) == 0
            or step - last_step >= every_n_steps
            or now - last_time >= LONG_SECONDS
        )
        if is_due:
            self._passed[name] = step, now
        return is_due
