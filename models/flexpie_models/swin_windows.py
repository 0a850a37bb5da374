"""Cutting a feature map into windows and joining them again, with the roll and the mask of shifted windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexpie_models.graph_builder import Dimension, GraphBuilder, Value

_MASKED = -100.0
"""What Swin transformers add to the scores of tokens that do not belong together."""


@dataclass(frozen=True)
class Windows:
    """Windows of `window` x `window` tokens over a feature map [batch, size, size, width].

    A map that the windows do not divide is padded with zeros. A shifted map is rolled by half a window, unless one
    window covers it.
    """

    graph: GraphBuilder
    batch: Dimension
    scope: str
    size: int
    window: int
    width: int
    shifted: bool

    @property
    def per_side(self) -> int:
        """Windows along one side of the map."""
        return -(-self.size // self.window)

    @property
    def padded(self) -> int:
        """Side of the map with its padding."""
        return self.per_side * self.window

    @property
    def shift(self) -> int:
        """Tokens by which the map is rolled."""
        return self.window // 2 if self.shifted and self.per_side > 1 else 0

    @property
    def rows(self) -> Dimension:
        """Windows of the whole batch, or their symbol."""
        return self.batch * self.per_side**2 if isinstance(self.batch, int) else self.batch

    def cut(self, value: Value) -> Value:
        """[batch, size, size, width] → [batch * windows, window * window, width]."""
        if self.padded != self.size:
            missing = self.padded - self.size
            pads = self.graph.ints(f"{self.scope}/pads", [0, 0, 0, 0, 0, missing, missing, 0])
            value = self.graph.node("Pad", value, pads, name=f"{self.scope}/Pad", mode="constant")
        if self.shift:
            value = self._roll(value, self.shift, f"{self.scope}/roll")
        dims = [self.batch, self.per_side, self.window, self.per_side, self.window, self.width]
        value = self.graph.reshape(value, dims, name=f"{self.scope}/cut/Reshape")
        value = self.graph.node("Transpose", value, name=f"{self.scope}/cut/Transpose", perm=[0, 1, 3, 2, 4, 5])
        rows = self.rows if isinstance(self.rows, int) else -1
        return self.graph.reshape(value, [rows, self.window**2, self.width], name=f"{self.scope}/cut/Reshape_1")

    def join(self, value: Value) -> Value:
        """The inverse of `cut`."""
        batch = self.batch if isinstance(self.batch, int) else -1
        split = [batch, self.per_side, self.per_side, self.window, self.window, self.width]
        value = self.graph.reshape(value, split, name=f"{self.scope}/join/Reshape")
        value = self.graph.node("Transpose", value, name=f"{self.scope}/join/Transpose", perm=[0, 1, 3, 2, 4, 5])
        dims = [self.batch, self.padded, self.padded, self.width]
        value = self.graph.reshape(value, dims, name=f"{self.scope}/join/Reshape_1")
        if self.shift:
            value = self._roll(value, -self.shift, f"{self.scope}/roll_back")
        if self.padded != self.size:
            for axis in (1, 2):
                name = f"{self.scope}/crop/Slice_{axis}"
                value = self.graph.slice(value, name=name, axis=axis, start=0, stop=self.size)
        return value

    def mask(self, scores: Value, heads: int) -> Value:
        """Forbid what the roll brought together: scores [batch * windows, heads, tokens, tokens] → the same."""
        if not self.shift:
            return scores
        graph, scope, tokens, count = self.graph, f"{self.scope}/mask", self.window**2, self.per_side**2
        batch = self.batch if isinstance(self.batch, int) else -1
        rows = self.rows if isinstance(self.rows, int) else -1
        split = graph.reshape(scores, [batch, count, heads, tokens, tokens], name=f"{scope}/Reshape")
        addend = graph.constant(f"{scope}/Constant", self._addend())
        masked = graph.node("Add", split, addend, name=f"{scope}/Add")
        return graph.reshape(masked, [rows, heads, tokens, tokens], name=f"{scope}/Reshape_1")

    def _addend(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """0 where two tokens of a window were neighbours before the roll: [1, windows, 1, tokens, tokens]."""
        side = np.arange(self.padded)
        part = np.digitize(side, [self.padded - self.window, self.padded - self.shift])
        parts = 3 * part[:, None] + part[None]
        cut = parts.reshape(self.per_side, self.window, self.per_side, self.window).transpose(0, 2, 1, 3)
        flat = cut.reshape(self.per_side**2, self.window**2)
        apart = flat[:, :, None] != flat[:, None, :]
        return np.where(apart, _MASKED, 0.0).astype(np.float32)[None, :, None]

    def _roll(self, value: Value, shift: int, scope: str) -> Value:
        """Move everything up and left by `shift` (down and right if negative), around the border."""
        at = shift % self.padded
        for axis in (1, 2):
            tail = self.graph.slice(value, name=f"{scope}/Slice_{axis}", axis=axis, start=at)
            head = self.graph.slice(value, name=f"{scope}/Slice_{axis}_1", axis=axis, start=0, stop=at)
            value = self.graph.node("Concat", tail, head, name=f"{scope}/Concat_{axis}", axis=axis)
        return value
