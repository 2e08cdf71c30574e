"""Options of the short verbs."""

import argparse
from typing import NoReturn

from zoo.errors import RecipeError


class Options(argparse.ArgumentParser):
    """Raises where others print the usage and exit."""

    def error(self, message: str) -> NoReturn:
        """One sentence, and where to look further."""
        raise RecipeError(f"{self.prog}: {message}", hint=f"`{self.prog} --help` lists what it takes")
