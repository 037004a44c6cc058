"""The colors of the two themes as CSS variables, made from the figures' own palette."""

import dataclasses

from landscape.figures import palette


def variables() -> str:
    """`--text`, `--accent-soft`, ..., `--run-0` to `--run-7` for light and dark, and the maps."""
    light, dark = (_block(theme) for theme in ("light", "dark"))
    return (
        f":root{{color-scheme:light;{light}--basin:{_gradient(palette.BASIN_STOPS)};"
        f"--tide:{_gradient(palette.TIDE_STOPS['light'])}}}"
        f'[data-mantine-color-scheme="dark"]{{color-scheme:dark;{dark}'
        f"--tide:{_gradient(palette.TIDE_STOPS['dark'])}}}"
    )


def _block(theme: str) -> str:
    colors = dataclasses.asdict(palette.tokens(theme))
    parts = [f"--{name.replace('_', '-')}:{color};" for name, color in colors.items()]
    parts += [f"--run-{i}:{run.on(theme)};" for i, run in enumerate(palette.RUNS)]
    parts += [f"--path-{i}:{run.light};" for i, run in enumerate(palette.RUNS)]
    return "".join(parts)


def _gradient(stops: list[str]) -> str:
    return f"linear-gradient(to right,{','.join(stops)})"
