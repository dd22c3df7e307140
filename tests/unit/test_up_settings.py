"""What `make up` reads: its environment and the models of config.yaml."""

from pathlib import Path

import pytest

from deploy.local.errors import UpError
from deploy.local.models import read_models
from deploy.local.settings import DEFAULT_CONFIG, load_settings


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings({"TUNDISH_PORT": " ", "TUNDISH_POSTGRES_URL": ""}, tmp_path)
    assert (settings.home, settings.config) == (tmp_path / ".tundish", DEFAULT_CONFIG)
    assert (settings.host, settings.ports, settings.workers) == ("127.0.0.1", range(4000, 4001), 1)
    assert (settings.enforcers, settings.auths, settings.schedulers) == (2, 1, 1)
    assert (settings.postgres_url, settings.nats_url, settings.master_key) == (None, None, None)
    assert settings.nats_sync == "always"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TUNDISH_PORT", "http", "whole number from 1 to 65535"),
        ("TUNDISH_PORT", "70000", "whole number"),
        ("TUNDISH_PORT", "٤٠٠٠", "whole number"),
        ("TUNDISH_WORKERS", "0", "from 1 to 64"),
        ("TUNDISH_PROXIES", "17", "from 1 to 16"),
        ("TUNDISH_ENFORCERS", "none", "from 1 to 8"),
        ("TUNDISH_NATS_SYNC", "sometimes", "`always` or a time"),
        ("TUNDISH_CONFIG", "nowhere.yaml", "there is no such file"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(name: str, value: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UpError, match=says) as caught:
        load_settings({name: value}, tmp_path)
    assert name in str(caught.value)


def test_several_proxies_need_as_many_ports(tmp_path: Path) -> None:
    settings = load_settings({"TUNDISH_PROXIES": "2", "TUNDISH_PORT": "65534"}, tmp_path)
    assert settings.ports == range(65534, 65536)
    with pytest.raises(UpError, match="TUNDISH_PORT is 65535: there are no 2 ports"):
        load_settings({"TUNDISH_PROXIES": "2", "TUNDISH_PORT": "65535"}, tmp_path)


def test_the_default_config_is_simulated() -> None:
    models = read_models(DEFAULT_CONFIG)
    assert models.names[:3] == ("gpt-4o", "phi-4", "text-embedding-3-large")
    assert models.simulated == models.names
    assert models.key_variables == ("AZURE_API_KEY", "AZURE_AI_API_KEY")
    assert models.chat == "gpt-4o"


def test_only_the_keys_of_simulated_models_are_the_simulators(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        """
model_list:
  - model_name: text-embedding-3-small
    litellm_params: {api_base: https://real.openai.azure.com/, api_key: os.environ/REAL_KEY}
  - model_name: chat
    litellm_params: {api_base: os.environ/TUNDISH_SIMULATOR_URL/, api_key: os.environ/SIM_KEY}
  - not a model
  - model_name: 7
"""
    )
    models = read_models(config)
    assert models.names == ("text-embedding-3-small", "chat")
    assert models.simulated == ("chat",)
    assert models.key_variables == ("SIM_KEY",)
    assert models.chat == "chat"


@pytest.mark.parametrize("text", ["", "model_list: 3", "[]", "model_list:\n  - 1"])
def test_odd_configs_are_the_proxys_to_refuse(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert read_models(config).names == ()


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model_list: [")
    with pytest.raises(UpError, match="cannot be read as YAML"):
        read_models(config)
