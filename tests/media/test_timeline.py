"""Frames get times that always rise, whatever the stamps say."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.media.timeline import StreamTiming, Timeline

TICKS = 90_000
FPS = 25
STEP = TICKS // FPS


def camera() -> Timeline:
    timeline = Timeline(live=True)
    timeline.begin(StreamTiming((1, TICKS)))
    return timeline


def shown(timeline, stamps, arrived=None, timing=None) -> list[tuple[float, bool]]:
    """Times and cuts of frames whose packets have these (pts, dts), without reordering."""
    if timing:
        timeline.begin(timing)
    found = []
    for n, (pts, dts) in enumerate(stamps):
        at = arrived[n] if arrived else n / FPS
        found.append(timeline.frame(timeline.admit(pts, dts, at)))
    return found


def of_file(stamps, **timing) -> tuple[list[float], list[int]]:
    """Times of a file's frames, and the indices of its cuts."""
    found = shown(Timeline(live=False), stamps, timing=StreamTiming((1, TICKS), 1 / FPS, **timing))
    times = [time_s for time_s, _ in found]
    assert all(b > a for a, b in pairwise(times)), times
    return times, [n for n, (_, cut) in enumerate(found) if cut]


def steady(count, start=0, missing=()):
    return [
        (None if n in missing else start + n * STEP, start + n * STEP - 2 * STEP)
        for n in range(count)
    ]


# ---------------------------------------------------------------- cameras: a clock


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-(10**11), 10**11), st.floats(0, 10)),
        min_size=2,
        max_size=60,
    ),
    st.sets(st.integers(0, 59)),
)
def test_a_cameras_time_never_goes_back_whatever_the_stamps_say(frames, restarts):
    timeline, arrived, times = camera(), 0.0, []
    for n, (pts, waited) in enumerate(frames):
        arrived += waited
        if n in restarts:
            timeline.begin(StreamTiming((1, TICKS)))
        before = times[-1] if times else 0.0
        time_s, cut = timeline.frame(timeline.admit(pts, None, arrived))
        assert not (cut and n == 0)
        assert time_s - before <= max(waited, Timeline.MIN_STEP_S) + Timeline.JUMP_S + 1e-6
        times.append(time_s)
    assert all(b > a for a, b in pairwise(times))


def test_a_cameras_stamps_are_followed_while_they_make_sense():
    stamps = [(100 * TICKS + n * STEP, None) for n in range(50)]
    found = shown(camera(), stamps, [7 + n / FPS + (n % 3) / 50 for n in range(50)])
    assert [t for t, _ in found] == [pytest.approx(n / FPS) for n in range(50)]
    assert not any(cut for _, cut in found)


@pytest.mark.parametrize("jump_s", [-50.0, -0.5, 5.0, 1e6])
def test_a_cameras_jump_is_a_cut_and_bridged_by_the_clock_of_arrival(jump_s):
    stamps = [(100 * TICKS + n * STEP + round(jump_s * TICKS) * (n > 0), None) for n in range(3)]
    found = shown(camera(), stamps, [7.0, 7.05, 7.10])
    assert found[1] == (pytest.approx(0.05), True)
    assert found[2] == (pytest.approx(0.09), False)


# ---------------------------------------------------------------- files: no clock


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(10**11), 10**11), st.none() | st.integers(-(10**11), 10**11)
        ),
        min_size=1,
        max_size=60,
    )
)
def test_a_files_time_rises_whatever_the_stamps_say(stamps):
    of_file(stamps)


def test_a_files_time_is_its_stamps_from_where_players_start_the_clock():
    times, cuts = of_file(steady(5, start=10 * TICKS), start_s=9.5)
    assert times == [pytest.approx(0.5 + n / FPS) for n in range(5)] and not cuts


@pytest.mark.parametrize("bits", [33, 32])
def test_a_counter_that_wraps_goes_on(bits):
    full = 1 << bits
    stamps = [(pts % full, dts % full) for pts, dts in steady(20, start=full - 10 * STEP)]
    times, cuts = of_file(stamps)
    assert times == [pytest.approx(n / FPS) for n in range(20)] and not cuts


