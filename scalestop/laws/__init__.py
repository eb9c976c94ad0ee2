"""Scaling laws: published, corrected, and fitted by you."""

from scalestop.laws.base import LawInfo, Optimum, ScalingLaw
from scalestop.laws.coupled import CoupledLaw
from scalestop.laws.findings import Finding
from scalestop.laws.kaplan import KaplanLaw, critical_batch_tokens
from scalestop.laws.parametric import ParametricLaw
from scalestop.laws.power import PowerLawAllocation
from scalestop.laws.provenance import Provenance, differences
from scalestop.laws.registry import DEFAULT_LAW, get_law, list_laws
from scalestop.laws.repeated import DataConstrainedLaw
from scalestop.laws.uncertainty import Uncertainty
from scalestop.laws.valid import ValidRange

__all__ = [
    "DEFAULT_LAW",
    "CoupledLaw",
    "DataConstrainedLaw",
    "Finding",
    "KaplanLaw",
    "LawInfo",
    "Optimum",
    "ParametricLaw",
    "PowerLawAllocation",
    "Provenance",
    "ScalingLaw",
    "Uncertainty",
    "ValidRange",
    "critical_batch_tokens",
    "differences",
    "get_law",
    "list_laws",
]
