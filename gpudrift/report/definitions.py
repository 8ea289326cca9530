"""What the statistics of a column are called where people read them, and what each of them says in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DEFINITIONS", "Definition"]


@dataclass(frozen=True)
class Definition:
    """One statistic.

    Parameters
    ----------
    title : str
        As the literature calls it.
    short : str
        What stands above a column of a table.
    sentence : str
        What is measured, without a formula.
    share : bool
        Whether values are shares of rows, or differences of such shares.
    """

    title: str
    short: str
    sentence: str
    share: bool = False


DEFINITIONS: Mapping[str, Definition] = {
    "psi": Definition(
        "Population stability index",
        "PSI",
        "Sum of (p − q) ln(p / q) over bins or categories, p and q the shares of rows of the two sides.",
    ),
    "wasserstein_scaled": Definition(
        "Scaled Wasserstein distance",
        "W/σ",
        "How far values have to move on average, in standard deviations of the reference, outliers clipped.",
    ),
    "spread": Definition(
        "Change of spread",
        "spread",
        "Logarithm of the ratio of mean distances from the reference's median: 0.1 is about 10 % wider.",
    ),
    "tails": Definition(
        "Change of a tail",
        "tail",
        "Change of the share of rows in the lowest or the highest 5 % of the reference, whichever changed more.",
        share=True,
    ),
    "beyond": Definition(
        "Rows beyond the fences",
        "beyond",
        "Change of the share of rows that lie far outside of the reference's range.",
        share=True,
    ),
    "missing": Definition("Missing rows", "missing", "Change of the share of rows without a value.", share=True),
    "infinite": Definition("Infinite rows", "infinite", "Change of the share of infinite rows.", share=True),
    "new": Definition(
        "Rows with new values", "new", "Share of rows with a value that the reference does not have.", share=True
    ),
    "ks": Definition(
        "Kolmogorov-Smirnov statistic", "KS", "Largest difference of the two cumulative distributions, from 0 to 1."
    ),
    "wasserstein": Definition(
        "Wasserstein distance", "W", "How far values have to move on average, in the unit of the column."
    ),
    "js": Definition(
        "Jensen-Shannon distance", "JS", "Distance of the two distributions, base 2: 0 is equal, 1 is disjoint."
    ),
    "hellinger": Definition("Hellinger distance", "Hellinger", "Distance of the two distributions, from 0 to 1."),
    "tv": Definition(
        "Total variation", "TV", "The least share of rows that would have to change to make both sides equal."
    ),
    "kl": Definition(
        "Kullback-Leibler divergence", "KL", "Sum of p ln(p / q) over bins or categories; it is not symmetric."
    ),
    "linf": Definition("Largest difference", "L∞", "Largest difference of the shares of one bin or category."),
    "chi2": Definition("Chi-square statistic", "χ²", "Test statistic of independence; it grows with the rows."),
    "cramers_v": Definition("Cramér's V", "V", "Strength of the association of category and side, from 0 to 1."),
}
"""In the order in which they are shown: those that decide by default first."""
