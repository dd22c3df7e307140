"""What of the stream AUTH is an event of auth."""

from datetime import UTC, datetime

import pytest

from shared.auth_log import FOREIGN, AuthLog, LaterEvent, auth_event
from shared.bus import Message
from shared.events import KeyBlocked, encode
from shared.ids import EventId, KeyId
from shared.telemetry import Metrics

EVENT = KeyBlocked(
    id=EventId("e1"),
    at=datetime(2026, 1, 1, tzinfo=UTC),
    source="auth/1",
    actor="master-key",
    key_id=KeyId("key_1"),
    position=3,
)
LATER = encode(EVENT).replace(b"key.blocked.v1", b"key.blocked.v9")
ACK = b'{"stream":"KV_objects", "seq":7}'
ANSWER = b'{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404}}'


def message(data: bytes, subject: str, seq: int = 5) -> Message:
    return Message(subject, data, seq, 0)


def test_an_event_under_its_own_subject_is_one() -> None:
    assert auth_event(message(encode(EVENT), "auth.key.blocked.v1.key_1")) == EVENT


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        (ACK, "auth.evil.v1.ack"),
        (ACK, "auth.key.blocked.v1.key_1"),
        (ANSWER, "auth.io.nats.jetstream.api.v1.stream_info_response.x"),
        (b"", "auth.key.blocked.v1.key_1"),
        (b"\xff\x00", "auth.x"),
        (encode(EVENT), "auth.key.unblocked.v1.key_1"),
        (encode(EVENT), "$KV.objects.evil.three"),
        (LATER, "auth.key.blocked.v1.key_1"),
    ],
)
def test_what_is_no_event_is_passed_over(data: bytes, subject: str) -> None:
    assert auth_event(message(data, subject)) is None


def test_an_event_of_a_later_version_is_not_passed_over_unasked() -> None:
    later = message(LATER, "auth.key.blocked.v9.key_1")
    with pytest.raises(LaterEvent, match="message 5"):
        auth_event(later)
    metrics = Metrics()
    assert AuthLog(metrics).known_event(later) is None
    assert f"\n{FOREIGN} ".encode() not in metrics.page()


def test_each_is_told_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    log = AuthLog(metrics)
    for seq in (5, 6, 5):
        assert log.event(message(ACK, "auth.evil\n.ack", seq)) is None
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == ["message 5", "message 6"]
    assert "\n" not in caplog.text.rstrip("\n").split("message 6")[1]
    assert f"{FOREIGN} 2".encode() in metrics.page()
