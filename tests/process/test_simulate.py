"""The simulator's own arithmetic: what counts as the cards' time, and that its thresholds can be missed."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "simulate"))
import measure  # noqa: E402
import scenarios  # noqa: E402
import shapes  # noqa: E402
import verdict  # noqa: E402
from corpus import tokens  # noqa: E402
from talk import Answer, merge_call  # noqa: E402


def asked(at, ms, first=None, late=0.0):
    return {"clock_ms": at, "ms": ms, **({"first_ms": first, "late_ms": late} if first is not None else {})}


def test_covered():
    assert measure.covered([(0, 10), (5, 12), (20, 30)], 8, 25) == 9
    assert measure.covered([], 0, 10) == 0 and measure.covered([(0, 10)], 10, 20) == 0


def test_cards_time_is_scaled_and_work_is_not():
    # 2 ms on the way, 100 ms until the first token, 1 ms back; the answer goes on for long.
    answer = Answer(sent_ms=1000, first_ms=1103, end_ms=1500, work_ms=5)
    main = [asked(1002, 400, first=100)]
    assert measure.wait_s(answer, {"main": main}, 40) == (pytest.approx(100 * 40 / 1000 + 0.003), pytest.approx(3))
    # A machine too busy to say it in time does not make the card slower.
    late = [asked(1002, 400, first=100, late=30.0)]
    assert measure.wait_s(answer, {"main": late}, 40)[0] == pytest.approx(70 * 40 / 1000 + 0.033)
    # Nobody worked: a timer, which is as long for a real card.
    timer = Answer(sent_ms=1000, first_ms=1151, end_ms=1500, work_ms=0)
    assert measure.wait_s(timer, {"main": [asked(1050, 400, first=100)]}, 40)[0] == pytest.approx((100 + 50) * 40 / 1000 + 0.001)
    # The small card's notes before it count as they lie, side by side once.
    notes = Answer(sent_ms=1000, first_ms=1200, end_ms=1500, work_ms=50)
    small = [asked(1000, 80, first=80), asked(1000, 90, first=90)]
    assert measure.wait_s(notes, {"main": [asked(1100, 300, first=100)], "small": small}, 40) == (
        pytest.approx((190 * 40 + 10) / 1000), pytest.approx(10))


def test_merged_calls_and_overflows():
    calls = []
    merge_call(calls, {"index": 0, "id": "a", "function": {"name": "read", "arguments": ""}})
    merge_call(calls, {"index": 0, "function": {"arguments": '{"x":'}})
    merge_call(calls, {"index": 0, "function": {"arguments": "1}"}})
    assert calls == [{"id": "a", "type": "function", "function": {"name": "read", "arguments": '{"x":1}'}}]
    assert Answer(status=400, error='{"error":{"type":"exceed_context_size_error"}}').overflow
    assert not Answer(status=500, error="out of memory").overflow and not Answer(status=200, text="a context").overflow


def test_shapes_are_the_recorded_ones():
    steps = shapes.session(7, 8000, 300).steps
    sizes = sorted(tokens(s.text + s.args + s.result) for s in steps)
    assert 420 < sizes[150] < 560 and 1200 < sizes[270] < 1900
    assert shapes.session(7, 8000, 3) == shapes.session(7, 8000, 3)
    for size in scenarios.ONE_SHOT_SIZES:
        assert tokens(shapes.one_shot(7, size)[1]) == pytest.approx(size, rel=0.02)


def figures(total, p95=1.0, **more):
    return {"sum_s": total, "p95_s": p95, "unanswered": 0, "overflows": 0, "summaries": 0, "problems": [], "cut_short": False, "calls": [],
            "cached": 0.9, **more}


def test_thresholds_can_be_missed():
    seen = lambda results: {name: ok for name, _, ok in verdict.verdict(results)}
    good = {"fits-8k": {"direct": [figures(100)] * 3, "adaptive": [figures(t) for t in (90, 102.9, 140)]}}
    assert seen(good) == {"fits-8k: total wait": True, "fits-8k: p95": True}
    bad = {"fits-8k": {"direct": [figures(100)] * 3, "adaptive": [figures(t) for t in (90, 103.1, 140)]}}
    assert seen(bad)["fits-8k: total wait"] is False
    assert seen({"fits-8k": {"direct": [figures(100)]}})["fits-8k: total wait"] is None
    # An arm that lost calls is not compared with, and loses as the arm that is judged.
    lost = {"long-16k": {"direct": [figures(1, unanswered=100, overflows=1)], "compact": [figures(400, 20, calls=[{"wait_s": w, "summary": w > 9, "size": None} for w in (1, 99)])],
                         "adaptive": [figures(100, 1.5)]}, "fits-8k": good["fits-8k"]}
    assert all(ok for name, ok in seen(lost).items() if name.startswith("long"))
    assert "200.0 x if all" in next(what for name, what, _ in verdict.verdict(lost) if "summaries" in name)
    lost["long-16k"]["adaptive"] = [figures(101, 1.6, overflows=1)]
    assert [ok for name, ok in seen(lost).items() if name.startswith("long")] == [False, False, False, True, True]
    beside = lambda p95: {"beside": {scenarios.ALONE: [figures(10)], scenarios.NO_LANE: [figures(10, 1.2)],
                                     "adaptive": [figures(10, p95, beside=120, beside_main=3)]}}
    assert [c[1:] for c in verdict.verdict(beside(1.05))] == [("1.05 x the same session alone (at most 1.05; 1.20 x without a lane); 3 of 120 small "
                                                               "requests went to the main card", True)]
    assert [ok for _, _, ok in verdict.verdict(beside(1.06))] == [False]
    assert [ok for _, _, ok in verdict.verdict({"beside": {"adaptive": [figures(10)]}})] == [None]
    shots = lambda *waits: [figures(sum(waits), calls=[{"size": s, "wait_s": w} for s, w in zip((11000, 32000), waits)])]
    assert [ok for name, ok in seen({"shots": {"direct": shots(10, 40), "adaptive": shots(5, 12)}}).items() if "cold" in name] == [True, False]
    assert not all(ok for _, _, ok in verdict.sound({"fits-8k": {"direct": [figures(1, problems=["500"])]}}))
