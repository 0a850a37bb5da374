"""Generates the gRPC and protobuf stubs in flexpie/wire/v1 from proto/flexpie/wire/v1.

python scripts/generate_stubs.py            writes them
python scripts/generate_stubs.py --check    fails when the committed ones differ from what would be written
"""

from __future__ import annotations

import argparse
import importlib.resources
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
PACKAGE = Path("flexpie/wire/v1")
STUB_PATTERN = "*_pb2*.py*"


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the stubs in flexpie/wire/v1.")
    parser.add_argument("--check", action="store_true", help="only compare, and fail on a difference")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
    committed = read_stubs(ROOT / PACKAGE)
    if arguments.check:
        return report(drift(fresh, committed), len(fresh))
    write(fresh, stale=committed.keys() - fresh.keys())
    print(f"wrote {len(fresh)} stubs to {PACKAGE}")
    return 0


def generate(folder: Path) -> dict[str, str]:
    """The text of every stub by file name, made by protoc in an empty folder."""
    well_known_types = importlib.resources.files("grpc_tools") / "_proto"
    protos = sorted((PROTO_ROOT / PACKAGE).glob("*.proto"))
    failed = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO_ROOT}",
            f"--proto_path={well_known_types}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            f"--grpc_python_out={folder}",
            *map(str, protos),
        ]
    )
    if failed:
        sys.exit("protoc refused the .proto files, see above")
    return read_stubs(folder / PACKAGE)


def read_stubs(folder: Path) -> dict[str, str]:
    return {stub.name: stub.read_text() for stub in sorted(folder.glob(STUB_PATTERN))}


def drift(fresh: dict[str, str], committed: dict[str, str]) -> list[str]:
    """One line for each stub that is missing, changed, or has lost its .proto file."""
    return [
        *(f"{PACKAGE / name}: missing" for name in sorted(fresh.keys() - committed.keys())),
        *(f"{PACKAGE / name}: no .proto file makes it" for name in sorted(committed.keys() - fresh.keys())),
        *(
            f"{PACKAGE / name}: differs from its .proto file"
            for name in sorted(fresh.keys() & committed.keys())
            if fresh[name] != committed[name]
        ),
    ]


def report(problems: list[str], count: int) -> int:
    for problem in problems:
        print(problem)
    if problems:
        print("run `make proto` and commit what it writes")
        return 1
    print(f"{count} stubs match their .proto files")
    return 0


def write(stubs: dict[str, str], stale: set[str]) -> None:
    for name in stale:
        (ROOT / PACKAGE / name).unlink()
    for name, text in stubs.items():
        (ROOT / PACKAGE / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
