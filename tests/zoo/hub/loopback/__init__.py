"""A Hub on this machine, for the real huggingface_hub client, with faults to order.

Two origins, as there: the Hub, and the store of large files, to which no token may be sent.
"""

from .faults import Fault
from .serving import TOKEN, Loopback, Request
from .state import Repository

__all__ = ["TOKEN", "Fault", "Loopback", "Repository", "Request"]
