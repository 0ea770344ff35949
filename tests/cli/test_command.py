"""The `parley` command as a user meets it: what it loads, what it prints, how it exits."""

import json
import subprocess
import sys

import pytest
import typer
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typer.testing import CliRunner

import parley
from parley import errors
from parley.cli import _failures, _plugins, _run, main, settings
from parley.cli._failures import CliError
from parley.cli.tracing import checked_endpoint


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_typer_only_the_version_works():
    blocked = "import sys; sys.modules['typer'] = None; from parley.cli import main; sys.exit(main({}))"
    assert python(blocked.format(["version"])).stdout.strip() == parley.__version__
    refused = python(blocked.format(["talk"]))
    assert refused.returncode == 69
    assert refused.stderr.strip().endswith("pip install 'parley[cli]'")
    assert refused.stderr.count("\n") == 1


def test_talk_loads_neither_services_nor_telemetry():
    code = (
        "import sys; from parley.cli._run import build; build(['talk', '--wav', 'x']); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'services', 'emulator', 'opentelemetry', 'pydantic', 'nats', 'rich', 'yaml', 'uvloop'}))"
    )
    assert python(code).stdout.strip() == "[]"


def test_help_lists_every_command_also_of_services(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in (
        "version",
        "talk",
        "up",
        "demo",
        "conformance",
        "session",
        "top",
        "doctor",
        "fabric",
        "settings",
        "gateway",
        "worker",
        "tools",
        "emulator",
    ):
        assert f" {name} " in out


def test_an_unknown_command_is_a_usage_error(capsys):
    assert main(["tlak"]) == 2
    assert "talk" in capsys.readouterr().err


class FakePoint:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def load(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_a_service_may_bring_a_function_or_a_typer():
    def function() -> None:
        print("function ran")

    single = typer.Typer()
    single.command()(function)
    group = typer.Typer(invoke_without_command=True)
    group.callback()(function)
    for value in (function, single, group):
        for name in ("gateway", "worker"):
            app = typer.Typer()
            app.callback()(lambda: None)
            _run._add_service(app, name, value)
            result = CliRunner().invoke(app, [name])
            assert result.exit_code == 0, result.output
            assert "function ran" in result.output
    app = typer.Typer()
    app.callback()(lambda: None)
    _run._add_service(app, "worker", function)
    assert "list" in CliRunner().invoke(app, ["worker", "--help"]).output


def test_a_service_whose_libraries_are_missing_names_the_extra_and_leaves_the_rest_alone(monkeypatch, capsys):
    point = FakePoint("gateway", ModuleNotFoundError("No module named 'nats'"))
    monkeypatch.setattr(_plugins, "service_points", lambda group: [point])
    monkeypatch.setattr(_plugins, "_installed", lambda name: name != "nats-py")
    assert main(["gateway"]) == 69
    assert capsys.readouterr().err == "parley: gateway needs nats-py: pip install 'parley[gateway]'\n"
    assert main(["version"]) == 0
    assert main(["--help"]) == 0
    assert "pip install 'parley[gateway]'" in " ".join(capsys.readouterr().out.split())


def test_extras_are_followed_through_each_other():
    names = _plugins._names(
        "gateway",
        [
            "grpcio>=1",
            "parley[fabric,cli]; extra == 'gateway'",
            'pyyaml<7,>=6; extra == "gateway"',
            "nats-py>=2; extra == 'fabric'",
            "parley[gateway]; extra == 'fabric'",
            "typer; extra == 'cli'",
            "pocketsphinx; extra == 'emulator'",
        ],
        set(),
    )
    assert names == {"pyyaml", "nats-py", "typer"}


@pytest.mark.parametrize(
    ("absent", "installed", "expected"),
    [
        ("nats.aio", False, (69, "gateway needs nats-py: pip install 'parley[gateway]'")),
        ("nats", True, (69, "gateway cannot be loaded: No module named 'nats'")),
        ("services.gateway.gone", False, (70, "internal error: ModuleNotFoundError: No module named 'services")),
        ("asyncio.gone", False, (70, "internal error: ModuleNotFoundError: No module named 'asyncio.gone'")),
    ],
)
def test_a_service_that_finds_a_library_missing_only_when_it_runs_says_the_same(
    absent, installed, expected, monkeypatch, capsys
):
    def command() -> None:
        raise ExceptionGroup("tasks", [ModuleNotFoundError(f"No module named '{absent}'", name=absent)])

    monkeypatch.setattr(_plugins, "service_points", lambda group: [FakePoint("gateway", command)])
    monkeypatch.setattr(_plugins, "_installed", lambda name: installed or name != "nats-py")
    status, said = expected
    assert main(["gateway"]) == status
    err = capsys.readouterr().err
    assert err.startswith(f"parley: {said}")
    assert err.count("\n") == 1


def test_a_real_service_without_one_of_its_libraries_gives_the_advice():
    code = (
        "import sys; sys.modules['pydantic_settings'] = None; from parley.cli import _plugins, main; "
        "_plugins._installed = lambda name: name != 'pydantic-settings'; sys.exit(main(['gateway']))"
    )
    refused = python(code)
    assert refused.returncode == 69
    assert refused.stderr == "parley: gateway needs pydantic-settings: pip install 'parley[gateway]'\n"


class ToySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PARLEY_TOY_")

    port: int = Field(8080, ge=1, le=65535, description="TCP port.")
    key: SecretStr = Field(SecretStr(""), min_length=8, description="API key.")
    names: list[str] = Field(["a", "b"], description="Names.")
    address: str = Field(description="Where to listen.")


@pytest.fixture
def toy(monkeypatch):
    point = FakePoint("toy", ToySettings)
    point.module, point.attr = __name__, "ToySettings"
    monkeypatch.setattr(_plugins, "service_points", lambda group: [point])
    monkeypatch.setattr(_failures, "entry_points", lambda group: [point])


def wrong():
    ToySettings()


def test_wrong_settings_are_named_one_a_line_and_secrets_are_not_shown(toy, monkeypatch, capsys):
    monkeypatch.setenv("PARLEY_TOY_PORT", "70000")
    monkeypatch.setenv("PARLEY_TOY_KEY", "hunter2")
    with pytest.raises(Exception, match="validation errors") as caught:
        ToySettings()
    assert _failures.report(caught.value) == 78
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("parley: PARLEY_TOY_PORT is '70000': input should be less than or equal to 65535")
    assert lines[0].endswith("TCP port.")
    assert lines[1].startswith("parley: PARLEY_TOY_KEY is (secret): ")
    assert lines[2].startswith("parley: PARLEY_TOY_ADDRESS is not set")
    assert len(lines) == 3
    assert "hunter2" not in "".join(lines)


def test_a_setting_that_should_be_json_is_named(toy, monkeypatch, capsys):
    monkeypatch.setenv("PARLEY_TOY_NAMES", "no json")
    with pytest.raises(Exception, match="names") as caught:
        ToySettings()
    assert _failures.report(caught.value) == 78
    assert capsys.readouterr().err == "parley: PARLEY_TOY_NAMES: expected JSON. Names.\n"


def test_settings_shows_default_and_meaning(toy, capsys):
    assert main(["settings", "toy", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in document["settings"]}
    assert rows["PARLEY_TOY_PORT"]["default"] == "8080"
    assert rows["PARLEY_TOY_PORT"]["description"] == "TCP port."
    assert (rows["PARLEY_TOY_KEY"]["default"], rows["PARLEY_TOY_KEY"]["secret"]) == ("(secret)", True)
    assert rows["PARLEY_TOY_NAMES"]["default"] == "a,b"
    assert rows["PARLEY_TOY_ADDRESS"]["required"]
    assert main(["settings"]) == 0
    assert "PARLEY_TOY_PORT" in capsys.readouterr().out
    assert main(["settings", "nonsense"]) == 2
    assert "there are: toy" in capsys.readouterr().err


def test_real_services_describe_every_setting():
    for point in _plugins.service_points("parley.settings"):
        for row in settings.describe(_plugins.load(point)):
            assert row["name"].startswith(f"PARLEY_{point.name.upper()}_")
            assert row["description"], row["name"]


class SaidError(Exception):
    def __init__(self, message, exit_status):
        super().__init__(message)
        self.exit_status = exit_status


class SaidOSError(SaidError, OSError):
    pass


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SaidError("PARLEY_X is wrong:\nport 80 is taken", 78), 78, "parley: PARLEY_X is wrong: port 80 is taken\n"),
        (ExceptionGroup("g", [SaidOSError("cannot listen", 69)]), 69, "parley: cannot listen\n"),
        (SaidError("", 3), 3, "parley: SaidError\n"),
        (SaidError("true is no status", True), 70, "internal error: SaidError: true is no status"),
        (SaidError("nor is 0", 0), 70, "internal error"),
        (SaidError("nor is text", "78"), 70, "internal error"),
        (CliError("no file x", 2), 2, "no file x"),
        (errors.Unavailable("gone", code="UNAVAILABLE"), 69, "gone [UNAVAILABLE]. Check that the service runs"),
        (errors.Unauthenticated("who?", code="UNAUTHENTICATED"), 77, "who? [UNAUTHENTICATED]. Give a valid API key"),
        (errors.NotFound("no", code="NOT_FOUND", reason="PROFILE_UNKNOWN"), 1, "[NOT_FOUND/PROFILE_UNKNOWN]. Use the"),
        (ExceptionGroup("g", [errors.Superseded("taken", code="ABORTED")]), 1, "taken [ABORTED]"),
        (FileNotFoundError(2, "No such file", "x.wav"), 1, "No such file"),
        (ZeroDivisionError("oops"), 70, "internal error: ZeroDivisionError: oops"),
    ],
)
def test_every_error_is_one_line_and_a_status(error, status, said, capsys):
    assert _failures.report(error) == status
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


