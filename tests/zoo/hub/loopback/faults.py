"""What can go wrong on the way, to order."""

import re
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Fault:
    """Meets the next requests whose `METHOD path` it matches.

    `status` answers so in place of serving; `cut` ends the answer after so many bytes; `reset` drops the
    connection unread; `stall` serves nothing for so long; `hang` does so after so many bytes; `lost` serves,
    and its answer never arrives; `flip` changes one bit of what is sent.
    """

    request: str
    kind: Literal["status", "cut", "reset", "stall", "hang", "lost", "flip"]
    times: int = 1
    status: int = 503
    after: int = 100
    seconds: float = 30.0
    headers: dict[str, str] = field(default_factory=dict)

    def meets(self, line: str) -> bool:
        return self.times > 0 and re.search(self.request, line) is not None
