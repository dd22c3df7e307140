"""`tundish team …`: teams and their members."""

from argparse import Namespace

from services.cli.asking import confirm
from services.cli.bodies import cleared, scope_fields, show_record, tell
from services.cli.client import Client, Json
from services.cli.limits import given
from services.cli.output import (
    Column,
    limit,
    plain,
    print_json,
    print_record,
    print_table,
    record_of,
    rows_of,
    warn,
)

LIST_COLUMNS: tuple[Column, ...] = (
    ("TEAM", "team_id", plain),
    ("ALIAS", "team_alias", plain),
    ("ORG", "organization_id", plain),
    ("MODELS", "models", plain),
    ("LIMIT", "max_budget|budget_limits|model_max_budget", limit),
    ("WINDOW", "budget_duration", plain),
    ("BLOCKED", "blocked", plain),
)
MEMBER_COLUMNS: tuple[Column, ...] = (
    ("MEMBER", "user_id", plain),
    ("E-MAIL", "user_email", plain),
    ("ROLE", "role", plain),
)


def new(client: Client, options: Namespace) -> int:
    """Make a team."""
    body = given({"team_id": options.id, "organization_id": options.org}) | _settings(options)
    return show_record(client.post("/team/new", body), options)


def show_list(client: Client, options: Namespace) -> int:
    """All teams within reach."""
    answer = client.get("/team/list", {"organization_id": options.org})
    if options.json:
        print_json(answer)
    else:
        print_table(rows_of(answer, "teams"), LIST_COLUMNS, "There is no team: `tundish team new` makes one.")
    return 0


def info(client: Client, options: Namespace) -> int:
    """All about one team."""
    answer = client.get("/team/info", {"team_id": options.id})
    if options.json:
        print_json(answer)
        return 0
    record = dict(record_of(answer, "team_info"))
    members = rows_of(record.pop("members_with_roles", None))
    print_record(record)
    if members:
        print()
        print_table(members, MEMBER_COLUMNS, "")
    warn(record_of(answer, ""))
    return 0


def update(client: Client, options: Namespace) -> int:
    """Change a team."""
    body: Json = {"team_id": options.id} | cleared(options) | _settings(options)
    return show_record(client.post("/team/update", body), options)


def block(client: Client, options: Namespace) -> int:
    """Refuse all keys of a team."""
    confirm(options, f"Refuse all keys of the team {options.id!r}?")
    return tell(client.post("/team/block", {"team_id": options.id}), options, "blocked: its keys are refused now")


def unblock(client: Client, options: Namespace) -> int:
    """Let a team's keys work again."""
    return tell(client.post("/team/unblock", {"team_id": options.id}), options, "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End a team and its keys."""
    confirm(options, f"End the team {options.id!r} and all of its keys for good?")
    answer = client.post("/team/delete", {"team_ids": [options.id]})
    return tell(answer, options, "deleted: its keys are refused now")


def member_add(client: Client, options: Namespace) -> int:
    """Let a user belong to the team."""
    member = _who(options) | {"role": options.role}
    return _member(client, options, "/team/member_add", {"member": member}, "added")


def member_update(client: Client, options: Namespace) -> int:
    """Change a member's role."""
    return _member(client, options, "/team/member_update", _who(options) | {"role": options.role}, "changed")


def member_remove(client: Client, options: Namespace) -> int:
    """Take a member out."""
    confirm(options, f"Take {options.user or options.email!r} out of the team, and end the keys of that member in it?")
    return _member(client, options, "/team/member_delete", _who(options), "removed")


def _member(client: Client, options: Namespace, path: str, body: Json, done: str) -> int:
    return tell(client.post(path, {"team_id": options.id} | body), options, done)


def _who(options: Namespace) -> Json:
    return given({"user_id": options.user, "user_email": options.email})


def _settings(options: Namespace) -> Json:
    own: Json = {"team_alias": options.alias, "default_key_budget_id": options.default_key_budget}
    return given(own) | scope_fields(options, "model_aliases")
