"""The door to scikit-learn and Pillow, which only the demonstrations need."""

from __future__ import annotations

import importlib
from typing import Any

_DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "Pillow"}


class MissingDemoExtraError(ImportError):
    """A demonstration was asked for and a library of the `demo` extra is not installed."""

    def __init__(self, distribution: str) -> None:
        super().__init__(f"this needs {distribution}: run  pip install 'flexpie[demo]'")


def import_demo(module: str) -> Any:
    """Import a module of scikit-learn or Pillow.

    Raises:
        MissingDemoExtraError: it is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in (package, module):
            raise  # the library is there, something it needs is not
        raise MissingDemoExtraError(_DISTRIBUTIONS[package]) from error
