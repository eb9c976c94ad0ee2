"""The published laws, each with its table or equation, its range, and what is known to be off."""

from __future__ import annotations

import math
from typing import Any

from scalestop.laws.base import LawInfo, ScalingLaw
from scalestop.laws.kaplan import KaplanLaw
from scalestop.laws.parametric import ParametricLaw
from scalestop.laws.power import PowerLawAllocation
from scalestop.laws.published_draws import exponent_uncertainty, refit_uncertainty
from scalestop.laws.repeated import DataConstrainedLaw
from scalestop.laws.valid import ValidRange

_HOFFMANN_RUNS = "MassiveText, over 400 runs of 44M-16B parameters (Hoffmann et al. 2022)"
# sizes of table A9, tokens of the abstract, budgets of the IsoFLOP profiles (figure 3)
_HOFFMANN_RANGE = ValidRange(num_params=(4.4e7, 1.61e10), num_tokens=(5e9, 5e11), flops=(6e18, 3e21))
# the 240 of these that are public, to three digits
_PUBLIC_RANGE = ValidRange(num_params=(5.73e7, 1.62e10), num_tokens=(8.19e8, 3.18e11), flops=(1.4e18, 1.3e22))

# Besiroglu et al. 2024, table 1, with more digits
BESIROGLU: dict[str, Any] = {"E": 1.81686, "A": 482.00572, "B": 2085.43420, "alpha": 0.34781, "beta": 0.36585}
# Hoffmann et al. 2022, eq. 10, unrounded
CHINCHILLA: dict[str, Any] = {
    "E": math.exp(0.5267228),
    "A": math.exp(6.0073404),
    "B": math.exp(6.0179186),
    "alpha": 0.33917084,
    "beta": 0.2849083,
}

_WEBTEXT: dict[str, Any] = {
    "n_counts": "body",
    "fitted_on": "WebText2, 768 to 1.5B parameters, 22M to 23B tokens",
    "valid": ValidRange(num_params=(768, 1.5e9), num_tokens=(2.2e7, 2.3e10), flops=None),
}
_MASSIVE_TEXT: dict[str, Any] = {"n_counts": "total", "fitted_on": _HOFFMANN_RUNS, "valid": _HOFFMANN_RANGE}

_NO_UNCERTAINTY = "No uncertainty is published for these constants, so no answer of this law carries an interval."
_EXPONENT_ONLY = (
    "Its intervals come from the published interval of the exponent alone (table 2); the level at the middle of the "
    "budgets is taken as known, so near there they are too narrow."
)

KAPLAN_PRESENTATION_ERRATA = (
    "Erratum: C_used and C_actual divided by 1e15 are petaFLOPs, not PF-days: off by 86,400. Taken literally, every "
    "run stops 86,400 times too early or too late. Here 1 PF-day = 8.64e19 FLOPs.",
    "Erratum: with k_N = 0.3 and k_D = 3.2 (billions), one PF-day buys 0.3B parameters and 3.2B tokens, which spend "
    "0.067 PF-days: the 10 % consistency check fails at every budget. The 1.3B parameters quoted beside it are "
    "Kaplan's 1.3e9·C^0.73; with 3.2B tokens those spend 0.29 PF-days.",
    "Erratum: '10x the model: 5 % less loss, 10x the data: 6 %' holds for 2x (5.1 %, 6.4 %). For 10x: 16.1 %, 19.6 %.",
    "Erratum: in the GPT-3 example (8.8e13/1.75e11)^0.8 is 144.9, not 106; the final 1.73 nats is right. The paper's "
    "joint constants (law 'kaplan') give 1.661.",
    "Erratum: '340M parameters on 3.3B tokens: 3.2 nats; 1B on 1B: 2.7' should be 2.72 and 2.86: the other way round.",
    "alpha_N and alpha_D name two things there, allocation (0.73/0.27) and loss (0.076/0.095). Here allocation "
    "exponents are a and b.",
    "Kept to reproduce the taught numbers. Do not plan runs with it; use 'kaplan' or 'besiroglu'.",
)