GOOD_ENDPOINTS = ("", "http://127.0.0.1:4317", "https://collector.example:443/", "http://[::1]:4317")
BAD_ENDPOINTS = (
    "127.0.0.1:4317", "localhost:4317", "http://", "http://host", "http://host:port", "http://host:99999", "http://:4317",
    "grpc://host:4317", "http://host:4317/v1/traces", "http://user@host:4317", "http://ho st:4317", "http://[::1:4317",
)  # fmt: skip


def test_an_endpoint_for_traces_is_a_scheme_a_host_and_a_port():
    for endpoint in GOOD_ENDPOINTS:
        assert checked_endpoint(endpoint) == endpoint
    for endpoint in BAD_ENDPOINTS:
        with pytest.raises(CliError, match=r"must be http://HOST:PORT or https://HOST:PORT, not") as caught:
            checked_endpoint(endpoint)
        assert caught.value.status == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--gemini-ca", "ca.pem"], "give its --gemini-base-url too"),
        (["up", "--gemini-ca-file", "ca.pem", "--gemini"], "give its --gemini-base-url too"),
        (["up", "--otlp-endpoint", "localhost:4317"], "must be http://HOST:PORT"),
        (["talk", "--text", "hi", "--otlp-endpoint", "localhost:4317"], "must be http://HOST:PORT"),
        (["talk", "--text", "hi", "--text", ""], "--text says nothing"),
        (["talk", "--text", " \n"], "--text says nothing"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_started_or_dialled(
    arguments, said, monkeypatch, capsys
):
    for doing in ("parley.cli.up.Stack", "parley.cli.talk.talk"):
        monkeypatch.setattr(doing, lambda *_: pytest.fail("it went on"))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_endpoint_from_the_environment_is_checked_too(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")
    assert main(["talk", "--text", "hi"]) == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--gemini-ca", "--gemini-ca-file"])
def test_up_takes_the_ca_of_another_endpoint(option, monkeypatch, capsys):
    assert main(["up", "--gemini-base-url", "https://x:1", option, "/nowhere.pem"]) == 78
    assert capsys.readouterr().err == "parley: there is no CA file /nowhere.pem\n"


def test_words_after_the_options_of_talk_are_more_speech(capsys):
    assert main(["talk", "--help"]) == 0
    assert "The same as --wav, for shell globs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141)])
def test_interruptions_have_their_status(error, status, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(_run, "build", fail)
    monkeypatch.setattr(_run.os, "dup2", lambda a, b: None)
    assert _run.run([]) == status
