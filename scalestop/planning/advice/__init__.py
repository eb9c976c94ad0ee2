"""Advice: the questions that people bring to scaling laws, each one a pure function that returns a frozen answer.

Every answer carries a `Basis` (which law, what its N counts, how far outside its runs the question lies), intervals
where the law knows its uncertainty, `to_dict()` for scripts, and a readable `str`.
"""

from scalestop.planning.advice.batch import advise_batch, step_law
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.checks import checklist
from scalestop.planning.advice.deadline import by_deadline
from scalestop.planning.advice.gains import least_for_loss, what_next
from scalestop.planning.advice.recommend import hold_against, recommend
from scalestop.planning.advice.regime import appraise, compare
from scalestop.planning.advice.serving import explain_demand, serve, serve_within
from scalestop.planning.advice.shapes import shape_spread, shapes_near
from scalestop.planning.advice.unique import data_wall, repeating
from scalestop.planning.advice.valleys import side_by_side, valley

__all__ = [
    "advise_batch",
    "appraise",
    "bill",
    "by_deadline",
    "checklist",
    "compare",
    "data_wall",
    "explain_demand",
    "hold_against",
    "least_for_loss",
    "recommend",
    "repeating",
    "serve",
    "serve_within",
    "shape_spread",
    "shapes_near",
    "side_by_side",
    "step_law",
    "valley",
    "what_next",
]
