"""Options that say what a budget is, and the fields of a request that they become."""

import argparse
from argparse import Namespace

from shared.money import MoneyError, nusd_from_usd
from shared.windows import WindowError, parse_duration

Json = dict[str, object]
CLEARABLE = (
    "max_budget", "soft_budget", "budget_duration", "budget_timezone", "budget_limits", "model_max_budget",
    "budget_thresholds", "budget_mode", "rpm_limit", "tpm_limit", "max_parallel_requests",
)  # fmt: skip


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """The options of a budget, of a key's own or of a budget object."""
    parser.add_argument("--max-budget", type=dollars, metavar="USD")
    parser.add_argument("--soft-budget", type=dollars, metavar="USD", help="warn at this amount")
    parser.add_argument("--budget-duration", metavar="30d|1mo|…", help="window of --max-budget")
    parser.add_argument("--budget-timezone", metavar="ZONE", help="for windows of days and more, such as Europe/Berlin")
    parser.add_argument(
        "--budget-limit", type=_window, action="append", metavar="DURATION=USD", help="a further limit; may be repeated"
    )
    parser.add_argument(
        "--model-budget",
        type=_model_budget,
        action="append",
        metavar="MODEL=USD[/DURATION]",
        help="a limit for models that match, such as 'gpt-4*=5/1d'; may be repeated",
    )
    parser.add_argument(
        "--threshold", type=positive, action="append", metavar="PERCENT", help="warn at this percent; may be repeated"
    )
    parser.add_argument("--budget-mode", choices=("default", "strict"), help="strict: never passed, not by one call")
    parser.add_argument("--rpm-limit", type=positive, metavar="N", help="requests per minute")
    parser.add_argument("--tpm-limit", type=positive, metavar="N", help="tokens per minute")
    parser.add_argument("--max-parallel", type=positive, metavar="N", help="calls in flight at once")


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """What a key has beside a budget of its own."""
    parser.add_argument("--budget-id", metavar="ID", help="a budget object instead of a budget of its own")
    for name, text in (("rpm", "requests"), ("tpm", "tokens")):
        parser.add_argument(
            f"--model-{name}",
            type=_count,
            action="append",
            metavar="MODEL=N",
            help=f"{text} per minute for models that match; may be repeated",
        )


def budget_fields(options: Namespace) -> Json:
    """The fields of a request that the options of a budget say."""
    return given(
        {
            "max_budget": options.max_budget,
            "soft_budget": options.soft_budget,
            "budget_duration": options.budget_duration,
            "budget_timezone": options.budget_timezone,
            "budget_limits": options.budget_limit,
            "model_max_budget": dict(options.model_budget or ()) or None,
            "budget_thresholds": options.threshold,
            "budget_mode": options.budget_mode,
            "rpm_limit": options.rpm_limit,
            "tpm_limit": options.tpm_limit,
            "max_parallel_requests": options.max_parallel,
        }
    )


def key_fields(options: Namespace) -> Json:
    """The fields of a request that the further options of a key say."""
    return given(
        {
            "budget_id": options.budget_id,
            "model_rpm_limit": dict(options.model_rpm or ()) or None,
            "model_tpm_limit": dict(options.model_tpm or ()) or None,
        }
    )


def given(fields: Json) -> Json:
    """Without the fields that nothing was said about."""
    return {name: value for name, value in fields.items() if value is not None}


def dollars(text: str) -> float:
    """Dollars; `nan` must not become "no limit" on its way through JSON."""
    try:
        nusd_from_usd(text)
    except MoneyError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return float(text)


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _window(text: str) -> Json:
    duration, amount = _pair(text, "1d=5")
    return {"budget_duration": _duration(duration), "max_budget": dollars(amount)}


def _model_budget(text: str) -> tuple[str, Json]:
    model, rest = _pair(text, "gpt-4*=5/1d")
    amount, _, duration = rest.partition("/")
    terms: Json = {"budget_limit": dollars(amount)}
    return model, terms | ({"time_period": _duration(duration)} if duration else {})


def _count(text: str) -> tuple[str, int]:
    model, count = _pair(text, "gpt-4*=60")
    return model, positive(count)


def _pair(text: str, example: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=")
    if not name or not sign or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form {example}")
    return name, value


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except WindowError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
