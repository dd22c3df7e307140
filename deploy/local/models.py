"""What the runner needs to know of config.yaml: the models' names, and whether they are simulated."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import yaml

from deploy.local.errors import UpError

SIMULATOR_VARIABLE = "TUNDISH_SIMULATOR_URL"
REFERENCE = "os.environ/"
CONFIG_BYTES_MAX = 8 * 1024 * 1024


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """The configured models; `simulated` are those whose `api_base` is the simulator's.

    `key_variables` are the environment variables from which the simulated ones take their key.
    """

    names: tuple[str, ...]
    simulated: tuple[str, ...]
    key_variables: tuple[str, ...]

    @property
    def chat(self) -> str | None:
        """A model to try a chat call with: the first that is not an embedding model by its name."""
        return next((name for name in self.names if "embed" not in name), None)


def read_models(path: Path) -> Models:
    """Read config.yaml. The proxy checks it in full; here only what cannot be read at all raises UpError."""
    try:
        with path.open("rb") as file:
            document: object = yaml.safe_load(file.read(CONFIG_BYTES_MAX))
    except (OSError, yaml.YAMLError) as error:
        raise UpError(f"{path} cannot be read as YAML: {error}. Correct it, or set TUNDISH_CONFIG.") from None
    names: list[str] = []
    simulated: list[str] = []
    keys: list[str] = []
    for name, options in _entries(document):
        names.append(name)
        if str(options.get("api_base", "")).rstrip("/") == REFERENCE + SIMULATOR_VARIABLE:
            simulated.append(name)
            key = str(options.get("api_key", ""))
            if key.startswith(REFERENCE):
                keys.append(key.removeprefix(REFERENCE))
    unique = (tuple(dict.fromkeys(found)) for found in (names, simulated, keys))
    return Models(**dict(zip(("names", "simulated", "key_variables"), unique, strict=True)))


def _entries(document: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and options of every well-formed entry of `model_list`."""
    models = _mapping(document).get("model_list")
    for entry in cast("list[object]", models) if isinstance(models, list) else []:
        name = _mapping(entry).get("model_name")
        if isinstance(name, str):
            yield name, _mapping(_mapping(entry).get("litellm_params"))


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
