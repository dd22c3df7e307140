"""Teams, organizations and people, built from the parts of the service."""

from services.auth.api.operations import Operation
from services.auth.api.people import member_operations, user_operations
from services.auth.api.scopes import org_operations, team_operations
from services.auth.parts import Parts
from services.auth.people.finding import Meeting
from services.auth.people.members import Members
from services.auth.people.users import Mint, Users
from services.auth.scopes.cascade import Cascade
from services.auth.scopes.ending import Ending
from services.auth.scopes.orgs import Orgs
from services.auth.scopes.teams import Teams
from services.auth.store_cascade import CascadeViews
from services.auth.store_database import Database


class Scopes:
    """The use cases of scopes and people. `cascade` runs as a task for as long as the service does."""

    def __init__(self, parts: Parts, database: Database) -> None:
        self._parts = parts
        self._meeting = Meeting(parts)
        self._teams = Teams(parts, self._meeting)
        self.orgs = Orgs(parts, self._teams)
        self.cascade = Cascade(
            parts.commits, CascadeViews(database), parts.users, parts.revoking, parts.relay, parts.clock
        )

    def operations(self, mint: Mint) -> list[Operation]:
        """The rows of the API; `mint` makes keys."""
        ending = Ending(self._parts, self._teams, self.cascade)
        members = Members(self._parts, self._meeting, self._teams, self.cascade)
        return [
            *team_operations(self._teams, ending),
            *member_operations(members),
            *org_operations(self.orgs, ending),
            *user_operations(Users(self._parts, self._meeting, self.cascade, mint)),
        ]
