"""`tundish org …`: organizations."""

from argparse import Namespace

from services.cli.asking import confirm
from services.cli.bodies import cleared, scope_fields, show_record, tell
from services.cli.client import Client, Json
from services.cli.limits import given
from services.cli.output import Column, limit, plain, print_json, print_table, rows_of

LIST_COLUMNS: tuple[Column, ...] = (
    ("ORG", "organization_id", plain),
    ("ALIAS", "organization_alias", plain),
    ("MODELS", "models", plain),
    ("LIMIT", "max_budget|budget_limits|model_max_budget", limit),
    ("WINDOW", "budget_duration", plain),
    ("BLOCKED", "blocked", plain),
)


def new(client: Client, options: Namespace) -> int:
    """Make an organization."""
    body = given({"organization_id": options.id}) | _settings(options)
    return show_record(client.post("/organization/new", body), options)


def show_list(client: Client, options: Namespace) -> int:
    """All organizations within reach."""
    answer = client.get("/organization/list")
    if options.json:
        print_json(answer)
    else:
        print_table(rows_of(answer), LIST_COLUMNS, "There is no organization within reach of this key.")
    return 0


def info(client: Client, options: Namespace) -> int:
    """All about one organization."""
    return show_record(client.get("/organization/info", {"organization_id": options.id}), options)


def update(client: Client, options: Namespace) -> int:
    """Change an organization."""
    body: Json = {"organization_id": options.id} | cleared(options) | _settings(options)
    return show_record(client.post("/organization/update", body), options)


def block(client: Client, options: Namespace) -> int:
    """Refuse all keys of an organization."""
    confirm(options, f"Refuse all keys of the organization {options.id!r}?")
    answer = client.post("/organization/block", {"organization_id": options.id})
    return tell(answer, options, "blocked: its keys are refused now")


def unblock(client: Client, options: Namespace) -> int:
    """Let an organization's keys work again."""
    return tell(client.post("/organization/unblock", {"organization_id": options.id}), options, "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End an organization with its teams and keys."""
    confirm(options, f"End the organization {options.id!r} with all of its teams and keys for good?")
    answer = client.post("/organization/delete", {"organization_ids": [options.id]})
    return tell(answer, options, "deleted: its keys are refused now")


def member_add(client: Client, options: Namespace) -> int:
    """Let a user belong to an organization."""
    body: Json = {"organization_id": options.id, "member": _who(options)}
    return tell(client.post("/organization/member_add", body), options, "added")


def member_remove(client: Client, options: Namespace) -> int:
    """A user belongs to it no longer."""
    confirm(options, f"Take {options.user or options.email!r} out of the organization?")
    body: Json = {"organization_id": options.id} | _who(options)
    return tell(client.post("/organization/member_delete", body), options, "removed")


def _who(options: Namespace) -> Json:
    return given({"user_id": options.user, "user_email": options.email})


def _settings(options: Namespace) -> Json:
    return given({"organization_alias": options.alias}) | scope_fields(options, "model_aliases")
