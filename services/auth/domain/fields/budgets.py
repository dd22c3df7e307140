"""The fields of requests about budget objects."""

from services.auth.domain.fields.base import COMMON, MONEY, RATE, RATES, Fields

BUDGET = Fields(
    known=("budget_id", *MONEY, *RATES),
    refused={
        "budget_reset_at": COMMON["budget_reset_at"],
        "tpd_limit": RATE,
        "model_rpm_limit": "limits per model are set on keys, teams and organizations; leave it out",
        "model_tpm_limit": "limits per model are set on keys, teams and organizations; leave it out",
        "temp_budget_increase": "a temporary increase is given to a key, team or organization; leave it out",
        "temp_budget_expiry": "a temporary increase is given to a key, team or organization; leave it out",
    },
)
NAME_BUDGETS = Fields(known=("budgets",), refused={})
NAME_BUDGET = Fields(known=("id", "budget_id"), refused={})
