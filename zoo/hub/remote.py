"""Asking the Hub: timeouts, retries, where tokens may go, and what went wrong in one sentence."""

import ipaddress
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, get_session
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zoo.errors import CheckpointError
from zoo.specs import HubModel

T = TypeVar("T")

TIMEOUT_SECONDS = 20.0
"""Without a sign of life."""
WAITS_SECONDS = (1.0, 4.0)
"""Between tries, where the client has not tried again by itself."""
_LONGEST_WAIT_SECONDS = 60.0
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


def api() -> HfApi:
    """The Hub's client, every call of which ends; without a token where one could be overheard."""
    session = get_session()
    if session.timeout == httpx2.Timeout(None):  # what huggingface_hub sets, and means for ever
        session.timeout = httpx2.Timeout(TIMEOUT_SECONDS, read=3 * TIMEOUT_SECONDS)
    return HfApi(token=None if may_send_token() else False)


def may_send_token() -> bool:
    """Whether the Hub is reached over https, or on this machine."""
    url = urlsplit(HfApi().endpoint)
    return url.scheme == "https" or _is_loopback(url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every request."""
    return bool(is_offline_mode())


def tried(ask: Callable[[], T]) -> T:
    """What a call returns, called again after what may pass: a busy server, a broken connection."""
    for seconds in WAITS_SECONDS:
        try:
            return ask()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(_wait(error, seconds))
    return ask()


def is_transient(error: BaseException | None) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT
    is_half = isinstance(error, OSError) and "Consistency check failed" in str(error)
    return is_half or (isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.ProxyError))


def _wait(error: BaseException, seconds: float) -> float:
    """As long as the server asks for, within bounds."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), _LONGEST_WAIT_SECONDS) if asked.isdecimal() else seconds


FAILURES = (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError)
"""What a call of the client may raise."""


def explained(error: BaseException, model: HubModel) -> CheckpointError:
    """One sentence on why a model cannot be had, and the remedy."""
    name = f"`{model.repo_id}`"
    login = "for a private model, `hf auth login`"
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return explained(error.__cause__, model)
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"{name} is gated: its owner decides who may have it",
            hint=f"ask for access on {endpoint()}/{model.repo_id}, then `hf auth login`",
        )
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(
            f"{name} has no revision `{model.revision}`", hint="give a branch, a tag or a commit"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return CheckpointError(f"{name} holds no config.json, so it is no model in the Hub's format")
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointError(
            f"there is no model {name} on the Hub, or none that you may see",
            hint=f"check the name; {login}",
        )
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)):
        return CheckpointError(
            f"`{model.name}` is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub",
            hint="fetch it once with `zoo pull`, or unset HF_HUB_OFFLINE",
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return CheckpointError(
                f"the Hub refuses {name} to your token ({status})", hint="`hf auth login` takes a new one"
            )
        return CheckpointError(f"the Hub answers {status} for {name}", hint="try again later")
    if isinstance(error, httpx2.HTTPError):
        kind = type(error).__name__
        return CheckpointError(
            f"{name} cannot be had: no connection to {endpoint()} ({kind})",
            hint="check the network; HF_HUB_OFFLINE=1 uses what is in the cache",
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"{name} cannot be had: {reason}", hint=f"check the name; {login}")


def endpoint() -> str:
    """The address of the Hub, without what else it may say."""
    url = urlsplit(HfApi().endpoint)
    return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}"
