"""Asking a vendor over HTTP no faster than it allows, and for no longer than we care to wait.

``TokenBucket`` spaces requests out. ``PatientPool`` sends one through it, tries again where that helps, and turns
whatever is no whole JSON answer into our errors. Neither knows which vendor it asks.
"""

from __future__ import annotations

import gzip
import json
import math
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from swiftbolt.errors import ProviderError, ProviderRefused, ProviderUnavailable, RateLimited

Json = dict[str, Any]

MINUTE_S = 60.0
ATTEMPTS = 4
BACK_OFF_S = 0.5  # before the second attempt, then twice as long each time
PATIENCE_S = 300.0  # most that one request waits between its attempts, all waits together
CHUNK = 2**16
# Answers that another attempt may mend; the rest of 4xx says that the request itself is wrong.
PASSING_STATUSES = frozenset({408, 413, 425, 499})


class TokenBucket:
    """Lets ``per_minute`` requests through in any minute, the first of them at once.

    A token comes back one minute after it was taken. (A bucket that fills steadily would let twice as many through in
    its first minute.) Below one request a minute there is one token, and it stays away for longer. Threads may share
    a bucket.

    Args:
        per_minute: None sets no limit.

    Raises:
        ValueError: ``per_minute`` is not above zero.
    """

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if per_minute is not None and not (math.isfinite(per_minute) and per_minute > 0):
            raise ValueError(f"requests per minute must be above 0, not {per_minute}")
        self._clock, self._sleep = clock, sleep
        self._tokens = 0 if per_minute is None else max(1, int(per_minute))
        self._away_s = 0.0 if per_minute is None else MINUTE_S * self._tokens / per_minute
        self._taken: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Wait for a token and take it; returns the seconds waited."""
        if not self._tokens:
            return 0.0
        with self._lock:
            now = self._clock()
            at = now if len(self._taken) < self._tokens else max(now, self._taken.popleft() + self._away_s)
            self._taken.append(at)
        if at > now:
            self._sleep(at - now)
        return at - now


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """As much of a response as a vendor's client looks at; of one that succeeded ``content`` is the JSON object.

    The client shows ``data`` in its error on a 404: none of it, for a server may echo the key.
    """

    status: int
    content: Json
    data: ClassVar[bytes] = b""


class _TryAgain(Exception):
    """An attempt failed in a way that another may mend."""

    def __init__(self, error: ProviderError, after_s: float | None = None) -> None:
        super().__init__(error, after_s)
        self.error, self.after_s = error, after_s


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PatientPool:
    """Stands in for the pool of connections of a vendor's client: bounded in time, with our errors.

    An answer of 404 is handed on, for the caller knows what was not found.

    Attributes:
        vendor: its name, as errors give it.
        hidden: the key, which no error may show.
        key_variable: where the key is set.
        timeout_s: for the connection, for silence, and for a body to be whole once it has begun.
        patience_s: most that one request waits between its attempts, all waits together.
    """

    pool: urllib3.PoolManager
    bucket: TokenBucket
    vendor: str
    hidden: str
    key_variable: str
    timeout_s: float
    patience_s: float = PATIENCE_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    def request(self, method: str, url: str, *, fields: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        """The answer to a request.

        Raises:
            ProviderRefused: the key, the plan, the address or the request itself.
            RateLimited: the vendor asks to wait for longer than our patience.
            ProviderUnavailable: no attempt brought a whole answer.
        """
        waited = 0.0
        for attempt in range(ATTEMPTS):
            self.bucket.take()
            try:
                return self._attempt(method, url, fields, headers)
            except _TryAgain as failed:
                wait = BACK_OFF_S * 2**attempt if failed.after_s is None else failed.after_s
                if attempt + 1 == ATTEMPTS or waited + wait > self.patience_s:
                    raise failed.error from failed.__cause__
                self.sleep(wait)
                waited += wait
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, method: str, url: str, fields: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        path = urlsplit(url).path
        try:
            with closing(
                self.pool.request(
                    method, url, fields=fields, headers=headers, timeout=self.timeout_s,
                    preload_content=False, retries=False, redirect=False,
                )
            ) as response:  # fmt: skip
                body = self._body(response)
        except ValueError as exc:  # an address that is none: no such thing as another attempt
            raise ProviderRefused(f"{self.vendor} cannot be asked at that address; check --base-url") from exc
        except (OSError, HTTPError, EOFError, zlib.error) as exc:
            problem = f"{self.vendor} did not answer {path} in full ({type(exc).__name__}); try again later"
            raise _TryAgain(ProviderUnavailable(problem)) from exc
        if response.status not in (200, 404):
            raise self._refusal(response.status, response.headers, path, body)
        content = _object(body)
        if response.status == 200 and content is None:
            problem = (
                f"{self.vendor}: the answer to {path} is cut short or not JSON; try again later, or check --base-url"
            )
            raise _TryAgain(ProviderUnavailable(problem))
        return Answer(status=response.status, content=content or {})

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """All of the body. A reader's time-out is for silence only; this one ends an answer that trickles."""
        deadline = self.clock() + self.timeout_s
        parts: list[bytes] = []
        # Decompressed at the end: on the way, parts that decompress to nothing would be waited for without a bound.
        while part := response.read1(CHUNK, decode_content=False):
            parts.append(part)
            if self.clock() > deadline:
                raise TimeoutError
        body = b"".join(parts)
        return gzip.decompress(body) if response.headers.get("Content-Encoding") == "gzip" else body

    def _refusal(self, status: int, headers: Mapping[str, str], path: str, body: bytes) -> Exception:
        what = f"{status}{self._said(body)}"
        after_s = _asked_to_wait(headers)
        if status == 429:
            after_s = MINUTE_S if after_s is None else after_s
            return _TryAgain(RateLimited(self.vendor, after_s), after_s)
        if status >= 500 or status in PASSING_STATUSES:
            return _TryAgain(ProviderUnavailable(f"{self.vendor} failed on {path} ({what}); try again later"), after_s)
        if status in (401, 403):
            return ProviderRefused(
                f"{self.vendor} refuses the key, or the plan is without this data ({what}); check {self.key_variable}"
            )
        return ProviderRefused(f"{self.vendor} refuses {path} ({what}); check symbols, dates and --base-url")

    def _said(self, body: bytes) -> str:
        """``: `` and the vendor's own words, where there are any."""
        content = _object(body) or {}
        words = str(content.get("message") or content.get("error") or "").replace(self.hidden, "***")
        return f": {words[:200]}" if words else ""


def _object(body: bytes) -> Json | None:
    """The JSON object that ``body`` is, or None."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the vendor asks to wait; a moment is counted from the moment it gives for its answer."""
    asked = headers.get("Retry-After", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            until, now = parsedate_to_datetime(asked), parsedate_to_datetime(headers.get("Date", ""))
        except ValueError:
            return None
        seconds = until.timestamp() - now.timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None
