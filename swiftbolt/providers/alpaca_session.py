"""The session inside Alpaca's client: its own knows no time-out, and tries again on few errors and without end.

Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError

from swiftbolt.errors import ProviderRefused, UnknownSymbol
from swiftbolt.providers.patience import Json, no_answer, no_json, patiently, refusal, words_of

KEY_VARIABLES = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")


@dataclass(frozen=True, slots=True)
class Answer:
    """As much of a response as the client looks at, of one that arrived whole."""

    payload: object
    text: ClassVar[str] = "not empty"

    def raise_for_status(self) -> None:
        """Nothing to raise: what is no answer was raised before."""

    def json(self) -> object:
        return self.payload


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PatientSession:
    """Stands in for the client's session: bounded in time, trying again where that helps, with our errors.

    Attributes:
        hidden: what no error may show.
    """

    session: Any
    hidden: tuple[str, ...]
    timeout_s: float
    patience_s: float
    sleep: Callable[[float], object]

    def request(self, method: str, url: str, **options: Any) -> Answer:
        """The answer to a request.

        Raises:
            ProviderRefused: the key, the plan or the request itself.
            RateLimited: the vendor asks to wait for longer than our patience.
            ProviderUnavailable: no attempt brought a whole answer.
        """
        return patiently(lambda: self._attempt(method, url, options), self.patience_s, self.sleep)

    def _attempt(self, method: str, url: str, options: Json) -> Answer:
        host, path = urlsplit(url).netloc.rpartition("@")[2], urlsplit(url).path
        try:
            with closing(self.session.request(method, url, timeout=self.timeout_s, stream=True, **options)) as response:
                body = self._body(response.raw)
        except ValueError as exc:  # an address that is none; no such thing as another attempt
            raise ProviderRefused(f"alpaca cannot be asked at {host or url!r}; check --base-url") from exc
        except (OSError, HTTPError) as exc:
            raise no_answer(f"alpaca at {host}", path, exc) from exc
        if response.status_code != 200:
            said = words_of(body, self.hidden)
            if "invalid symbol" in said:
                raise UnknownSymbol(f"alpaca does not know a symbol ({response.status_code}{said}); check its spelling")
            raise refusal("alpaca", response.status_code, response.headers, path, said, KEY_VARIABLES)
        try:
            return Answer(json.loads(body))
        except ValueError as exc:
            raise no_json("alpaca", path) from exc

    def _body(self, raw: Any) -> bytes:
        """All of the body. A reader's time-out is for silence only; this one ends an answer that trickles."""
        deadline = time.monotonic() + self.timeout_s
        parts: list[bytes] = []
        while part := raw.read1(2**16, decode_content=True):
            parts.append(part)
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)
