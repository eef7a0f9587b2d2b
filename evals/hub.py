"""The Hub, asked once whether it is there: without a network only what is cached is read, at once.

huggingface_hub tries six times in 23 s for each file that is not cached, and says so each time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS = 10.0


@contextmanager
def hub_or_cache(*, needed: bool = True) -> Iterator[None]:
    """Within, the Hub's libraries are offline if it cannot be reached; asks only where needed."""
    from huggingface_hub import constants, get_session

    before = constants.HF_HUB_OFFLINE
    try:
        if needed and not before:
            get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # noqa: BLE001  its HTTP library has changed twice, with its errors
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
