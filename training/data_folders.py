"""The folders that data are kept in and looked for."""

import os
from pathlib import Path

DEBIAN = Path("/usr/share/datasets")  # where packages as dataset-fashion-mnist put theirs


def data_folder() -> Path:
    """Return where data and the demo are kept: the first folder of ours that can be written.

    $LANDSCAPE_DATA, else the checkout's data_cache/, else the user's cache folder; it may not exist
    yet.

    Raises:
        ValueError: None can be written.
    """
    folders = _own_folders()
    for folder in folders:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if nearest.is_dir() and os.access(nearest, os.W_OK):
            return folder
    raise ValueError(
        f"one of {', '.join(map(str, folders))} must be a folder that can be written; "
        "name another by LANDSCAPE_DATA"
    )


def search_folders() -> list[Path]:
    """Return the folders that data are looked for in, in this order."""
    return [*_own_folders(), DEBIAN]


def _own_folders() -> list[Path]:
    """Where data may be put: $LANDSCAPE_DATA, the checkout's data_cache, the user's cache."""
    checkout = Path(__file__).resolve().parent.parent / "data_cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = [Path(os.environ["LANDSCAPE_DATA"])] if os.environ.get("LANDSCAPE_DATA") else []
    in_checkout = [checkout] if (checkout / "README.md").is_file() else []
    return [*named, *in_checkout, cache / "aace-landscape"]
