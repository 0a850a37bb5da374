"""The docs check finds what a page says and is not so."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from scripts import check_docs

REAL_HELP = "Usage: flexpie plan [OPTIONS]\n\n  Plan a model.\n"


@pytest.fixture(autouse=True)
def _fake_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A FlexPie that knows `flexpie plan --devices N` and nothing else."""

    def run_help(command: str, *words: str) -> CompletedProcess[str]:
        known = {"--devices", "--help"}
        unknown = [word for word in words if word.startswith("--") and word not in known]
        if words[:1] != ("plan",):
            return CompletedProcess(words, 2, "", "Error: No such command.")
        if unknown:
            return CompletedProcess(words, 2, "", f"Error: No such option: {unknown[0]}")
        return CompletedProcess(words, 0, REAL_HELP, "")

    monkeypatch.setattr(check_docs, "console_scripts", lambda: frozenset({"flexpie"}))
    monkeypatch.setattr(check_docs, "run_help", run_help)


def _problems(folder: Path, text: str) -> list[str]:
    page = folder / "page.md"
    page.write_text(text)
    return [problem.removeprefix(f"{page}:") for problem in check_docs.check_page(check_docs.read_page(page))]


def test_a_page_that_is_right_has_no_problem(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `code` heading, really\n")
    text = f"""
# Title

See [the other page](other.md#a-code-heading-really), [above](#title), [the web](https://example.org/x) and
`flexpie plan --devices 3`, or run `make help`. `flexpie.client` and `flexpie/` are no commands.

```console
$ flexpie plan --help
{REAL_HELP.rstrip()}
$ ls | flexpie plan \\
    --devices 2 > plan.txt    # a comment
anything
```

```python
flexpie = unknown
```
"""
    assert _problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](missing.md)", "1: link missing.md: no such file"),
        ("[a](#missing)", "1: link #missing: no such heading"),
        ("| a |\n|---|\n| ![a](a.png) |", "3: link a.png: no such file"),
        ('<img src="a.svg">', "1: link a.svg: no such file"),
        ("Use `flexpie fly`.", "1: `flexpie fly`: Error: No such command."),
        ("```bash\ncd x && A=1 flexpie fly\n```", "2: `flexpie fly`: Error: No such command."),
        ("```console\n$ flexpie plan --far\n```", "2: `flexpie plan --far`: Error: No such option: --far"),
    ],
)
def test_what_is_not_so_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert _problems(tmp_path, text) == [problem]


def test_an_unknown_make_target_is_a_problem(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, "`make nonsense`")
    assert problem.startswith("1: `make nonsense`: make: *** No rule to make target 'nonsense'")


def test_help_that_changed_is_shown_as_a_difference(tmp_path: Path) -> None:
    shown = REAL_HELP.replace("Plan", "Plot")
    (problem,) = _problems(tmp_path, f"```console\n$ flexpie plan --help\n{shown}```\n")
    assert problem.startswith("2: `flexpie plan --help` is not what the page shows:")
    assert "-  Plot a model." in problem
    assert "+  Plan a model." in problem


def test_write_puts_the_real_help_into_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = "Before\n\n```console\n$ flexpie plan --help\n{}\n$ flexpie plan --help\n{}```\n\nAfter\n"
    page.write_text(block.format("old\nlines\n", ""))
    check_docs.write_help(page)
    assert page.read_text() == block.format(REAL_HELP, REAL_HELP)
    assert list(check_docs.check_page(check_docs.read_page(page))) == []


def test_hidden_folders_have_no_pages(tmp_path: Path) -> None:
    for name in ("a.md", "docs/adr/b.md", ".venv/lib/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert check_docs.find_pages(tmp_path) == [tmp_path / "a.md", tmp_path / "docs/adr/b.md"]
