"""Loss landscapes, Hessian spectra and perturbation-direction consistency.

The names below are imported when they are first used, so that `import landscape` costs
nothing and the half that only stores and draws never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape import perturbations as perturbations
    from landscape.consistency import measure_consistency as measure_consistency
    from landscape.objectives import Objective as Objective
    from landscape.optimizers import SAM as SAM
    from landscape.optimizers import frozen_batchnorm as frozen_batchnorm
    from landscape.perturbations import Perturbation as Perturbation
    from landscape.perturbations import aace_loss as aace_loss
    from landscape.planes import Plane as Plane
    from landscape.planes import hessian_plane as hessian_plane
    from landscape.planes import random_plane as random_plane
    from landscape.planes import trajectory_plane as trajectory_plane
    from landscape.problems import Problem as Problem
    from landscape.recorders import Recorder as Recorder
    from landscape.result_files import load_result as load_result
    from landscape.results import Consistency as Consistency
    from landscape.results import Density as Density
    from landscape.results import Profile as Profile
    from landscape.results import Spectrum as Spectrum
    from landscape.results import Surface as Surface
    from landscape.results import Trajectory as Trajectory
    from landscape.runs import Run as Run
    from landscape.runs import RunFileError as RunFileError
    from landscape.spectra import estimate_density as estimate_density
    from landscape.spectra import find_eigenpairs as find_eigenpairs
    from landscape.surfaces import measure_profile as measure_profile
    from landscape.surfaces import measure_surface as measure_surface
    from landscape.trajectories import measure_trajectory as measure_trajectory

__version__ = "0.1.0"

_HOME = {
    # measure
    "Objective": "objectives",
    "Problem": "problems",
    "Plane": "planes",
    "random_plane": "planes",
    "trajectory_plane": "planes",
    "hessian_plane": "planes",
    "measure_profile": "surfaces",
    "measure_surface": "surfaces",
    "find_eigenpairs": "spectra",
    "estimate_density": "spectra",
    "measure_consistency": "consistency",
    "measure_trajectory": "trajectories",
    # train and record
    "aace_loss": "perturbations",
    "Perturbation": "perturbations",
    "SAM": "optimizers",
    "frozen_batchnorm": "optimizers",
    "Recorder": "recorders",
    # store
    "Run": "runs",
    "RunFileError": "runs",
    "Profile": "results",
    "Surface": "results",
    "Spectrum": "results",
    "Density": "results",
    "Consistency": "results",
    "Trajectory": "results",
    "load_result": "result_files",
}

__all__ = ["__version__", "perturbations", *_HOME]  # noqa: PLE0604 - names from one table


def __getattr__(name: str) -> Any:
    if name == "perturbations":
        return import_module("landscape.perturbations")
    if name in _HOME:
        value = getattr(import_module(f"landscape.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'landscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
