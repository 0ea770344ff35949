"""What another team gets: the wheel in an empty environment brings grpcio and protobuf, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import parley

ROOT = Path(__file__).parents[2]
ALLOWED = {"parley", "grpcio", "protobuf", "typing-extensions", "typing_extensions", "pip", "setuptools"}


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (built,) = folder.glob("parley-*.whl")
    return built


def test_the_base_install_is_a_working_client(wheel, tmp_path):
    empty = tmp_path / "venv"
    run(sys.executable, "-m", "venv", str(empty))
    python = empty / "bin" / "python"
    if shutil.which("uv"):
        run("uv", "pip", "install", "--quiet", "--python", str(python), str(wheel))
    else:
        run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    names = run(
        str(python),
        "-c",
        "from importlib.metadata import distributions as d; print(*{x.metadata['Name'] for x in d()})",
    )
    assert set(names.split()) <= ALLOWED
    clean = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    code = "import parley, asyncio; print(parley.__version__, parley.connect, parley.events.Opened.__name__)"
    assert parley.__version__ in run(str(python), "-c", code, cwd=tmp_path, env=clean)
    command = empty / "bin" / "parley"
    assert run(str(command), "version", cwd=tmp_path, env=clean).strip() == parley.__version__
    refused = subprocess.run(
        [str(command), "talk"], capture_output=True, text=True, cwd=tmp_path, env=clean, check=False
    )
    assert refused.returncode == 69
    assert "parley[cli]" in refused.stderr


def test_the_wheel_is_typed_and_carries_its_data(wheel):
    import zipfile

    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"parley/py.typed", "parley/cli/profiles/support.yaml", "parley/cli/demo_data/order_4711.wav"} <= names
    assert "parley/cli/demo_data/frame_1.jpg" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)
