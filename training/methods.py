"""What each training method is told besides the common settings, with its own defaults.

No torch here, as in `config`.
"""

from typing import Any

LABELS = {
    "sgd": "SGD",
    "adamw": "AdamW",
    "sam": "SAM",
    "usam": "USAM",
    "asam": "ASAM",
    "sam+aace": "SAM+AACE",
    "vasso": "VaSSO",
    "f-sam": "F-SAM",
    "gsam": "GSAM",
    "le-sam": "LE-SAM",
}
"""The methods, and how legends and captions call them."""

_NEEDED = None  # there is no default that would mean something
_RADIUS = {"rho_schedule": "constant", "rho_min": 0.0}
_PLAIN = {**_RADIUS, "ascent_steps": 1, "m": 0}

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {},
    "sam": {"rho": 0.05, **_PLAIN},
    "usam": {"rho": _NEEDED, **_PLAIN},
    "asam": {"rho": 0.5, "asam_eta": 0.01, **_PLAIN},
    "sam+aace": {"rho": 0.2, "aace_mode": "ada", **_PLAIN},
    "vasso": {"rho": 0.2, "vasso_theta": 0.9, **_RADIUS},
    "f-sam": {"rho": 0.2, "f_sam_sigma": 1.0, "f_sam_lambda": 0.9, **_RADIUS},
    "gsam": {"rho": 0.05, "gsam_alpha": 0.4, "rho_schedule": "lr", "rho_min": 0.0, "m": 0},
    "le-sam": {"rho": _NEEDED, "le_sam_sigma": _NEEDED, "rho_schedule": "cosine", "m": 0},
}
"""Settings of each method and their defaults, those of `landscape.perturbations`."""

_RANGES = {
    "rho": ("above 0", lambda value: value > 0),
    "rho_min": ("0 or more", lambda value: value >= 0),
    "asam_eta": ("0 or more", lambda value: value >= 0),
    "vasso_theta": ("in (0, 1]", lambda value: 0 < value <= 1),
    "f_sam_sigma": ("0 or more", lambda value: value >= 0),
    "f_sam_lambda": ("in [0, 1)", lambda value: 0 <= value < 1),
    "gsam_alpha": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "le_sam_sigma": ("above 0", lambda value: value > 0),
    "ascent_steps": ("at least 1", lambda value: value >= 1),
    "m": ("at least 0", lambda value: value >= 0),
    "aace_mode": ("ada, rand or const", lambda value: value in ("ada", "rand", "const")),
    "rho_schedule": ("constant, lr or cosine", lambda value: value in ("constant", "lr", "cosine")),
}


def settings_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the method's own settings, its defaults filled in.

    Args:
        method: One of `LABELS`.
        given: Settings by name; None where the default is wanted.

    Raises:
        ValueError: A setting is out of range, missing, or belongs to another method.
    """
    own = SETTINGS[method]
    foreign = [name for name in _RANGES if given[name] is not None and name not in own]
    if "rho" in foreign:
        raise ValueError(
            f"{method} has no perturbation, got rho {given['rho']}; choose --method sam"
        )
    for name in foreign:
        methods = [other for other, settings in SETTINGS.items() if name in settings]
        raise ValueError(
            f"{name} does not belong to {method}, got {given[name]}; it needs method "
            f"{' or '.join(methods)}"
        )
    settings = {
        name: default if given[name] is None else given[name] for name, default in own.items()
    }
    for name, value in settings.items():
        expected, holds = _RANGES[name]
        if value is None:
            raise ValueError(f"{method} has no default of {name}; give one, {expected}")
        if not holds(value) or value == float("inf"):
            raise ValueError(f"{name} must be {expected} and finite, got {value}")
    if settings.get("rho_min", 0) > settings.get("rho", 0):
        raise ValueError(
            f"rho_min must be at most rho, {settings['rho']}, got {settings['rho_min']}"
        )
    if settings.get("rho_min") and settings["rho_schedule"] == "constant":
        raise ValueError("rho_min needs rho_schedule lr or cosine, got constant")
    return settings
