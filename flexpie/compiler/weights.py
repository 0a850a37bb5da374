"""Values of weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from flexpie.core.errors import ErrorCode, FlexPieError


def weight_values(tensor: ir.TensorProtocol) -> np.ndarray:
    """The values of a weight, of its shape; a view where the file's own memory has them.

    Raises ``INVALID_MODEL`` where the file has more or fewer of them.
    """
    try:
        return tensor.numpy()
    except (ValueError, TypeError) as error:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The weight {tensor.name} has other values than its shape and type tell: {error}.",
            "Export the model again.",
        ) from error
