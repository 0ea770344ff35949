"""Generate parley/v1 from proto/parley/v1; with --check, fail when the committed code is stale."""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
TARGET = ROOT / "parley" / "v1"


def generate(out: Path) -> None:
    """Write messages, stubs and their type information for every proto below `out`."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    with_services = [name for name in files if "\nservice " in (PROTO / name).read_text()]
    base = ["protoc", f"-I{PROTO}", f"-I{well_known}"]
    if protoc.main([*base, f"--python_out={out}", f"--pyi_out={out}", *files]):
        sys.exit("protoc failed")
    typing_plugin = f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}"
    stubs = [f"--grpc_python_out={out}", typing_plugin, f"--mypy_grpc_out=quiet:{out}"]
    if protoc.main([*base, *stubs, *with_services]):
        sys.exit("protoc failed for the services")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.name: path for path in (Path(scratch) / "parley" / "v1").iterdir()}
        committed = {path.name: path for path in TARGET.glob("*_pb2*")}
        stale = sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )
        if check:
            if stale:
                sys.exit(f"stale generated code, run `make proto`: {', '.join(stale)}")
            return
        for name in stale:
            if name in fresh:
                (TARGET / name).write_bytes(fresh[name].read_bytes())
            else:
                committed[name].unlink()
        print(f"{len(stale)} file(s) changed in {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