def published_laws() -> tuple[ScalingLaw, ...]:
    """Return every built-in published law."""
    return (
        ParametricLaw(
            uncertainty=refit_uncertainty("besiroglu", BESIROGLU),
            info=LawInfo(
                name="besiroglu",
                n_counts="total",
                source="Besiroglu et al. 2024, arXiv 2404.10102, table 1 (with more digits)",
                fitted_on="240 of the Chinchilla runs, read out of Hoffmann et al.'s figure 4; 57M-16B parameters",
                valid=_PUBLIC_RANGE,
                notes=(
                    "The corrected Approach 3, and the default: it agrees with Hoffmann et al.'s Approaches 1 and 2, "
                    "which the printed Approach 3 does not.",
                    "Printed as E 1.8172, A 482.01, B 2085.43, alpha 0.3478, beta 0.3658, with standard errors 0.03, "
                    "124.58, 1293.23, 0.02, 0.02. Here with more digits; they move the loss by less than 0.001 nats.",
                    "Its intervals hold what 240 runs leave open, how they scatter, and how far fits to the cheaper "
                    "ones missed the dearer ones. They hold no other data, tokenizer or recipe.",
                ),
            ),
            **BESIROGLU,
        ),
        ParametricLaw(
            uncertainty=refit_uncertainty("chinchilla", CHINCHILLA),
            info=LawInfo(
                name="chinchilla",
                source="Hoffmann et al. 2022, arXiv 2203.15556, Approach 3 (section 3.3, eq. 10), unrounded constants",
                **_MASSIVE_TEXT,
                notes=(
                    "Printed rounded as E 1.69, A 406.4, B 410.7, alpha 0.34, beta 0.28: rounding alone moves N_opt at "
                    "5.76e23 FLOPs from 4.04e10 to 3.22e10.",
                    "Its fit averaged the Huber loss, and so stopped early (Besiroglu et al. 2024): it disagrees with "
                    "Approaches 1 and 2 and with the 70B-parameter, 1.4T-token Chinchilla itself. Prefer 'besiroglu'.",
                    "Its intervals are those of refits to its runs, about its own constants, and the scatter of those "
                    "runs about it. The printed 80 % interval of a, 0.454 to 0.455 (table 2), is not used: it would "
                    "take some 600,000 runs (Besiroglu et al. 2024).",
                ),
            ),
            **CHINCHILLA,
        ),
        PowerLawAllocation(
            info=LawInfo(
                name="chinchilla-1",
                source="Hoffmann et al. 2022, arXiv 2203.15556, Approach 1: a = b = 0.50 (table 2); coefficient is the "
                "geometric mean of N/sqrt(C) over the nine rows of table 3",
                **_MASSIVE_TEXT,
                notes=(
                    "Table 3's own rows follow a slope of 0.498; the rounded exponent printed in table 2 is kept, "
                    "and every row is met to within 2.2 %.",
                    _EXPONENT_ONLY,
                ),
            ),
            **_of_exponent(_TABLE_3, 0.50, (0.488, 0.502)),
        ),
        PowerLawAllocation(
            info=LawInfo(
                name="chinchilla-2",
                source="Hoffmann et al. 2022, arXiv 2203.15556, Approach 2: a = 0.49, b = 0.51 (table 2); coefficient "
                "is the geometric mean of N/C^0.49 over the nine rows of table A3",
                **_MASSIVE_TEXT,
                notes=(
                    "The exponent is the rounded one of table 2; every row of table A3 is met to within 3.3 %.",
                    _EXPONENT_ONLY,
                ),
            ),
            **_of_exponent(_TABLE_A3, 0.49, (0.462, 0.534)),
        ),
        KaplanLaw(
            info=LawInfo(
                name="kaplan",
                source="Kaplan et al. 2020, arXiv 2001.08361: joint L(N, D) of table 2; N_opt of table 6, "
                "1.3e9·C_min^0.73",
                **_WEBTEXT,
                notes=(
                    "D_opt is C/(6·N_opt). The published 2e10·C_min^0.27 does not spend C: 6·N_opt·D_opt is 1.81·C_min "
                    "at every C. Set batch_ratio = B/B_crit for a run that is not far below the critical batch size.",
                    "N_opt is the published power law of early-stopped runs, not the minimum of the joint L(N, D), "
                    "whose exponent would be 0.575.",
                    "Later work (Hoffmann et al. 2022; Pearce & Song 2024, arXiv 2406.12907) traces its large exponent "
                    "to the missing embeddings in N, small scale, and unmatched learning-rate schedules.",
                    _NO_UNCERTAINTY,
                ),
            ),
            alpha_N=0.076,
            alpha_D=0.103,
            N_c=6.4e13,
            D_c=1.8e13,
            k_N=1.3e9,
            a=0.73,
        ),
        KaplanLaw(
            info=LawInfo(
                name="kaplan-presentation",
                source="lecture notes on Kaplan et al. 2020: N = 0.3·C^0.73 and D = 3.2·C^0.27 in billions, C in "
                "PF-days; loss with the single-variable constants of table 5 (alpha_N 0.076, alpha_D 0.095, N_c "
                "8.8e13, D_c 5.4e13)",
                **_WEBTEXT,
                notes=(*KAPLAN_PRESENTATION_ERRATA, _NO_UNCERTAINTY),
            ),
            alpha_N=0.076,
            alpha_D=0.095,
            N_c=8.8e13,
            D_c=5.4e13,
            k_N=0.3e9,
            a=0.73,
            k_D=3.2e9,
            b=0.27,
        ),
        DataConstrainedLaw(
            info=LawInfo(
                name="muennighoff",
                n_counts="total",
                source="Muennighoff et al. 2023, arXiv 2305.16264, eq. 4-6 and appendix A (unrounded constants)",
                fitted_on="C4, runs of 10M-9B parameters on up to 900B tokens, unique and repeated",
                valid=ValidRange(num_params=(1e7, 8.7e9), num_tokens=(1e8, 9e11), flops=None),
                notes=(
                    "Knows what repeated tokens are worth: set unique_tokens to your corpus's size. Up to about 4 "
                    "epochs cost almost nothing; past R_D* = 15 repetitions more compute is mostly wasted.",
                    "alpha = beta is imposed by the authors, so that N_opt and D_opt grow alike.",
                    "The validation losses that its authors publish for the 33 runs of one epoch (huggingface/"
                    "datablations, plotstables) lie 7 % to 42 % above it: compare sizes and epochs with it, not "
                    "losses. Refits to them would not be an uncertainty of this law.",
                    _NO_UNCERTAINTY,
                ),
            ),
            E=math.exp(0.6254804),
            A=math.exp(6.255414),
            B=math.exp(7.3049974),
            alpha=0.3526596,
            beta=0.3526596,
            R_D=15.387756,
            R_N=5.309743,
        ),
        PowerLawAllocation(
            info=LawInfo(
                name="deepseek",
                n_counts="body",
                source="DeepSeek LLM 2024, arXiv 2401.02954, eq. 4: M_opt = 0.1715·C^0.5243, D_opt = 5.8316·C^0.4757",
                fitted_on="in-house bilingual corpus, budgets of 1e17 to 3e20 FLOPs",
                valid=ValidRange(flops=(1e17, 3e20)),
                notes=(
                    "The paper's M is non-embedding FLOPs per token, attention included, not a parameter count. N is "
                    "given as M/6: the body's parameters plus what attention over the context costs.",
                    _NO_UNCERTAINTY,
                ),
            ),
            k_N=0.1715 / 6,
            a=0.5243,
            k_D=5.8316,
            b=0.4757,
        ),
    )


