"""The token bucket and the patience of a request, on a clock that moves only when somebody sleeps."""

from __future__ import annotations

import io
import threading

import pytest
import urllib3
from urllib3.exceptions import NewConnectionError

from swiftbolt.errors import ProviderRefused, ProviderUnavailable, RateLimited
from swiftbolt.providers.throttle import PatientPool, TokenBucket

DATE = "Fri, 01 Mar 2013 12:00:00 GMT"
LATER = "Fri, 01 Mar 2013 12:00:07 GMT"


class VirtualTime:
    """A clock that stands still between sleeps; what was slept is written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def virtual() -> VirtualTime:
    return VirtualTime()


def bucket_of(virtual: VirtualTime, per_minute: float | None) -> TokenBucket:
    return TokenBucket(per_minute, clock=virtual.clock, sleep=virtual.sleep)


# The bucket.


def test_the_first_requests_pass_at_once_and_the_next_waits_until_the_first_is_a_minute_old(virtual):
    bucket = bucket_of(virtual, 5)
    assert [bucket.take() for _ in range(6)] == [0, 0, 0, 0, 0, 60]
    assert virtual.slept == [60]


def test_no_minute_sees_more_requests_than_allowed(virtual):
    bucket = bucket_of(virtual, 5)
    passed = []
    for pause in [0, 10, 1, 30, 5, 0, 0, 0, 40, 3, 0, 90, 0, 0, 0, 0, 0, 0]:
        virtual.now += pause
        bucket.take()
        passed.append(virtual.now)
    assert max(sum(at <= other < at + 60 for other in passed) for at in passed) == 5


def test_a_token_that_was_never_used_is_not_saved_up_beyond_the_bucket(virtual):
    bucket = bucket_of(virtual, 2)
    virtual.now += 3600
    assert [bucket.take() for _ in range(3)] == [0, 0, 60]


@pytest.mark.parametrize(
    ("per_minute", "requests", "seconds"), [(0.5, 2, 120), (7.5, 8, 56), (1, 3, 120), (300, 301, 60)]
)
def test_a_fraction_of_a_request_a_minute_keeps_its_rate(virtual, per_minute, requests, seconds):
    bucket = bucket_of(virtual, per_minute)
    for _ in range(requests):
        bucket.take()
    assert virtual.now - 1000 == pytest.approx(seconds)


def test_without_a_limit_nothing_waits(virtual):
    bucket = bucket_of(virtual, None)
    assert sum(bucket.take() for _ in range(10_000)) == 0
    assert virtual.slept == []


@pytest.mark.parametrize("per_minute", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(per_minute):
    with pytest.raises(ValueError, match="must be above 0"):
        TokenBucket(per_minute)


def test_threads_that_share_a_bucket_are_each_given_a_moment_of_their_own():
    waits: list[float] = []
    bucket = TokenBucket(1, clock=lambda: 0.0, sleep=waits.append)
    threads = [threading.Thread(target=bucket.take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [60 * (position + 1) for position in range(7)]


# Patience.


class ScriptedPool(urllib3.PoolManager):
    """Answers from a list: a status with headers, or an error to raise. Everything else is urllib3's own."""

    def __init__(self, *script: tuple[int, dict[str, str]] | Exception) -> None:
        super().__init__()
        self.script = list(script)

    def urlopen(self, method, url, redirect=True, **options):
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        status, headers = step
        body = b'{"ok": true}' if status == 200 else b'{"error": "no: s3cret"}'
        return urllib3.HTTPResponse(body=io.BytesIO(body), status=status, headers=headers, preload_content=False)


def ask(virtual: VirtualTime, *script: tuple[int, dict[str, str]] | Exception, per_minute: float | None = None):
    pool = PatientPool(
        pool=ScriptedPool(*script),
        bucket=bucket_of(virtual, per_minute),
        vendor="polygon",
        hidden="s3cret",
        key_variable="POLYGON_API_KEY",
        timeout_s=1,
        patience_s=200,
        clock=virtual.clock,
        sleep=virtual.sleep,
    )
    return pool.request("GET", "http://vendor.example/path?x=1", fields=None, headers={})


OK = (200, {})


@pytest.mark.parametrize(
    ("script", "slept"),
    [
        ([(500, {}), (502, {}), (503, {}), OK], [0.5, 1, 2]),
        ([(429, {"Retry-After": "7"}), OK], [7]),
        ([(429, {"Retry-After": "0"}), OK], [0]),
        ([(429, {"Retry-After": "-3"}), OK], [0]),
        ([(429, {"Retry-After": LATER, "Date": DATE}), OK], [7]),
        ([(429, {"Retry-After": DATE, "Date": LATER}), OK], [0]),
        ([(429, {"Retry-After": LATER}), OK], [60]),
        ([(429, {"Retry-After": "soon"}), OK], [60]),
        ([(429, {"Retry-After": "nan"}), OK], [60]),
        ([(429, {"Retry-After": "inf"}), OK], [60]),
        ([(429, {}), (429, {}), (429, {}), OK], [60, 60, 60]),
        ([(503, {"Retry-After": "30"}), OK], [30]),
        ([(408, {}), OK], [0.5]),
        ([NewConnectionError(None, "refused"), OK], [0.5]),
    ],
)
def test_what_another_attempt_may_mend_is_tried_again_after_the_wait_that_is_asked_for(virtual, script, slept):
    assert ask(virtual, *script).content == {"ok": True}
    assert virtual.slept == slept


def test_each_attempt_takes_a_token(virtual):
    ask(virtual, (500, {}), OK, per_minute=1)
    assert virtual.slept == [0.5, 59.5]


def test_four_attempts_are_made_and_no_more(virtual):
    with pytest.raises(ProviderUnavailable, match=r"^polygon failed on /path \(500: no: \*\*\*\); try again later$"):
        ask(virtual, *[(500, {})] * 4)
    assert virtual.slept == [0.5, 1, 2]


@pytest.mark.parametrize(("waits", "slept"), [(["201"], []), (["150", "51"], [150])])
def test_a_wait_beyond_our_patience_is_told_and_not_begun(virtual, waits, slept):
    with pytest.raises(RateLimited, match="polygon: rate limit reached") as caught:
        ask(virtual, *[(429, {"Retry-After": wait}) for wait in waits])
    assert caught.value.retry_after_s == float(waits[-1])
    assert virtual.slept == slept


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "polygon refuses the key, or the plan is without this data (401: no: ***); check POLYGON_API_KEY"),
        (403, "polygon refuses the key, or the plan is without this data (403: no: ***); check POLYGON_API_KEY"),
        (400, "polygon refuses /path (400: no: ***); check symbols, dates and --base-url"),
        (301, "polygon refuses /path (301: no: ***); check symbols, dates and --base-url"),
    ],
)
def test_a_refusal_is_final_and_never_shows_the_key(virtual, status, sentence):
    with pytest.raises(ProviderRefused) as caught:
        ask(virtual, (status, {}))
    assert str(caught.value) == sentence
    assert virtual.slept == []


def test_a_missing_page_is_handed_on_to_the_caller(virtual):
    assert ask(virtual, (404, {})).status == 404
