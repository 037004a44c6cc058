"""Numbers as they are written on screen and paper."""

import math

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{THIN SPACE}"
NONE = "\N{EN DASH}"


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def _power(mantissa: str, exponent: int) -> str:
    return _signed(f"{mantissa}e{exponent}")


def number(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` significant digits; whole digits are never rounded away.

    Example:
        >>> print(number(-0.0123456), number(248.3), number(2.13e-6), number(float("nan")))
        −0.0123 248 2.13e−6 –
    """
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    if exponent < -3 or exponent > 6:
        return _power(f"{value:.{digits - 1}e}".split("e")[0], exponent)
    return _signed(f"{value:,.{max(0, digits - 1 - exponent)}f}".replace(",", THIN_SPACE))


def short(value: float | None, digits: int = 3) -> str:
    """A setting or a tick: like `number`, without trailing zeros.

    Example:
        >>> short(0.05), short(20.0), short(-1.5)
        ('0.05', '20', '−1.5')
    """
    text = number(value, digits)
    mantissa, mark, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + mark + exponent


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    if value is None or math.isnan(value):
        return NONE
    return _signed(f"{round(value):,}".replace(",", THIN_SPACE))


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as a percentage with `digits` decimals.

    Example:
        >>> percent(0.8432).split()
        ['84.3', '%']
    """
    if fraction is None or math.isnan(fraction):
        return NONE
    return _signed(f"{100 * fraction:.{digits}f}") + "\N{NO-BREAK SPACE}%"


def step(value: float) -> str:
    """A step on an axis: 0, 500, 20k.

    Example:
        >>> step(0), step(500), step(20000), step(2500)
        ('0', '500', '20k', '2.5k')
    """
    return short(value / 1000) + "k" if abs(value) >= 1000 else short(value)


def layer_label(name: str) -> str:
    """A layer's name; one that is a number, as in nn.Sequential, says of what.

    Example:
        >>> layer_label("3"), layer_label("3.weight"), layer_label("fc")
        ('layer 3', '3.weight', 'fc')
    """
    return f"layer {name}" if name.isdecimal() else name
