"""What each process is told, and what `make up` says at its end."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from deploy.local.banner import Ready, banner, calls, front_url
from deploy.local.children import RANK_PROXY
from deploy.local.models import read_models
from deploy.local.postgres_place import Place, ServerUser
from deploy.local.settings import DEFAULT_CONFIG, LocalSettings, load_settings
from deploy.local.stack import (
    AUTH,
    BOOKKEEPER,
    ENFORCER,
    NATS_USERS,
    SCHEDULER,
    SERVICES,
    SIMULATOR_KEY,
    Secrets,
    Wiring,
    load_secrets,
    migrate_spec,
    service_specs,
    simulator_spec,
)

MODELS = read_models(DEFAULT_CONFIG)
PROXIES = ("proxy", "proxy-w2", "proxy-2", "proxy-2-w2")
INHERITED = {
    "PATH": "/bin",
    "AZURE_API_KEY": "a-real-key",
    "TUNDISH_LOG": "json",
    "TUNDISH_MASTER_KEY": "from-outside",
    "TUNDISH_POSTGRES_URL": "postgresql://from-outside",
    "TUNDISH_PEPPERS": "from-outside",
    "TUNDISH_TOKEN": "from-outside",
    "TUNDISH_PEER_TOKENS": "from-outside",
    "TUNDISH_NATS_URL": "from-outside",
}


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return load_settings({"TUNDISH_WORKERS": "2", "TUNDISH_PROXIES": "2"}, tmp_path)


@pytest.fixture
def secrets(settings: LocalSettings) -> Secrets:
    settings.home.mkdir()
    return load_secrets(settings)


def wiring(simulator_url: str | None = "http://127.0.0.1:29000") -> Wiring:
    names = (*SERVICES, "ledger-enforcer-2", *PROXIES)
    return Wiring(
        ports={name: 21_000 + place for place, name in enumerate(names)},
        postgres_url="postgresql://tundish:pw@127.0.0.1:1/tundish",
        nats_urls={user: f"nats://{user}:pw@127.0.0.1:2" for user in NATS_USERS.values()},
        simulator_url=simulator_url,
    )


def environments(settings: LocalSettings, secrets: Secrets) -> dict[str, dict[str, str]]:
    specs = service_specs(settings, wiring(), secrets, MODELS, INHERITED)
    specs += [migrate_spec(settings, wiring(), secrets, INHERITED), simulator_spec(29_000, INHERITED)]
    return {spec.name: dict(spec.env) for spec in specs}


def test_proxies_have_no_database_and_only_those_who_need_them_have_peppers(
    settings: LocalSettings, secrets: Secrets
) -> None:
    env = environments(settings, secrets)
    with_postgres = {name for name, values in env.items() if "TUNDISH_POSTGRES_URL" in values}
    assert with_postgres == {AUTH, BOOKKEEPER, SCHEDULER, "migrate"}
    with_peppers = {name for name, values in env.items() if "TUNDISH_PEPPERS" in values}
    assert with_peppers == {AUTH, BOOKKEEPER, SCHEDULER, *PROXIES}


def test_no_secret_comes_in_by_inheritance(settings: LocalSettings, secrets: Secrets) -> None:
    for name, values in environments(settings, secrets).items():
        assert "from-outside" not in "".join(values.values()), name
        assert values["TUNDISH_LOG"] == "json"


def test_each_speaks_with_its_own_token_and_knows_those_who_may_call_it(
    settings: LocalSettings, secrets: Secrets
) -> None:
    env = environments(settings, secrets)
    assert len(set(secrets.tokens.values())) == 5

    def peers(name: str) -> dict[str, str]:
        pairs = env[name].get("TUNDISH_PEER_TOKENS", "")
        return dict(pair.split(":") for pair in pairs.split(",") if pair)

    assert set(peers(AUTH)) == {"proxy", "scheduler"}
    assert set(peers(BOOKKEEPER)) == {"auth", "proxy", "scheduler"}
    assert set(peers(SCHEDULER)) == {"auth", "proxy"}
    assert peers(ENFORCER) == peers("ledger-enforcer-2") == peers("proxy") == {}
    assert all(peers(AUTH)[name] == secrets.tokens[name] for name in ("proxy", "scheduler"))
    assert {env[name]["TUNDISH_TOKEN"] for name in PROXIES} == {secrets.tokens["proxy"]}
    assert env[ENFORCER]["TUNDISH_NATS_URL"].startswith("nats://enforcer:")
    assert env["migrate"]["TUNDISH_NATS_URL"].startswith("nats://admin:")


def test_workers_share_a_front_door_and_proxies_the_journals(settings: LocalSettings, secrets: Secrets) -> None:
    specs = {spec.name: spec for spec in service_specs(settings, wiring(), secrets, MODELS, {})}
    doors = {name: specs[name].env["TUNDISH_PORT"] for name in PROXIES}
    assert doors == {"proxy": "4000", "proxy-w2": "4000", "proxy-2": "4001", "proxy-2-w2": "4001"}
    assert {specs[name].env["TUNDISH_HOME"] for name in PROXIES} == {str(settings.home)}
    assert len({spec.env["TUNDISH_INTERNAL_PORT"] for spec in specs.values()}) == len(specs)
    assert {specs[name].stop_rank for name in PROXIES} == {RANK_PROXY}
    assert specs[AUTH].stop_rank > RANK_PROXY
    assert specs["proxy"].grace_s > settings.drain_s


def test_a_second_enforcer_stands_by(settings: LocalSettings, secrets: Secrets) -> None:
    specs = {spec.name: spec for spec in service_specs(settings, wiring(), secrets, MODELS, {})}
    assert specs["ledger-enforcer-2"].argv == specs[ENFORCER].argv
    ours, theirs = dict(specs[ENFORCER].env), dict(specs["ledger-enforcer-2"].env)
    assert ours.pop("TUNDISH_INTERNAL_PORT") != theirs.pop("TUNDISH_INTERNAL_PORT")
    assert ours == theirs
    alone = msgspec.structs.replace(settings, enforcers=1)
    names = [spec.name for spec in service_specs(alone, wiring(), secrets, MODELS, {})]
    assert names == [*SERVICES, *PROXIES]


def test_further_auths_and_schedulers_are_told_what_the_first_are(settings: LocalSettings, secrets: Secrets) -> None:
    more = msgspec.structs.replace(settings, auths=2, schedulers=3, enforcers=1)
    names = ("auth-2", "scheduler-2", "scheduler-3")
    base = wiring()
    there = msgspec.structs.replace(
        base, ports={**base.ports, **dict(zip(names, (22_001, 22_002, 22_003), strict=True))}
    )
    specs = {spec.name: spec for spec in service_specs(more, there, secrets, MODELS, {})}
    assert list(specs) == [
        AUTH, "auth-2", BOOKKEEPER, ENFORCER, SCHEDULER, "scheduler-2", "scheduler-3", *PROXIES,
    ]  # fmt: skip
    for name in names:
        first = specs[name.rpartition("-")[0]]
        ours, theirs = dict(first.env), dict(specs[name].env)
        assert specs[name].argv == first.argv
        assert ours.pop("TUNDISH_INTERNAL_PORT") != theirs.pop("TUNDISH_INTERNAL_PORT")
        assert ours == theirs
    assert specs["proxy"].env["TUNDISH_AUTH_URL"] == f"http://127.0.0.1:{base.ports[AUTH]}"


def test_a_real_key_never_reaches_the_simulator(settings: LocalSettings, secrets: Secrets) -> None:
    proxy = environments(settings, secrets)["proxy"]
    assert proxy["TUNDISH_SIMULATOR_URL"] == "http://127.0.0.1:29000"
    assert proxy["AZURE_API_KEY"] == proxy["AZURE_AI_API_KEY"] == SIMULATOR_KEY
    real = service_specs(settings, wiring(None), secrets, MODELS, INHERITED)[-1].env
    assert real["AZURE_API_KEY"] == "a-real-key"
    assert "TUNDISH_SIMULATOR_URL" not in real


def test_ones_own_master_key_and_peppers_go_first(settings: LocalSettings) -> None:
    settings.home.mkdir()
    own = msgspec.structs.replace(settings, master_key="sk-mine", peppers="p7:00")
    secrets = load_secrets(own)
    assert (secrets.master_key, secrets.peppers) == ("sk-mine", "p7:00")
    assert not (settings.home / "master.key").exists()
    assert not (settings.home / "pepper").exists()


def ready(home: Path, **changes: object) -> Ready:
    facts = Ready(
        urls=("http://127.0.0.1:4000",),
        seconds=1.25,
        home=home,
        config=DEFAULT_CONFIG,
        own_master_key=False,
        models=MODELS,
        place=None,
        nats_embedded=True,
    )
    return msgspec.structs.replace(facts, **changes)


@pytest.mark.parametrize("own", [False, True])
def test_the_printed_calls_work_as_pasted(own: bool, tmp_path: Path) -> None:
    home = tmp_path / "it's a home"
    home.mkdir()
    (home / "master.key").write_text("sk-tundish-secret\n")
    seen = tmp_path / "seen"
    fake = tmp_path / "bin" / "curl"
    fake.parent.mkdir()
    answer = '{"key":"sk-AbC123","key_name":"sk-...C123","token":"x"}'
    fake.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> '{seen}'\necho '{answer}'\n")
    fake.chmod(0o755)
    commands = [line.strip() for line in calls(ready(home, own_master_key=own)).splitlines() if line.startswith("  ")]
    env = {"PATH": f"{fake.parent}:{os.environ['PATH']}", "TUNDISH_MASTER_KEY": "sk-tundish-secret"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(commands)], env=env, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.splitlines()[0] == "sk-AbC123"
    arguments = seen.read_text().splitlines()
    assert "Authorization: Bearer sk-tundish-secret" in arguments
    assert "Authorization: Bearer sk-AbC123" in arguments
    bodies = [msgspec.json.decode(each) for each in arguments if each.startswith("{")]
    assert bodies[0] == {"models": ["gpt-4o"], "max_budget": 1}
    assert bodies[1]["model"] == "gpt-4o"


def test_the_banner_says_what_is_unusual(tmp_path: Path) -> None:
    place = Place(
        parent=Path("/var/lib/tundish-00"),
        programs=Path("/x"),
        user=ServerUser(65534, 65534, "nobody"),
        outside=True,
    )
    text = banner(ready(tmp_path, place=place, nats_embedded=False, own_master_key=True))
    assert text.splitlines()[1] == "Tundish is ready: http://127.0.0.1:4000 (1.2 s)"
    assert "its models are simulated" in text
    assert "PostgreSQL runs as nobody, its data is in /var/lib/tundish-00" in text
    assert "NATS is the one of TUNDISH_NATS_URL" in text
    assert "/v1/models" in calls(ready(tmp_path, models=msgspec.structs.replace(MODELS, names=())))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("box", "http://box:80"),
    ],
)
def test_the_url_is_one_to_call(host: str, url: str) -> None:
    assert front_url(host, 80) == url
