"""Give a training run a compute budget: it stops at its compute-optimal point and tells you why.

Names are loaded when they are first used, so that `import scalestop` and planning never import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalestop.accounting.meter import Meter, Usage
    from scalestop.accounting.params import ParamCount, count_params
    from scalestop.accounting.tokens import TokenCount
    from scalestop.errors import InputError, ScalestopError, ScalestopWarning
    from scalestop.fitting import LawFit, backtest, fit_law
    from scalestop.fitting.tasks import TaskFit, fit_task
    from scalestop.laws import (
        DataConstrainedLaw,
        KaplanLaw,
        ParametricLaw,
        PowerLawAllocation,
        ScalingLaw,
        get_law,
        list_laws,
    )
    from scalestop.lightning import ComputeOptimalStopping, decay_to
    from scalestop.planning.allocation import Allocation, allocate, predict_loss
    from scalestop.planning.budget import Budget
    from scalestop.planning.plan import make_plan
    from scalestop.planning.planned import Plan
    from scalestop.planning.rule import StopReason, StopRule
    from scalestop.planning.speed import Speed
    from scalestop.run.adapter.tracker import RunTracker
    from scalestop.run.campaign import Campaign
    from scalestop.run.records import RunRecord
    from scalestop.run.score import score
    from scalestop.run.seal import Forecast, seal_forecast
    from scalestop.run.stopping import StopDecision, decide
    from scalestop.schedules.budget_lr import BudgetLR
    from scalestop.schedules.undecayed import undecayed_penalty

_HOME = {
    "Allocation": "planning.allocation",
    "Budget": "planning.budget",
    "BudgetLR": "schedules.budget_lr",
    "Campaign": "run.campaign",
    "ComputeOptimalStopping": "lightning",
    "DataConstrainedLaw": "laws",
    "Forecast": "run.seal",
    "InputError": "errors",
    "KaplanLaw": "laws",
    "LawFit": "fitting",
    "Meter": "accounting.meter",
    "ParamCount": "accounting.params",
    "ParametricLaw": "laws",
    "Plan": "planning.planned",
    "PowerLawAllocation": "laws",
    "RunRecord": "run.records",
    "RunTracker": "run.adapter.tracker",
    "ScalestopError": "errors",
    "ScalestopWarning": "errors",
    "ScalingLaw": "laws",
    "Speed": "planning.speed",
    "StopDecision": "run.stopping",
    "StopReason": "planning.rule",
    "StopRule": "planning.rule",
    "TaskFit": "fitting.tasks",
    "TokenCount": "accounting.tokens",
    "Usage": "accounting.meter",
    "allocate": "planning.allocation",
    "backtest": "fitting",
    "count_params": "accounting.params",
    "decay_to": "lightning",
    "decide": "run.stopping",
    "fit_law": "fitting",
    "fit_task": "fitting.tasks",
    "get_law": "laws",
    "list_laws": "laws",
    "make_plan": "planning.plan",
    "predict_loss": "planning.allocation",
    "score": "run.score",
    "seal_forecast": "run.seal",
    "undecayed_penalty": "schedules.undecayed",
}

__all__ = [
    "Allocation",
    "Budget",
    "BudgetLR",
    "Campaign",
    "ComputeOptimalStopping",
    "DataConstrainedLaw",
    "Forecast",
    "InputError",
    "KaplanLaw",
    "LawFit",
    "Meter",
    "ParamCount",
    "ParametricLaw",
    "Plan",
    "PowerLawAllocation",
    "RunRecord",
    "RunTracker",
    "ScalestopError",
    "ScalestopWarning",
    "ScalingLaw",
    "Speed",
    "StopDecision",
    "StopReason",
    "StopRule",
    "TaskFit",
    "TokenCount",
    "Usage",
    "allocate",
    "backtest",
    "count_params",
    "decay_to",
    "decide",
    "fit_law",
    "fit_task",
    "get_law",
    "list_laws",
    "make_plan",
    "predict_loss",
    "score",
    "seal_forecast",
    "undecayed_penalty",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "plot":  # a module of functions, loaded when it is asked for like any other name
        return import_module("scalestop.plot")
    if name not in _HOME:
        raise AttributeError(f"module 'scalestop' has no attribute {name!r}")
    value = getattr(import_module(f"scalestop.{_HOME[name]}"), name)
    if _HOME[name] != "lightning":  # which answers by what has been imported by then
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
