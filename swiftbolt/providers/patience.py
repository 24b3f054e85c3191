"""How long we try to get an answer out of a vendor, and what its refusals mean in our errors.

What every vendor's HTTP has in common; the clients they come with differ. Knows neither a vendor nor a client.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from swiftbolt.errors import ProviderError, ProviderRefused, ProviderUnavailable, RateLimited

Json = dict[str, Any]
Got = TypeVar("Got")

MINUTE_S = 60.0  # vendors count requests by the minute
ATTEMPTS = 4
BACK_OFF_S = 0.5  # before the second attempt, then twice as long each time
# Answers that another attempt may mend; the rest of 4xx says that the request itself is wrong.
PASSING_STATUSES = frozenset({408, 413, 425, 499})


class TryAgain(Exception):
    """An attempt failed in a way that another may mend."""

    def __init__(self, error: ProviderError, after_s: float | None = None) -> None:
        super().__init__(error, after_s)
        self.error, self.after_s = error, after_s


def patiently(attempt: Callable[[], Got], patience_s: float, sleep: Callable[[float], object]) -> Got:
    """What ``attempt`` returns, in at most ``ATTEMPTS`` attempts with at most ``patience_s`` of waiting between them.

    Raises:
        ProviderError: that of the last attempt.
    """
    count, waited = 1, 0.0
    while True:
        try:
            return attempt()
        except TryAgain as failed:
            wait = BACK_OFF_S * 2 ** (count - 1) if failed.after_s is None else failed.after_s
            if count == ATTEMPTS or waited + wait > patience_s:
                raise failed.error from failed.__cause__
        sleep(wait)
        count, waited = count + 1, waited + wait


def refusal(
    vendor: str, status: int, headers: Mapping[str, str], path: str, said: str, key_variables: Sequence[str]
) -> Exception:
    """The error that an answer without success stands for, as a ``TryAgain`` where another attempt may mend it."""
    what, after_s = f"{status}{said}", asked_to_wait(headers)
    if status == 429:
        after_s = MINUTE_S if after_s is None else after_s
        return TryAgain(RateLimited(vendor, after_s), after_s)
    if status >= 500 or status in PASSING_STATUSES:
        return TryAgain(ProviderUnavailable(f"{vendor} failed on {path} ({what}); try again later"), after_s)
    if status in (401, 403):
        return ProviderRefused(
            f"{vendor} refuses the key, or the plan is without this data ({what}); check {' and '.join(key_variables)}"
        )
    return ProviderRefused(f"{vendor} refuses {path} ({what}); check symbols, dates and --base-url")


def no_answer(vendor: str, path: str, cause: Exception) -> TryAgain:
    """The connection failed, or the body was not whole in time."""
    problem = (
        f"{vendor} did not answer {path} in full ({type(cause).__name__}); try again later, or check --base-url;"
        " what had come is kept"
    )
    return TryAgain(ProviderUnavailable(problem))


def no_json(vendor: str, path: str) -> TryAgain:
    """The body came, and is nothing to read."""
    problem = f"{vendor}: the answer to {path} is cut short or not JSON; try again later, or check --base-url"
    return TryAgain(ProviderUnavailable(problem))


def words_of(body: bytes, hidden: Iterable[str]) -> str:
    """``: `` and the vendor's own words in an answer without success, where there are any, without the keys."""
    content = json_object(body) or {}
    words = str(content.get("message") or content.get("error") or "")
    for secret in hidden:
        words = words.replace(secret, "***")
    return f": {words[:200]}" if words else ""


def json_object(body: bytes) -> Json | None:
    """The JSON object that ``body`` is, or None."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the vendor asks to wait; a moment is counted from the moment it gives for its answer."""
    asked = headers.get("Retry-After") or ""
    try:
        seconds = float(asked)
    except ValueError:
        try:
            until = parsedate_to_datetime(asked).timestamp() if asked else float(headers["X-RateLimit-Reset"])
            seconds = until - parsedate_to_datetime(headers["Date"]).timestamp()
        except (ValueError, KeyError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
