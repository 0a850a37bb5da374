"""The table of operators has all rules, and knows what ONNX has."""

from __future__ import annotations

from collections import Counter

import onnx.defs

from flexpie.core.rules.coverage import divided_axes
from flexpie.core.rules.registry import RULES
from scripts.operator_examples import WHOLE, Example, examples
from scripts.operator_table import rows

LATEST = 28
"""Operator set up to which the page is complete."""


def test_every_rule_has_an_example() -> None:
    shown = {(example.domain, op_type) for _, example in examples() for op_type in example.op_types.split()}
    assert shown == RULES.keys()


def test_every_operator_of_onnx_is_divided_or_named_whole() -> None:
    schemas = onnx.defs.get_all_schemas_with_history()
    existing = {schema.name for schema in schemas if schema.domain == "" and schema.since_version <= LATEST}
    whole = [name for names in WHOLE.values() for name in names.split()]
    divided = {op_type for domain, op_type in RULES if domain == ""}
    assert max(Counter(whole).values()) == 1
    assert not divided & set(whole)
    assert existing <= divided | set(whole)


def test_most_examples_are_divided() -> None:
    whole = [(example.op_types, example.use) for _, example in examples()
             if not any(divided_axes(example.bound(example.op_types.split()[0])))]  # fmt: skip
    assert whole == [
        ("ConvTranspose", "odd padding by `auto_pad` or `output_shape`"),
        ("MaxPool", "with indices"),
        ("Resize", "`tf_crop_and_resize`, unknown scales"),
        ("Einsum", "diagonals"),
        ("DequantizeLinear QuantizeLinear", "in blocks"),
    ]


def test_an_axis_is_divided_where_both_halves_part() -> None:
    softmax = Example("Softmax", ((2, 8, 16),), (2, 8, 16), "batch tokens features", attributes={"axis": 1})
    assert divided_axes(softmax.bound("Softmax")) == (True, False, True)
    causal = Example("Attention", ((1, 2, 8, 4),) * 3, (1, 2, 8, 4), "b h t f", attributes={"is_causal": 1}, version=23)
    assert divided_axes(causal.bound("Attention")) == (False, True, False, False)


def test_operators_that_are_alike_share_a_line() -> None:
    alike = Example("Relu Softmax Tanh", ((2, 8),), (2, 8), "some other", "here")
    assert list(rows(alike)) == [
        "| Relu, Tanh | here | some, other | – |",
        "| Softmax | here | some | other |",
    ]
