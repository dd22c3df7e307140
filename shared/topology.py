"""Every stream, bucket, consumer and subject, and who may use which: the one table of the bus.

`tundish migrate` applies it under the admin user; services only verify. `nats.conf` is generated from
`PERMISSIONS`.
"""

from zlib import crc32

import msgspec

MIB = 1024 * 1024
GIB = 1024 * MIB

# ---- streams -----------------------------------------------------------------------------------------


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's settings; `max_age_s` 0 keeps for ever, `max_bytes` -1 is unbounded."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age_s: int = 0
    discard_new: bool = True
    deny_delete: bool = True
    deny_purge: bool = False
    duplicate_window_s: int = 120
    max_msg_size: int = 4 * MIB


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value bucket; `ttl_s` 0 keeps for ever."""

    name: str
    max_bytes: int
    ttl_s: int = 0
    history: int = 1
    max_value_size: int = 256 * 1024


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer made at migration, so that no service may choose where messages go."""

    stream: str
    durable: str
    filter_subject: str
    ack_wait_s: int = 60
    max_ack_pending: int = 2_000


AUTH = "AUTH"
LEDGER = "LEDGER"
SIGNALS = "SIGNALS"
WORK = "WORK"

STREAMS = (
    Stream(name=AUTH, subjects=("auth.>",), max_bytes=4 * GIB, deny_purge=True),
    Stream(name=LEDGER, subjects=("usage.v1.>", "grant.v1.>"), max_bytes=16 * GIB),
    Stream(name=SIGNALS, subjects=("signal.>",), max_bytes=GIB, max_age_s=90 * 86_400, discard_new=False),
    Stream(name=WORK, subjects=("work.>",), max_bytes=256 * MIB, max_age_s=7 * 86_400, discard_new=False),
)

KEYS_BUCKET = "keys"
REVOKED_BUCKET = "revoked"
CATALOG_BUCKET = "catalog"
LEASES_BUCKET = "leases"
BUDGETS_BUCKET = "budgets"
SNAPSHOTS_BUCKET = "snapshots"
OBJECTS_BUCKET = "objects"
PENDING_BUCKET = "pending"

LEASE_TTL_S = 3
"""How long a lease lives without renewal; it says who answers, it does not protect the money."""

OBJECTS_TTL_S = 90 * 86_400
"""How long the record of a stored object is kept after its last change: beyond it the object is not listed any more."""
PENDING_TTL_S = 40 * 86_400
"""How long work that is still to be charged is kept after somebody last looked at it, and the note that it was."""

BUCKETS = (
    Bucket(name=KEYS_BUCKET, max_bytes=2 * GIB),
    Bucket(name=REVOKED_BUCKET, max_bytes=256 * MIB),
    Bucket(name=CATALOG_BUCKET, max_bytes=256 * MIB),
    Bucket(name=BUDGETS_BUCKET, max_bytes=256 * MIB),
    Bucket(name=SNAPSHOTS_BUCKET, max_bytes=4 * GIB, max_value_size=MIB),
    Bucket(name=OBJECTS_BUCKET, max_bytes=GIB, ttl_s=OBJECTS_TTL_S),
    Bucket(name=PENDING_BUCKET, max_bytes=256 * MIB, ttl_s=PENDING_TTL_S),
    Bucket(name=LEASES_BUCKET, max_bytes=MIB, ttl_s=LEASE_TTL_S, max_value_size=4096),
)

BOOKKEEPER_DURABLE = "bookkeeper"
SUBSCRIBER_DURABLE = "subscriber"
ROTATION_DURABLE = "rotation"
REHASH_DURABLE = "rehash"
CONSUMERS = (
    Consumer(stream=LEDGER, durable=BOOKKEEPER_DURABLE, filter_subject="usage.v1.>"),
    Consumer(stream=SIGNALS, durable=SUBSCRIBER_DURABLE, filter_subject="signal.>"),
    Consumer(stream=WORK, durable=ROTATION_DURABLE, filter_subject="work.rotation.v1.*", ack_wait_s=30),
    Consumer(stream=WORK, durable=REHASH_DURABLE, filter_subject="work.rehash.v1.*", ack_wait_s=30),
)

# ---- subjects ----------------------------------------------------------------------------------------

MESSAGE_BYTES_MAX = 512 * 1024
"""The most one published message carries; larger batches are cut."""


