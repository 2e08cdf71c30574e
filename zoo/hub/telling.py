"""What is said once for all processes of a run."""

import logging
import sys


def tell(message: str) -> None:
    """Logs on the first process, by Lightning where it is imported; a mere download does without it."""
    if "lightning.pytorch" in sys.modules:
        from lightning.pytorch.utilities import rank_zero_info

        rank_zero_info(message)
    else:
        logging.getLogger(__name__).info(message)