@pytest.mark.parametrize("start", [0, 10 * TICKS + 4 * STEP, -50 * TICKS, 1 << 34])
def test_joined_recordings_go_on_by_one_frame_and_the_join_is_a_cut(start):
    times, cuts = of_file([*steady(10, start=10 * TICKS), *steady(10, start=start)], jump_s=10.0)
    assert times == [pytest.approx(n / FPS) for n in range(20)]
    assert cuts == [10]


def test_a_long_pause_is_no_cut_where_the_format_has_no_joins():
    times, cuts = of_file([*steady(3), *steady(3, start=60 * TICKS)])
    assert times[3] == pytest.approx(60) and not cuts


def test_missing_stamps_are_filled_in():
    times, cuts = of_file(steady(20, missing={3, 4, 11}))
    assert times == [pytest.approx(n / FPS) for n in range(20)] and not cuts


def test_a_repeated_stamp_is_shown_between_its_neighbours():
    stamps = [(n * STEP, n * STEP) for n in (0, 1, 1, 3, 4)]
    times, _ = of_file(stamps)
    assert times == [pytest.approx(n / FPS) for n in (0, 1, 1.5, 3, 4)]


def test_one_absurd_stamp_moves_nothing_else():
    stamps = steady(10)
    stamps[4] = (10**12, stamps[4][1])
    times, _ = of_file(stamps, jump_s=10.0)
    assert times == [pytest.approx(n / FPS) for n in range(10)]


def test_presentation_times_in_decoding_order_are_replaced_by_decoding_times():
    timeline = Timeline(live=False)
    timeline.begin(StreamTiming((1, TICKS), 1 / FPS))
    order = [0, *(n for group in range(10) for n in (3 * group + i for i in (3, 1, 2)))]
    stamps = {shown: timeline.admit(n * STEP, n * STEP, 0.0) for n, shown in enumerate(order)}
    times = [timeline.frame(stamps[n])[0] for n in range(len(order))]
    assert all(b > a for a, b in pairwise(times))
    assert all(b - a == pytest.approx(1 / FPS) for a, b in pairwise(times[8:]))
    assert not timeline.trusted


def test_a_rate_times_frames_without_stamps():
    timing = StreamTiming((1, TICKS), 1 / 15, origin="bitstream")
    found = shown(Timeline(live=False), [(None, None)] * 30, timing=timing)
    assert found == [(pytest.approx(n / 15), False) for n in range(30)]


def test_what_will_be_shown_is_predicted_only_while_stamps_can_be_trusted():
    timeline = Timeline(live=False)
    timeline.begin(StreamTiming((1, TICKS), 1 / FPS, start_s=0.0))
    first = timeline.admit(0, 0, 0.0)
    assert timeline.predict(first) is None
    timeline.frame(first)
    assert timeline.predict(timeline.admit(STEP, STEP, 0.0)) == pytest.approx(1 / FPS)
    assert timeline.predict(timeline.admit(0, -20 * STEP, 0.0)) is None, "another recording"


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("declared", [False, True])
def test_decoding_times_alone_give_presentation_times(delay, declared):
    """As in AVI: gaps fall to the frames that they belong to, not to those decoded then."""
    shown = [n + 3 * (n // 5) for n in range(19)]  # ticks; each fifth frame lasts longer
    order = [
        0,
        *(n for i in range(1, 19, 3) for n in ((i + 2, i, i + 1) if delay else range(i, i + 3))),
    ]
    dts = [shown[n - delay] if n >= delay else shown[0] + n - delay for n in range(len(order))]
    timeline = Timeline(live=False)
    known = delay if declared else 0
    timeline.begin(StreamTiming((1, FPS), 1 / FPS, by_dts=True, delay=known))
    stamps = {
        number: timeline.admit(None, one, 0.0) for number, one in zip(order, dts, strict=True)
    }
    times = [timeline.frame(stamps[n])[0] * FPS for n in range(len(order))]
    if delay == 2 and not declared:
        return  # the times are one frame late, and nothing in the stream tells
    sure = len(order) - delay
    assert times[:sure] == [pytest.approx(one) for one in shown[:sure]]
    assert all(b > a for a, b in pairwise(times))
