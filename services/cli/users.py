"""`tundish user …`: people."""

from argparse import Namespace

from services.cli.asking import confirm
from services.cli.bodies import show_record, tell
from services.cli.client import Client, Json, Query
from services.cli.keys import show_secret
from services.cli.limits import given
from services.cli.output import Column, plain, print_json, print_page, print_table, record_of, rows_of

LIST_COLUMNS: tuple[Column, ...] = (
    ("USER", "user_id", plain),
    ("E-MAIL", "user_email", plain),
    ("ALIAS", "user_alias", plain),
    ("ROLE", "user_role", plain),
    ("ORGS", "organizations", plain),
    ("CREATED", "created_at", plain),
)


def new(client: Client, options: Namespace) -> int:
    """Make a user, and a key that is shown once."""
    own: Json = {
        "user_id": options.id,
        "teams": options.team,
        "auto_create_key": False if options.no_key else None,
        "key_alias": options.key_alias,
        "duration": options.duration,
    }
    body = given(own) | _settings(options)
    answer = client.post("/user/new", body)
    if not record_of(answer, "").get("key"):
        return show_record(answer, options)
    return show_secret(answer, options)


def show_list(client: Client, options: Namespace) -> int:
    """The users, a page of them."""
    query: Query = {
        "page": options.page,
        "page_size": options.size,
        "role": options.role,
        "user_email": options.email,
        "team": options.team,
    }
    answer = client.get("/user/list", query)
    if options.json:
        print_json(answer)
        return 0
    print_table(rows_of(answer, "users"), LIST_COLUMNS, "There is no user: `tundish user new` makes one.")
    print_page(answer)
    return 0


def info(client: Client, options: Namespace) -> int:
    """All about one user."""
    return show_record(client.get("/user/info", {"user_id": options.id}), options, "user_info")


def update(client: Client, options: Namespace) -> int:
    """Change a user."""
    return show_record(client.post("/user/update", {"user_id": options.id} | _settings(options)), options)


def delete(client: Client, options: Namespace) -> int:
    """End a user and the user's keys."""
    confirm(options, f"End the user {options.id!r} and all keys of this user for good?")
    answer = client.post("/user/delete", {"user_ids": [options.id]})
    return tell(answer, options, "deleted: the user's keys are refused now")


def _settings(options: Namespace) -> Json:
    return given(
        {
            "user_email": options.email,
            "user_alias": options.alias,
            "user_role": options.role,
            "organizations": options.org,
            "metadata": options.metadata,
        }
    )