def partition_of(org_id: str, partitions: int) -> int:
    """The ledger partition of an organization: all of its money lives in one."""
    return crc32(org_id.encode()) % partitions


def auth_subject(event_type: str, stream_id: str) -> str:
    """Where an event of auth goes, such as `auth.key.issued.v1.<id>`."""
    return f"auth.{event_type}.{stream_id}"


CORRECTIONS = "corrections"
"""The instance under which the bookkeeper publishes corrections, dense in `n` per partition like any other."""


def usage_subject(partition: int | str, instance: str) -> str:
    """Where a proxy instance (or the bookkeeper, as CORRECTIONS) publishes usage."""
    return f"usage.v1.{partition}.{instance}"


def grant_subject(partition: int, instance: str) -> str:
    """Where an enforcer's start appends its decisions."""
    return f"grant.v1.{partition}.{instance}"


def grant_fence(partition: int) -> str:
    """All decisions of a partition: the subject whose last sequence fences two enforcers off."""
    return f"grant.v1.{partition}.>"


def allot_subject(partition: int) -> str:
    """Where proxies ask the enforcer of a partition (request and reply, not stored)."""
    return f"allot.v1.{partition}"


def recall_subject(partition: int, instance: str) -> str:
    """Where the enforcer of a partition asks one proxy instance for idle money (not stored)."""
    return f"recall.v1.{partition}.{instance}"


GOSSIP_SUBJECT = "gossip.v1.limits"
"""Where proxy instances tell each other what they have admitted under rate limits (not stored)."""


def signal_subject(kind: str, scope_kind: str, scope_id: str) -> str:
    """Where a budget signal for people goes, such as `signal.budget.exceeded.v1.team.<id>`."""
    return f"signal.{kind}.v1.{scope_kind}.{scope_id}"


def rotation_subject(key_id: str) -> str:
    """Where the scheduler says that a key's secret is due to be replaced."""
    return f"work.rotation.v1.{key_id}"


def rehash_subject(key_id: str) -> str:
    """Where a proxy says that it saw a secret which is stored under an older pepper."""
    return f"work.rehash.v1.{key_id}"


APPLIED_SUBJECT = "fleet.v1.applied"
"""Where proxies say up to which revision of `revoked` they refuse (not stored)."""


def secret_kv(label: str, digest: str) -> str:
    """The key of a secret's record in `keys` (and of its revocation in `revoked`)."""
    return f"s.{label}.{digest}"


def key_kv(key_id: str) -> str:
    """The key of a key's policy in `keys` (and of its revocation in `revoked`)."""
    return f"k.{key_id}"


def team_kv(team_id: str) -> str:
    """The key of a team's policy in `keys`."""
    return f"t.{team_id}"


def org_kv(org_id: str) -> str:
    """The key of an organization's policy in `keys`."""
    return f"o.{org_id}"


def price_kv(price_id: str) -> str:
    """The key of a price row in `catalog`."""
    return f"p.{price_id}"


def snapshot_kv(partition: int) -> str:
    """The key of a partition's newest snapshot's manifest in `snapshots`."""
    return f"ledger.{partition}"


def chunk_kv(snapshot: str, number: int) -> str:
    """The key of one chunk of a snapshot in `snapshots`."""
    return f"chunk.{snapshot}.{number}"


def object_kv(owner: str, kind: str, digest: str) -> str:
    """The key of a stored object's record in `objects`; `owner` and `digest` are hashes."""
    return f"{owner}.{kind}.{digest}"


def pending_kv(kind: str, call_id: str) -> str:
    """The key in `pending` of work that Foundry does for a call that is over: `batch` or `response`."""
    return f"{kind}.{call_id}"


def slot_kv(partition: int) -> str:
    """The key in `pending` of what is being charged at the moment: one thing at a time in a partition."""
    return f"slot.{partition}"


def lease_kv(partition: int) -> str:
    """The key of the enforcer's lease in `leases`."""
    return f"ledger.{partition}"


# ---- who may what ------------------------------------------------------------------------------------


SERVICES_ACCOUNT = "TUNDISH"
SUBSCRIBERS_ACCOUNT = "SUBSCRIBERS"
"""Integrations live in a NATS account of their own, into which signals are imported. There they can neither see nor
reach anything else, and above all make no consumers: who may make a consumer can write to any subject."""


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What one NATS user may publish and subscribe to; `respond` allows answers to requests."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    respond: bool = False
    account: str = SERVICES_ACCOUNT


