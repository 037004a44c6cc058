"""The kinds of result: the public door to all of them."""

from landscape.comparison_results import Claim as Claim
from landscape.comparison_results import Comparison as Comparison
from landscape.curvature_results import Curvature as Curvature
from landscape.curvature_results import Density as Density
from landscape.curvature_results import Sharpness as Sharpness
from landscape.curvature_results import Spectrum as Spectrum
from landscape.curvature_results import Stability as Stability
from landscape.curvature_results import Trace as Trace
from landscape.direction_results import Consistency as Consistency
from landscape.direction_results import Directions as Directions
from landscape.direction_results import Offset as Offset
from landscape.direction_results import Rise as Rise
from landscape.result_base import Result as Result
from landscape.result_base import arrays_of as arrays_of
from landscape.result_base import axes as axes
from landscape.result_base import scalars_of as scalars_of
from landscape.surface_results import Barrier as Barrier
from landscape.surface_results import Curve as Curve
from landscape.surface_results import Profile as Profile
from landscape.surface_results import Surface as Surface
from landscape.surface_results import Trajectory as Trajectory

KINDS: dict[str, type[Result]] = {
    cls.kind: cls
    for cls in (
        Profile,
        Surface,
        Barrier,
        Curve,
        Spectrum,
        Density,
        Trace,
        Sharpness,
        Stability,
        Curvature,
        Consistency,
        Directions,
        Rise,
        Offset,
        Trajectory,
        Comparison,
        Claim,
    )
}
