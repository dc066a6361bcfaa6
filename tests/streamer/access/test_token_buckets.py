"""Tests of streamer/access/token_buckets.py: what a sender may spend at once, and how fast it may go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.access.token_buckets import Bucket, Buckets


class TestBucket:
    """The bucket that may be overdrawn."""

    def test_a_debt_is_waited_for(self) -> None:
        """The wait grows with what was spent, and shrinks with time."""
        bucket = Bucket(rate=2.0, burst=4.0)

        assert bucket.spend(4.0, 0.0) == 0.0
        assert bucket.spend(3.0, 0.0) == 1.5
        assert bucket.spend(0.0, 1.0) == 0.5
        assert bucket.left(100.0) == 4.0

    @given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 20)), max_size=50))
    def test_a_sender_that_waits_spends_no_more_than_burst_and_rate(self, steps: list[tuple[float, float]]) -> None:
        """However much it spends at once, and whenever it goes on."""
        bucket, now_s, spent = Bucket(rate=3.0, burst=5.0), 0.0, 0.0
        for pause_s, cost in steps:
            now_s += pause_s
            spent += cost
            now_s += bucket.spend(cost, now_s)
            assert spent <= 5.0 + 3.0 * now_s + 1e-6

    def test_a_token_is_taken_only_where_there_is_one(self) -> None:
        """A burst, then the rate; the wait that is returned is the right one."""
        bucket = Bucket(rate=2.0, burst=3.0)

        assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
        assert bucket.take(0.25) == 0.25
        assert bucket.take(0.5) == 0.0

    @given(st.lists(st.floats(0, 100), max_size=200))
    def test_no_stretch_of_time_sees_more_tokens_than_burst_and_rate(self, times: list[float]) -> None:
        """Over any stretch: burst + rate * seconds at most."""
        bucket = Bucket(rate=3.0, burst=5.0)
        allowed = [at for at in sorted(times) if not bucket.take(at)]
        for first, start in enumerate(allowed):
            for last, stop in enumerate(allowed[first:], first):
                assert last - first + 1 <= 5.0 + 3.0 * (stop - start) + 1e-6


class TestBuckets:
    """A bucket for each caller."""

    def test_callers_do_not_share_a_bucket(self) -> None:
        """One who floods costs another nothing."""
        buckets = Buckets(rate=1.0, burst=1.0)
        assert buckets.of("a").take(0.0) == 0.0
        assert buckets.of("a").take(0.0) > 0
        assert buckets.of("b").take(0.0) == 0.0

    def test_no_more_callers_are_remembered_than_allowed(self) -> None:
        """The caller who was asked for longest ago is forgotten, and starts with a full bucket."""
        buckets = Buckets(rate=1.0, burst=1.0, max_callers=2)
        for caller in "abc":
            assert buckets.of(caller).take(0.0) == 0.0
        assert buckets.of("c").take(0.0) > 0
        assert buckets.of("b").take(0.0) > 0
        assert buckets.of("a").take(0.0) == 0.0
