"""Loss landscapes, Hessian spectra and perturbation-direction consistency.

The names below are imported when they are first used, so that `import landscape` costs
nothing and the half that only stores and draws never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape import perturbations as perturbations
    from landscape.adapters import adapt as adapt
    from landscape.adversarial import aace_loss as aace_loss
    from landscape.calibration import fit_temperature as fit_temperature
    from landscape.calibration import measure_calibration as measure_calibration
    from landscape.comparisons import compare_groups as compare_groups
    from landscape.connectivity import measure_barrier as measure_barrier
    from landscape.consistency import measure_consistency as measure_consistency
    from landscape.curvature import measure_curvature as measure_curvature
    from landscape.curves import measure_curve as measure_curve
    from landscape.densities import estimate_density as estimate_density
    from landscape.direction_files import read_directions as read_directions
    from landscape.extents import find_extent as find_extent
    from landscape.foreign import read_foreign as read_foreign
    from landscape.frozen_protocol import measure_consistencies as measure_consistencies
    from landscape.gauss_newton import gauss_newton as gauss_newton
    from landscape.gauss_newton import gradient_moment as gradient_moment
    from landscape.groups import find_group as find_group
    from landscape.modules import Weights as Weights
    from landscape.objectives import Objective as Objective
    from landscape.operators import Operator as Operator
    from landscape.operators import hessian as hessian
    from landscape.optimizers import SAM as SAM
    from landscape.optimizers import frozen_batchnorm as frozen_batchnorm
    from landscape.perturbations import Perturbation as Perturbation
    from landscape.plane import Plane as Plane
    from landscape.planes import hessian_plane as hessian_plane
    from landscape.planes import joint_plane as joint_plane
    from landscape.planes import random_plane as random_plane
    from landscape.planes import trajectory_plane as trajectory_plane
    from landscape.problems import Problem as Problem
    from landscape.recorders import Recorder as Recorder
    from landscape.result_files import load_result as load_result
    from landscape.results import Barrier as Barrier
    from landscape.results import Comparison as Comparison
    from landscape.results import Consistency as Consistency
    from landscape.results import Curvature as Curvature
    from landscape.results import Curve as Curve
    from landscape.results import Density as Density
    from landscape.results import Profile as Profile
    from landscape.results import Sharpness as Sharpness
    from landscape.results import Spectrum as Spectrum
    from landscape.results import Stability as Stability
    from landscape.results import Surface as Surface
    from landscape.results import Trace as Trace
    from landscape.results import Trajectory as Trajectory
    from landscape.runs import Run as Run
    from landscape.runs import RunFileError as RunFileError
    from landscape.sharpness import measure_sharpness as measure_sharpness
    from landscape.slopes import gradient_direction as gradient_direction
    from landscape.slopes import perturbation_direction as perturbation_direction
    from landscape.spans import line_plane as line_plane
    from landscape.spans import span_plane as span_plane
    from landscape.spans import three_point_plane as three_point_plane
    from landscape.spectra import find_eigenpairs as find_eigenpairs
    from landscape.stability import measure_stability as measure_stability
    from landscape.surfaces import measure_profile as measure_profile
    from landscape.surfaces import measure_surface as measure_surface
    from landscape.traces import estimate_trace as estimate_trace
    from landscape.trajectories import measure_trajectory as measure_trajectory
    from landscape.updates import Update as Update
    from landscape.work import Work as Work

__version__ = "0.1.0"

_HOME = {
    # measure
    "Objective": "objectives",
    "Problem": "problems",
    "Weights": "modules",
    "Plane": "plane",
    "random_plane": "planes",
    "trajectory_plane": "planes",
    "joint_plane": "planes",
    "hessian_plane": "planes",
    "line_plane": "spans",
    "three_point_plane": "spans",
    "span_plane": "spans",
    "gradient_direction": "slopes",
    "perturbation_direction": "slopes",
    "read_directions": "direction_files",
    "find_extent": "extents",
    "measure_profile": "surfaces",
    "measure_surface": "surfaces",
    "measure_barrier": "connectivity",
    "measure_curve": "curves",
    "find_eigenpairs": "spectra",
    "estimate_density": "densities",
    "estimate_trace": "traces",
    "measure_sharpness": "sharpness",
    "measure_stability": "stability",
    "measure_curvature": "curvature",
    "Operator": "operators",
    "hessian": "operators",
    "gauss_newton": "gauss_newton",
    "gradient_moment": "gauss_newton",
    "Update": "updates",
    "adapt": "adapters",
    "measure_consistencies": "frozen_protocol",
    "measure_consistency": "consistency",
    "fit_temperature": "calibration",
    "measure_calibration": "calibration",
    "measure_trajectory": "trajectories",
    # compare
    "find_group": "groups",
    "compare_groups": "comparisons",
    # train and record
    "aace_loss": "adversarial",
    "Perturbation": "perturbations",
    "SAM": "optimizers",
    "frozen_batchnorm": "optimizers",
    "Recorder": "recorders",
    # store
    "Run": "runs",
    "RunFileError": "runs",
    "Work": "work",
    "Profile": "results",
    "Surface": "results",
    "Barrier": "results",
    "Curve": "results",
    "Spectrum": "results",
    "Density": "results",
    "Trace": "results",
    "Sharpness": "results",
    "Stability": "results",
    "Curvature": "results",
    "Consistency": "results",
    "Trajectory": "results",
    "Comparison": "results",
    "load_result": "result_files",
    "read_foreign": "foreign",
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
