"""Writes docs/operators.md: along which axes each operator can be divided, as the rules themselves tell.

python -m scripts.operator_table            writes it
python -m scripts.operator_table --check    fails when the committed page differs from what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from flexpie.core.rules.coverage import divided_axes
from scripts.operator_examples import SECTIONS, WHOLE, Example

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"

HEAD = """\
# Operators

Which operators FlexPie divides inside, and along which axes of their output. `python -m scripts.operator_table` writes
this page from the rules in `flexpie/core/rules/`, by asking each for halves of a small example; `make check` compares.

An axis is *divided* when each part of it can be computed without the others: from a part of the inputs, or of the
weights, plus a halo where windows overlap. An axis stays *whole* when every part needs the work of all. Parts of
groups, heads and blocks grow to the borders of those. What a rule does not know, it leaves whole: slow, never wrong.

Results of integers are equal bit by bit; those of floating-point numbers differ by rounding, where a kernel adds in
another order for another shape.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/operators.md from the rules.")
    parser.add_argument("--check", action="store_true", help="only compare, and fail on a difference")
    arguments = parser.parse_args()

    fresh = page()
    if not arguments.check:
        PAGE.write_text(fresh)
        print(f"wrote {PAGE.name}")
        return 0
    if not PAGE.exists() or PAGE.read_text() != fresh:
        print("docs/operators.md differs from what the rules tell: run `python -m scripts.operator_table`, commit it")
        return 1
    print("docs/operators.md tells what the rules do")
    return 0


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD, *_tables(), *_rest()])


def _tables() -> Iterator[str]:
    for section, members in SECTIONS.items():
        yield f"## {section}\n"
        yield "| operator | use | divided along | whole along |"
        yield "|---|---|---|---|"
        for example in members:
            yield from rows(example)
        yield ""


def rows(example: Example) -> Iterator[str]:
    """One line of the table for all operators of an example that can be divided alike."""
    alike: dict[tuple[str, str], list[str]] = {}
    for op_type in example.op_types.split():
        alike.setdefault(_axes(example, op_type), []).append(op_type)
    for (divided, whole), op_types in alike.items():
        names = ", ".join(op_types) + (f" ({example.domain})" if example.domain else "")
        yield f"| {names} | {example.use} | {divided} | {whole} |"


def _axes(example: Example, op_type: str) -> tuple[str, str]:
    """Names of the axes that are divided, and of those that are not."""
    names = [name.replace("_", " ") for name in example.axes.split()]
    found = divided_axes(example.bound(op_type))
    divided = dict.fromkeys(name for name, part in zip(names, found, strict=True) if part)
    # An axis of one element is what is left of several, and says nothing.
    whole = dict.fromkeys(
        name for name, part, length in zip(names, found, example.output, strict=True) if not part and length > 1
    )
    return ", ".join(divided) or "–", ", ".join(whole) or "–"


def _rest() -> Iterator[str]:
    yield "## Whole\n"
    yield "These, and all operators of other domains, run whole on one device, inside a plan that divides the others.\n"
    yield "| because of | operators |"
    yield "|---|---|"
    for reason, names in WHOLE.items():
        yield f"| {reason} | {', '.join(names.split())} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