def inbox_prefix(user: str) -> str:
    """Each user has its own inbox, so that no service can read another's answers."""
    return f"_INBOX_{user}"


def _reads(stream: str) -> tuple[str, ...]:
    """The API calls for reading a stream through an ordered consumer of one's own."""
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
    )


def _watches(bucket: str) -> tuple[str, ...]:
    return _reads(f"KV_{bucket}")


def _writes(bucket: str, keys: str = ">") -> tuple[str, ...]:
    return (f"$JS.API.STREAM.INFO.KV_{bucket}", f"$KV.{bucket}.{keys}")


def _pulls(stream: str, durable: str) -> tuple[str, ...]:
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
    )


def _user(name: str, *publish: tuple[str, ...], subscribe: tuple[str, ...] = (), respond: bool = False) -> Permissions:
    return Permissions(
        publish=tuple(sorted({subject for group in publish for subject in group})),
        subscribe=(f"{inbox_prefix(name)}.>", *subscribe),
        respond=respond,
    )


PERMISSIONS: dict[str, Permissions] = {
    "admin": Permissions(publish=(">",), subscribe=(">",)),
    "auth": _user(
        "auth",
        ("auth.>", "signal.rotation.>", "signal.key.>"),
        _reads(AUTH),
        _pulls(WORK, ROTATION_DURABLE),
        _pulls(WORK, REHASH_DURABLE),
        (f"$JS.API.STREAM.INFO.{SIGNALS}",),
        _watches(KEYS_BUCKET),
        _writes(KEYS_BUCKET),
        _watches(REVOKED_BUCKET),
        _writes(REVOKED_BUCKET),
        subscribe=(APPLIED_SUBJECT,),
    ),
    "proxy": _user(
        "proxy",
        ("usage.v1.>", "allot.v1.*", GOSSIP_SUBJECT, APPLIED_SUBJECT, "work.rehash.v1.*"),
        (f"$JS.API.STREAM.INFO.{LEDGER}",),
        _watches(BUDGETS_BUCKET),
        _watches(KEYS_BUCKET),
        _watches(REVOKED_BUCKET),
        _watches(CATALOG_BUCKET),
        _writes(CATALOG_BUCKET, "p.*"),
        _watches(OBJECTS_BUCKET),
        _writes(OBJECTS_BUCKET),
        _watches(PENDING_BUCKET),
        _writes(PENDING_BUCKET),
        subscribe=("recall.v1.>", GOSSIP_SUBJECT),
    ),
    "enforcer": _user(
        "enforcer",
        ("grant.v1.>", "signal.budget.>", "recall.v1.>"),
        _reads(AUTH),
        _reads(LEDGER),
        _watches(LEASES_BUCKET),
        _writes(LEASES_BUCKET),
        _watches(BUDGETS_BUCKET),
        _writes(BUDGETS_BUCKET),
        _watches(SNAPSHOTS_BUCKET),
        _writes(SNAPSHOTS_BUCKET),
        (f"$JS.API.STREAM.INFO.{SIGNALS}",),
        subscribe=("allot.v1.*",),
        respond=True,
    ),
    "bookkeeper": _user(
        "bookkeeper",
        (usage_subject("*", CORRECTIONS),),
        _reads(AUTH),
        _reads(LEDGER),
        _pulls(LEDGER, BOOKKEEPER_DURABLE),
        _watches(KEYS_BUCKET),
        _watches(CATALOG_BUCKET),
        _watches(REVOKED_BUCKET),
    ),
    "scheduler": _user(
        "scheduler",
        ("work.rotation.v1.*",),
        _reads(AUTH),
        _reads(SIGNALS),
        (f"$JS.API.STREAM.INFO.{WORK}",),
        _watches(KEYS_BUCKET),
        _watches(REVOKED_BUCKET),
    ),
    "subscriber": Permissions(
        publish=(
            f"$JS.ACK.{SIGNALS}.{SUBSCRIBER_DURABLE}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{SIGNALS}.{SUBSCRIBER_DURABLE}",
        ),
        subscribe=(f"{inbox_prefix('subscriber')}.>", "signal.>"),
        account=SUBSCRIBERS_ACCOUNT,
    ),
}

SUBSCRIBER_IMPORTS = ("signal.>",)
"""What the account of the integrations hears live."""
