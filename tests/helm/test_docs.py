"""Every command and value of docs/kubernetes.md and of the README's part on Kubernetes is one that there is."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import click
import pytest
import typer
import yaml

from parley.cli import _run
from services.gateway.settings import GatewaySettings
from services.session_worker.settings import WorkerSettings
from services.tools.settings import ToolsSettings
from tests.helm.chart import CHART, ROOT, of_kind, pods, render, values_of
from tests.helm.images import TARGETS

PAGE: Final = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
README: Final = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Kubernetes\n")[2].partition("\n## ")[0]
TEXT: Final = PAGE + README
SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS: Final[dict[str, Any]] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
OTHERS: Final = {"max_payload", "app_kubernetes_io_instance"}
"""Names of NATS and of Prometheus."""
SETTINGS: Final[dict[str, Any]] = {"gateway": GatewaySettings, "worker": WorkerSettings, "tools": ToolsSettings}


def commands() -> list[list[str]]:
    """Every command of the blocks and of the text, in words."""
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.M | re.S) for line in block.splitlines()]
    programs = "helm|kubectl|docker|parley|make|kind"
    lines += re.findall(rf"(?<!`)`((?:{programs}) [^`]+)`(?!`)", re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S))
    return [shlex.split(line) for line in lines if line.strip()]


def of_program(name: str) -> list[list[str]]:
    """Commands of a program, without its name."""
    return [words[1:] for words in commands() if words[0] == name]


def options(words: list[str], name: str) -> list[str]:
    """Values of a repeatable option."""
    return [value for option, value in itertools.pairwise(words) if option == name]


def test_only_known_programs_are_run() -> None:
    assert "helm upgrade --install" in README
    assert {words[0] for words in commands()} == {"docker", "helm", "kind", "kubectl", "make", "parley"}


def known(path: str) -> bool:
    """Whether the schema has a value of this path."""
    schema: Any = SCHEMA
    for key in path.split("."):
        while "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if key not in schema.get("properties", {}):
            return False
        schema = schema["properties"][key]
    return True


@pytest.mark.parametrize("words", of_program("helm"), ids=" ".join)
def test_helm_commands_name_what_is_there(words: list[str]) -> None:
    assert words[0] in ("install", "upgrade", "test", "template")
    if words[0] != "test":
        assert "deploy/helm/parley" in words
    for file in options(words, "--values"):
        assert (ROOT / file).is_file(), file
    for assignment in options(words, "--set"):
        path, _, value = assignment.partition("=")
        assert known(path), path
        assert value
    files = [Path(file).stem for file in options(words, "--values")]
    if files:
        assert render(values_of(*files))


@pytest.mark.parametrize("words", of_program("parley"), ids=" ".join)
def test_parley_commands_parse(words: list[str]) -> None:
    """Each is parsed by the command itself, not run."""
    command: Any = typer.main.get_command(_run.build(words))
    rest = list(words)
    context = click.Context(command, info_name="parley")
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
        context = click.Context(command, info_name=name, parent=context)
        if not rest or not hasattr(command, "commands"):
            break
    command.make_context(command.name, rest, parent=context.parent, resilient_parsing=False)


@pytest.mark.parametrize("words", of_program("docker"), ids=" ".join)
def test_docker_commands_name_what_is_there(words: list[str]) -> None:
    for file in options(words, "--file"):
        assert (ROOT / file).is_file()
    if words[0] == "build":
        (target,) = options(words, "--target")
        (tag,) = options(words, "--tag")
        assert target in TARGETS
        assert tag in _dev_images()


def test_kind_gets_every_image_of_ours() -> None:
    (words,) = of_program("kind")
    assert set(words[2:]) == {image for image in _dev_images() if image.startswith("parley-")}


def _dev_images() -> set[str]:
    return {container["image"] for _, pod in pods(render(values_of("dev"))) for container in pod["containers"]}


@pytest.mark.parametrize("words", of_program("make"), ids=" ".join)
def test_make_targets_are_there(words: list[str]) -> None:
    assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_kubectl_makes_every_secret_that_production_names() -> None:
    made: dict[str, set[str]] = {}
    for words in of_program("kubectl"):
        if "secret" in words:
            literals = [value.partition("=")[0] for value in _equals(words, "--from-literal")]
            made[words[words.index("generic") + 1]] = {*literals, *_equals(words, "--from-file")}
    named: dict[str, set[str]] = {}
    for _, pod in pods(render(values_of("production"))):
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                named.setdefault(volume["secret"]["secretName"], set())
        for container in pod["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    named.setdefault(reference["name"], set()).add(reference["key"])
    assert made.keys() == named.keys()
    for name, keys in named.items():
        assert keys <= made[name], name
    values = values_of("production")
    assert DEFAULTS["callers"]["apiKeysSecret"]["key"] in made[values["callers"]["apiKeysSecret"]["name"]]
    assert DEFAULTS["nats"]["caSecret"]["key"] in made[values["nats"]["caSecret"]["name"]]


def _equals(words: list[str], option: str) -> list[str]:
    return [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]


def test_kubectl_forwards_ports_that_services_have() -> None:
    services = {
        m["metadata"]["name"].removeprefix("prod-"): {port["port"] for port in m["spec"]["ports"]}
        for m in of_kind(render(values_of("dev")), "Service")
    }
    forwards = [words for words in of_program("kubectl") if "port-forward" in words]
    assert len(forwards) == 2
    for words in forwards:
        kind, _, name = words[-2].partition("/")
        assert kind == "service"
        assert int(words[-1].partition(":")[2]) in services[name]
    for name in re.findall(r"`(parley-[a-z-]*headless)`", TEXT):
        assert name in services


def test_every_value_and_setting_in_the_text_is_one() -> None:
    paths = set(re.findall(r"`((?:[a-z][A-Za-z]*\.)+[a-z][A-Za-z_]*)`", TEXT))
    paths = {path for path in paths if path.partition(".")[0] in DEFAULTS}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not known(path)] == []
    alone = set(re.findall(r"`([a-z]+[A-Z][A-Za-z]*)`", TEXT))
    every = set(re.findall(r'"([A-Za-z]+)": \{', json.dumps(SCHEMA)))
    assert alone <= every
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TEXT):
        assert name in OTHERS or any(name in settings.model_fields for settings in SETTINGS.values()), name


def test_links_lead_somewhere() -> None:
    for base, text in ((ROOT / "docs", PAGE), (ROOT, README)):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (base / target).exists(), target


def test_the_example_of_a_gateway_fits_the_route() -> None:
    example = {m["kind"]: m for m in yaml.safe_load_all((ROOT / "deploy/examples/envoy-gateway.yaml").read_text())}
    (route,) = of_kind(render(values_of("production", "gateway-api")), "GRPCRoute")
    gateway, listeners = example["Gateway"]["metadata"]["name"], example["Gateway"]["spec"]["listeners"]
    assert [(p["name"], p["sectionName"]) for p in route["spec"]["parentRefs"]] == [(gateway, listeners[0]["name"])]
    assert route["spec"]["hostnames"] == [listeners[0]["hostname"]]
    for kind, target in (
        ("BackendTrafficPolicy", route["metadata"]["name"].removeprefix("prod-")),
        ("ClientTrafficPolicy", gateway),
    ):
        (reference,) = example[kind]["spec"]["targetRefs"]
        assert reference["name"] == target
    # Nothing ends a stream for its age.
    timeouts = example["BackendTrafficPolicy"]["spec"]["timeout"]["http"]
    assert (timeouts["requestTimeout"], timeouts["maxConnectionDuration"]) == ("0s", "0s")
