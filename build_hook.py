"""Ship `app` and `training` under names that can't collide with a user's own packages."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RenameHook(BuildHookInterface):
    """In the standard wheel, `app` becomes `landscape_app` and `training` `landscape_training`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the renamed packages; an editable install takes them from the checkout."""
        if version == "standard":
            build_data["force_include"].update(
                {"app": "landscape_app", "training": "landscape_training"}
            )
