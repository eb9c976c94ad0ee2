"""What the fuzz tests share: values nobody expects, and ways to spoil what is right."""

from __future__ import annotations

import copy

from hypothesis import strategies as st

HUGE = (10**400, -(10**400), 2**63, 2**70, -1, 0, 10**18)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(HUGE),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["", "x", "1", "1e5", "nan", "inf", "total", "body", "../x", "a/b", "\0", "\ud800", "9" * 400]),
    st.text(max_size=6),
    st.binary(max_size=4),
)
"""Plain values of every kind, those included that JSON does not have."""

odd = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.text(max_size=3) | st.integers(0, 2), scalars, max_size=2),
    st.lists(st.lists(scalars, max_size=2), max_size=2),
    st.tuples(scalars, scalars),
)
"""Values of every kind, nested a little."""

NUMBERS = [
    "1",
    "0",
    "-1",
    "1e18",
    "1e400",
    "1e-400",
    ".5",
    "5.",
    "1_000",
    "1,000",
    "nan",
    "inf",
    "9" * 50,
    "1e9999999999",
]
UNITS = [
    *(
        "",
        "FLOPs",
        "flop",
        "EFLOPs",
        "PF-days",
        "pf-day",
        "exaflops",
        "tokens",
        "B tokens",
        "Ktok",
        "GPU-hours",
        "h",
        "d",
    ),
    *(
        "USD",
        "k USD",
        "FLOP/s",
        "TFLOPS",
        "GPU-parsecs",
        "B",
        "%",
        "years",
        "petaflop/s-days",
        "tokens or 1h",
        " or ",
        "min",
    ),
]
amounts = st.one_of(
    st.text(max_size=12),
    st.builds(
        lambda sign, number, space, unit, end: sign + number + space + unit + end,
        st.sampled_from(["", "", "$", "+", "-", " "]),
        st.sampled_from(NUMBERS),
        st.sampled_from(["", " ", "  ", "-"]),
        st.sampled_from(UNITS),
        st.sampled_from(["", "", "", " or 1h", " and 2", "\n", "٣", "²"]),
    ),
)
"""Texts that look like amounts, and texts that do not."""


@st.composite
def spoiled(draw, whole):
    """A nested structure of dicts and lists with one to three of its places changed, dropped or added to."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        place = data
        while True:  # walk down to some place
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            what = draw(st.integers(0, 5))
            if what == 0:
                del place[key]
            elif what == 1 and isinstance(place, dict):
                place[draw(st.text(max_size=4) | st.integers(0, 3))] = draw(odd)
            else:
                place[key] = draw(odd)
            break
    return data
