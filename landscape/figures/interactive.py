"""Screen figures: the public door to every plotly figure and to what a page draws around it."""

from landscape.figures.fields import scale_and_limits as scale_and_limits
from landscape.figures.palette import gradient_stops as gradient_stops
from landscape.figures.scales import color_bar as color_bar
from landscape.figures.scales import color_bar_text as color_bar_text
from landscape.figures.scales import lr_drops as lr_drops
from landscape.figures.scales import shared_limits as shared_limits
from landscape.figures.screen_consistency import plot_consecutive as plot_consecutive
from landscape.figures.screen_consistency import plot_consistency as plot_consistency
from landscape.figures.screen_consistency import plot_norms as plot_norms
from landscape.figures.screen_cosines import plot_cosines as plot_cosines
from landscape.figures.screen_density import plot_density as plot_density
from landscape.figures.screen_paths import plot_path_distance as plot_path_distance
from landscape.figures.screen_paths import plot_path_loss as plot_path_loss
from landscape.figures.screen_profile import plot_profile as plot_profile
from landscape.figures.screen_spectrum import plot_eigenvalues as plot_eigenvalues
from landscape.figures.screen_spectrum import plot_spectrum as plot_spectrum
from landscape.figures.screen_steps import plot_steps as plot_steps
from landscape.figures.screen_steps import sparkline as sparkline
from landscape.figures.screen_surface import plot_surface as plot_surface
from landscape.figures.screen_trajectory import plot_distances as plot_distances
from landscape.figures.screen_trajectory import plot_explained as plot_explained
from landscape.figures.screen_trajectory import plot_step_lengths as plot_step_lengths
from landscape.figures.screen_trajectory import plot_trajectory as plot_trajectory
from landscape.figures.screen_trajectory import plot_turning_angles as plot_turning_angles
from landscape.figures.template import graph_config as graph_config