# Hoffmann et al. 2022, table 3 (Approach 1) and table A3 (Approach 2): parameters and the FLOPs they are optimal for
_TABLE_3 = (
    (4e8, 1.92e19), (1e9, 1.21e20), (1e10, 1.23e22), (6.7e10, 5.76e23), (1.75e11, 3.85e24), (2.8e11, 9.90e24),
    (5.2e11, 3.43e25), (1e12, 1.27e26), (1e13, 1.30e28),
)  # fmt: skip
_TABLE_A3 = (
    (4e8, 1.84e19), (1e9, 1.20e20), (1e10, 1.32e22), (6.7e10, 6.88e23), (1.75e11, 4.54e24), (2.8e11, 1.18e25),
    (5.2e11, 4.19e25), (1e12, 1.59e26), (1e13, 1.75e28),
)  # fmt: skip


def _of_exponent(rows: tuple[tuple[float, float], ...], a: float, interval: tuple[float, float]) -> dict[str, Any]:
    """Return k_N, a and their draws by one of Hoffmann et al.'s Approaches 1 and 2, about the middle of their budgets.

    k_N is that of N = k_N·C^a which leaves no mean log residual over the rows.
    """
    k_N = math.exp(sum(math.log(n) - a * math.log(c) for n, c in rows) / len(rows))
    assert _HOFFMANN_RANGE.flops is not None
    low, high = _HOFFMANN_RANGE.flops
    where = "Hoffmann et al. 2022, table 2: 10th and 90th percentile of a over bootstraps of 80 % of the runs"
    sure = exponent_uncertainty(k_N, a, interval, 0.8, math.sqrt(low * high), 400, where)
    return {"k_N": k_N, "a": a, "uncertainty": sure}
