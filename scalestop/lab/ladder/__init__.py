"""A ladder of small runs: plan it, train it, fit a law to it, and forecast the big run."""

from scalestop.lab.ladder.plan import LadderPlan, plan_ladder
from scalestop.lab.ladder.rung import Rung
from scalestop.lab.ladder.settings import LadderSettings

__all__ = ["LadderPlan", "LadderSettings", "Rung", "plan_ladder"]
