"""Checks the Markdown pages against the project that they describe.

    python -m scripts.check_docs [PAGE...]          checks these pages; without one, all of them
    python -m scripts.check_docs --write [PAGE...]  first puts the real `--help` into them

- A fenced block tagged `console` that shows `$ flexpie ... --help` shows the real output.
- Every command of FlexPie, and every make target, that a page names exists and knows the options it is given.
- Every relative link leads to a file, and to a heading of it where it names one.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from scripts.console_scripts import complaint, console_scripts, run_help

ROOT = Path(__file__).resolve().parent.parent
SHELL_TAGS = frozenset({"bash", "console", "sh", "shell"})
PROMPT = "$ "

_HTML_LINK = re.compile(r"""\b(?:href|src)=["']([^"']+)""")
_ASSIGNMENT = re.compile(r"\w+=.*")
_OF_THE_CALLING_MAKE = frozenset({"MAKEFLAGS", "MAKELEVEL", "MFLAGS"})
_SHELL_OPERATOR = re.compile(r"[();<>|&]+")


@dataclass(frozen=True)
class Located:
    """A piece of a page and the line on which it begins, from 1."""

    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """What of a Markdown page can be checked."""

    path: Path
    links: tuple[Located, ...]
    anchors: frozenset[str]
    commands: tuple[Located, ...]
    """Command lines in shell blocks and in inline code."""
    sessions: tuple[Located, ...]
    """One command line of a `console` block each, with the output below it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the Markdown pages against the project.")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="default: every page")
    parser.add_argument("--write", action="store_true", help="first put the real --help into the pages")
    arguments = parser.parse_args()
    paths = [path.resolve() for path in arguments.pages] or find_pages(ROOT)
    if arguments.write:
        for path in paths:
            write_help(path)

    pages = [read_page(path) for path in paths]
    problems = [problem for page in pages for problem in check_page(page)]
    for problem in problems:
        print(problem)
    print(f"{len(pages)} pages: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


def find_pages(root: Path) -> list[Path]:
    """Every Markdown file outside hidden folders."""
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    return sorted([*root.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))])


def check_page(page: Page) -> Iterator[str]:
    """One line for each thing that the page says and that is not so."""
    place = page.path.relative_to(ROOT) if page.path.is_relative_to(ROOT) else page.path
    for link in page.links:
        if problem := check_link(page, link.text):
            yield f"{place}:{link.line}: link {link.text}: {problem}"
    for command in page.commands:
        for words in simple_commands(command.text):
            if problem := check_command(words):
                yield f"{place}:{command.line}: `{shlex.join(words)}`: {problem}"
    for session in page.sessions:
        if problem := check_session(session.text):
            yield f"{place}:{session.line}: {problem}"


# ----------------------------------------------------------------------------------------------- reading


def read_page(path: Path) -> Page:
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    blocks = [
        (token.info.strip(), Located(token.content, token.map[0] + 2))
        for token in tokens
        if token.type == "fence" and token.map
    ]
    shell_lines = [
        line for tag, block in blocks if tag in SHELL_TAGS for line in command_lines(block, tag == "console")
    ]
    return Page(
        path=path,
        links=tuple(_links(tokens)),
        anchors=frozenset(_anchors(tokens)),
        commands=(*shell_lines, *_inline_code(tokens)),
        sessions=tuple(item for tag, block in blocks if tag == "console" for item in sessions(block)),
    )


def command_lines(block: Located, prompted: bool) -> Iterator[Located]:
    """The command lines of a shell block, with continued lines joined."""
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        if prompted and not line.startswith(PROMPT):
            continue
        text = line.removeprefix(PROMPT)
        while text.endswith("\\"):
            text = text[:-1] + next(lines, (0, ""))[1]
        yield Located(text, number)


def sessions(block: Located) -> Iterator[Located]:
    """A console block, cut in front of each prompt."""
    lines = block.text.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith(PROMPT)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Located("\n".join(lines[start:end]), block.line + start)


def _inlines(tokens: Iterable[Token]) -> Iterator[tuple[int, Token]]:
    for token in tokens:
        if token.type == "inline" and token.map:
            for child in token.children or ():
                yield token.map[0] + 1, child
        elif token.type == "html_block" and token.map:
            yield token.map[0] + 1, token


def _links(tokens: Iterable[Token]) -> Iterator[Located]:
    for line, token in _inlines(tokens):
        for target in (token.attrGet("href"), token.attrGet("src")):
            if target is not None:
                yield Located(str(target), line)
        if token.type in {"html_inline", "html_block"}:
            for target in _HTML_LINK.findall(token.content):
                yield Located(target, line)


def _inline_code(tokens: Iterable[Token]) -> Iterator[Located]:
    for line, token in _inlines(tokens):
        if token.type == "code_inline":
            yield Located(token.content, line)


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """The anchors that GitHub gives to the headings."""
    for opening, heading in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in heading.children or ())
            yield re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


# ---------------------------------------------------------------------------------------------- checking


def check_link(page: Page, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = page.path.parent / unquote(parts.path) if parts.path else page.path
    if not target.exists():
        return "no such file"
    if parts.fragment and target.suffix == ".md":
        anchors = page.anchors if target == page.path else read_page(target).anchors
        if parts.fragment not in anchors:
            return "no such heading"
    return None


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a shell line, without operators, assignments and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # an open quote: prose or a template, not a command
        return
    words: list[str] = []
    for token in [*tokens, ";"]:
        if _SHELL_OPERATOR.fullmatch(token):
            if words:
                yield words
            words = []
        elif words or not _ASSIGNMENT.fullmatch(token):
            words.append(token)


def check_command(words: list[str]) -> str | None:
    """Why a command cannot work; None for one that can, and for one that is not ours."""
    name = words[0].rpartition("/")[2]
    if name in console_scripts():
        return complaint(run_help(name, *words[1:]))
    return complaint(_dry_run(words)) if name == "make" else None


def _dry_run(make: list[str]) -> subprocess.CompletedProcess[str]:
    """What make would do, apart from any make that runs this check."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_CALLING_MAKE}
    command = ["make", "--dry-run", *make[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def check_session(session: str) -> str | None:
    """How a shown `--help` differs from the real one; None for other commands, and when it does not."""
    prompt, *shown = session.rstrip().splitlines()
    real = _real_help(prompt)
    if real is None or shown == real:
        return None
    difference = difflib.unified_diff(shown, real, "shown", "real", lineterm="")
    return "\n    ".join([f"`{prompt.removeprefix(PROMPT)}` is not what the page shows:", *difference])


def write_help(path: Path) -> None:
    """Replaces what a page shows below `$ flexpie ... --help` by the real output."""
    lines = path.read_text().splitlines()
    for session in reversed(read_page(path).sessions):
        prompt, *shown = session.text.rstrip().splitlines()
        real = _real_help(prompt)
        if real is not None:
            lines[session.line : session.line + len(shown)] = real
    text = "\n".join(lines) + "\n"
    if text != path.read_text():
        path.write_text(text)


def _real_help(prompt: str) -> list[str] | None:
    """The lines that a command prints; None for one that is not ours, or is not asked for help, or fails."""
    words = prompt.removeprefix(PROMPT).split()
    if words[-1:] != ["--help"] or words[0] not in console_scripts():
        return None
    run = run_help(*words)
    return None if complaint(run) else run.stdout.rstrip().splitlines()


if __name__ == "__main__":
    sys.exit(main())
