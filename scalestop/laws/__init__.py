"""Scaling laws: published, corrected, and fitted by you."""

from scalestop.laws.base import LawInfo, Optimum, ScalingLaw, ValidRange
from scalestop.laws.kaplan import KaplanLaw, critical_batch_tokens
from scalestop.laws.parametric import ParametricLaw
from scalestop.laws.power import PowerLawAllocation
from scalestop.laws.registry import DEFAULT_LAW, get_law, list_laws
from scalestop.laws.repeated import DataConstrainedLaw
from scalestop.laws.uncertainty import Uncertainty

__all__ = [
    "DEFAULT_LAW",
    "DataConstrainedLaw",
    "KaplanLaw",
    "LawInfo",
    "Optimum",
    "ParametricLaw",
    "PowerLawAllocation",
    "ScalingLaw",
    "Uncertainty",
    "ValidRange",
    "critical_batch_tokens",
    "get_law",
    "list_laws",
]
