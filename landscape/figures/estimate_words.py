"""Estimates in words: value ± error, intervals, lower bounds."""

import math
from collections.abc import Sequence

import numpy as np

from landscape.figures.numbers import MINUS, NONE, THIN_SPACE, number


def between(ends: Sequence[float]) -> str:
    """A 95 % interval in brackets, or "" where there is none."""
    if not np.isfinite(ends).all():
        return ""
    return f" (95 % {number(float(ends[0]))} to {number(float(ends[1]))})"


def error_decimals(value: float, error: float) -> int | None:
    """Decimals that show two digits of an error; None where only powers of ten would do."""
    if not (math.isfinite(value) and math.isfinite(error)) or not error > 0:
        return None
    digits = 1 - math.floor(math.log10(float(f"{error:.1e}")))
    return max(digits, 0) if digits <= 6 and abs(value) < 1e7 else None


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, thin spaces between thousands, and a real minus."""
    text = f"{value:,.{decimals}f}".replace(",", THIN_SPACE)
    return text.replace("-", MINUS) if float(f"{value:.{decimals}f}") else text.lstrip("-")


def value_and_error(value: float, error: float = math.nan) -> tuple[str, str]:
    """A value and its error with equal decimals, two digits of the error; "" where it has none.

    Example:
        >>> value_and_error(93.52, 4.2), value_and_error(0.0312)
        (('93.5', '4.2'), ('0.0312', ''))
    """
    if not math.isfinite(error) or math.isnan(value):
        return number(value), ""
    decimals = error_decimals(value, error)
    if decimals is None:
        return number(value), number(error, 2)
    return fixed(value, decimals), fixed(error, decimals)


def plus_minus(value: float, error: float = math.nan, *, lower_bound: bool = False) -> str:
    """A value with its standard error; a value that is a lower bound only begins with ≥.

    Example:
        >>> plus_minus(93.52, 4.2), plus_minus(0.0312, lower_bound=True)
        ('93.5 ± 4.2', '≥ 0.0312')
    """
    text = " ± ".join(part for part in value_and_error(value, error) if part)
    return f"≥ {text}" if lower_bound and text != NONE else text


def interval(low: float, high: float, error: float = math.nan) -> str:
    """An interval without its level, with the decimals of the error it stands beside."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    decimals = error_decimals(max(abs(low), abs(high)), error)
    ends = [number(end) if decimals is None else fixed(end, decimals) for end in (low, high)]
    return f"{ends[0]} to {ends[1]}"
