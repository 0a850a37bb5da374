"""From an ONNX file to the packages that devices run: import, lower, emit. No planner, no network.

The only home of `onnx` and its tools.
"""

from flexpie.compiler.blobs import Blob
from flexpie.compiler.emit import emit
from flexpie.compiler.imported import ImportedModel
from flexpie.compiler.importing import import_model
from flexpie.compiler.lower import Lowered, lower
from flexpie.compiler.sharing import share_weights

__all__ = ["Blob", "ImportedModel", "Lowered", "emit", "import_model", "lower", "share_weights"]
