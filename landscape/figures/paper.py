"""Paper figures: the public door to every matplotlib figure."""

from landscape.figures.paper_barrier import draw_barrier as draw_barrier
from landscape.figures.paper_comparison import draw_comparison as draw_comparison
from landscape.figures.paper_curvature import draw_curvature as draw_curvature
from landscape.figures.paper_curve import draw_curve as draw_curve
from landscape.figures.paper_curves import draw_consistency as draw_consistency
from landscape.figures.paper_curves import draw_cosines as draw_cosines
from landscape.figures.paper_curves import draw_steps as draw_steps
from landscape.figures.paper_density import draw_density as draw_density
from landscape.figures.paper_layers import draw_layers as draw_layers
from landscape.figures.paper_layers import draw_trace as draw_trace
from landscape.figures.paper_offset import draw_offset as draw_offset
from landscape.figures.paper_profile import draw_profile as draw_profile
from landscape.figures.paper_rise import draw_rise as draw_rise
from landscape.figures.paper_shares import draw_components as draw_components
from landscape.figures.paper_shares import draw_shares as draw_shares
from landscape.figures.paper_sharpness import draw_sharpness as draw_sharpness
from landscape.figures.paper_spectrum import draw_eigenvalues as draw_eigenvalues
from landscape.figures.paper_spectrum import draw_spectrum as draw_spectrum
from landscape.figures.paper_stability import draw_stability as draw_stability
from landscape.figures.paper_style import VENUES as VENUES
from landscape.figures.paper_style import PaperFigure as PaperFigure
from landscape.figures.paper_surface import draw_surface as draw_surface
from landscape.figures.paper_surface3d import draw_surface3d as draw_surface3d
from landscape.figures.paper_tensors import draw_tensors as draw_tensors
from landscape.figures.paper_trajectory import draw_trajectory as draw_trajectory
