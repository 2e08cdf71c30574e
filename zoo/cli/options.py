"""Options of the short verbs."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from zoo.errors import RecipeError, did_you_mean


class Options(argparse.ArgumentParser):
    """Raises where others print the usage and exit; takes no option by its beginning alone."""

    def __init__(self, **choices: Any) -> None:
        super().__init__(**choices, allow_abbrev=False)

    def parse_args(self, arguments: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """What is given, all of it known.

        Raises:
            RecipeError: Something is not known, or does not fit.
        """
        found, unknown = self.parse_known_args(arguments)
        for word in unknown:
            if word.startswith("-"):
                name = word.partition("=")[0]
                known = re.findall(r"--[\w-]+", self.format_help())
                raise RecipeError(f"{self.prog}: unknown option `{name}`", hint=did_you_mean(name, known))
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found

    def error(self, message: str) -> NoReturn:
        """One sentence, and where to look further."""
        raise RecipeError(f"{self.prog}: {message}", hint=f"`{self.prog} --help` lists what it takes")
