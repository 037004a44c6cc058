"""Addresses from which data and paper figures are loaded down; each names a run and a result."""

import flask

from .store import Store


def register(server: flask.Flask, store: Store) -> None:
    pass
