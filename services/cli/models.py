"""`tundish models list`: the models that are served."""

from argparse import Namespace

from services.cli.client import Client, Json
from services.cli.output import Column, plain, print_json, print_table, record_of, rows_of
from shared.pricing import UNITS_PER_PRICE

COLUMNS: tuple[Column, ...] = (
    ("MODEL", "model", plain),
    ("MODE", "mode", plain),
    ("DEPLOYMENT", "deployment", plain),
    ("INPUT", "input", plain),
    ("OUTPUT", "output", plain),
    ("CONTEXT", "context", plain),
    ("WHERE", "where", plain),
)


def show_list(client: Client, options: Namespace) -> int:
    """All models, one row a deployment; prices in dollars per million tokens."""
    answer = client.get("/v1/model/info")
    if options.json:
        print_json(answer)
        return 0
    rows = [_row(entry) for entry in rows_of(answer, "data")]
    print_table(rows, COLUMNS, "No model is configured: model_list in the configuration has them.")
    return 0


def _row(entry: Json) -> Json:
    params = record_of(entry, "litellm_params") if "litellm_params" in entry else {}
    info = record_of(entry, "model_info") if "model_info" in entry else {}
    return {
        "model": entry.get("model_name"),
        "mode": info.get("mode"),
        "deployment": params.get("model"),
        "input": _million(info.get("input_cost_per_token")),
        "output": _million(info.get("output_cost_per_token")),
        "context": info.get("max_input_tokens"),
        "where": params.get("api_base"),
    }


def _million(rate: object) -> object:
    """Dollars per token as dollars per million tokens."""
    return round(rate * UNITS_PER_PRICE, 6) if isinstance(rate, int | float) else None
