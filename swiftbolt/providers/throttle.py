"""Asking a vendor over HTTP no faster than it allows, and for no longer than we care to wait.

``TokenBucket`` spaces requests out. ``PatientPool`` sends one through it, tries again where that helps, and turns
whatever is no whole JSON answer into our errors. Neither knows which vendor it asks.
"""

from __future__ import annotations

import gzip
import math
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from swiftbolt.errors import ProviderRefused
from swiftbolt.providers.patience import (
    MINUTE_S,
    Json,
    json_object,
    no_answer,
    no_json,
    patiently,
    refusal,
    words_of,
)

PATIENCE_S = 300.0  # most that one request waits between its attempts, all waits together
CHUNK = 2**16


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
        return patiently(lambda: self._attempt(method, url, fields, headers), self.patience_s, self.sleep)

    def _attempt(self, method: str, url: str, fields: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        self.bucket.take()
        host, path = urlsplit(url).netloc, urlsplit(url).path
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
            raise no_answer(f"{self.vendor} at {host}", path, exc) from exc
        if response.status not in (200, 404):
            said = words_of(body, [self.hidden])
            raise refusal(self.vendor, response.status, response.headers, path, said, [self.key_variable])
        content = json_object(body)
        if response.status == 200 and content is None:
            raise no_json(self.vendor, path)
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
