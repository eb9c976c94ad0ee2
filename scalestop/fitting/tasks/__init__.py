"""Tasks: from model size and tokens to what a metric will read, by way of the loss on its answers."""

from scalestop.fitting.tasks.answers import Reach, TaskForecast
from scalestop.fitting.tasks.fit_task import fit_task
from scalestop.fitting.tasks.gates import GateForecast, when_open
from scalestop.fitting.tasks.task_fit import TaskFit

__all__ = ["GateForecast", "Reach", "TaskFit", "TaskForecast", "fit_task", "when_open"]
