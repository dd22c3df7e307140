"""Sealing the ids in what Foundry says: whole replies, streams, and the texts of its errors.

Ids are found by their place in the JSON and then exchanged as quoted bytes, so that everything else passes unchanged.
An id whose place is not known stays as it is, which shows a caller a name that opens nothing.
"""

import re
from collections.abc import Callable, Iterator

import msgspec

from services.proxy.domain.objects.positions import Found, Object, as_object, in_chat_reply, in_event, in_response
from services.proxy.domain.objects.seal import Kind, Seal, is_upstream_id
from services.proxy.domain.sse import data_of

KNOWN_MAX = 10_000
"""Ids of one stream that are remembered; more are sealed anew each time."""
_TEXT_ID = re.compile(r"\b(?:resp_|msg_|rs_|fc_|file-|assistant-|batch_|cntr_)[A-Za-z0-9]{8,200}\b")
_TEXT_KINDS: tuple[tuple[str, Kind], ...] = (
    ("resp_", "response"), ("file-", "file"), ("assistant-", "file"), ("batch_", "batch"), ("cntr_", "container"),
)  # fmt: skip
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class SealingTransform:
    """Seals the ids of one reply of Responses; a `Transform`."""

    def __init__(self, seal: Seal, owner: str, deployment: str) -> None:
        self._seal = seal
        self._owner = owner
        self._deployment = deployment
        self._known: dict[tuple[Kind, str], bytes] = {}

    def whole(self, body: bytes) -> bytes:
        """A response object or a list of items for the caller."""
        return self.exchange(body, in_response)

    def feed(self, frame: bytes) -> bytes:
        """One event of a stream for the caller."""
        if b'id"' not in frame and b'_ids"' not in frame and b'"error"' not in frame:
            return frame
        return self.exchange(frame, in_event, data_of(frame))

    def end(self) -> bytes:
        """Nothing is held back."""
        return b""

    def text(self, message: str) -> str:
        """A text of Foundry's with the ids in it sealed."""
        return seal_text(message, self._seal, self._owner, self._deployment)

    def exchange(
        self, data: bytes, places: Callable[[object], Iterator[Found]], document_bytes: bytes | None = None
    ) -> bytes:
        """Bytes with the ids sealed that stand in these places of their JSON."""
        document = _decoded(data if document_bytes is None else document_bytes)
        if document is None:
            return data
        found = _safely(places, document)
        for one in {(one.kind, one.text): one for one in found if is_upstream_id(one.text)}.values():
            data = data.replace(b'"%s"' % one.text.encode(), self._sealed(one))
        for message in _error_texts(document):
            told = self.text(message)
            if told != message:
                data = data.replace(msgspec.json.encode(message), msgspec.json.encode(told))
        return data

    def _sealed(self, found: Found) -> bytes:
        name = (found.kind, found.text)
        known = self._known.get(name)
        if known is None:
            known = b'"%s"' % self._seal.seal(found.kind, self._owner, self._deployment, found.text).encode()
            if len(self._known) < KNOWN_MAX:
                self._known[name] = known
        return known


class SoundSealing(SealingTransform):
    """Seals the ids by which a chat's later requests name the sound of its replies."""

    def whole(self, body: bytes) -> bytes:
        """A chat completion for the caller."""
        return self.exchange(body, in_chat_reply)

    def feed(self, frame: bytes) -> bytes:
        """One event of a stream for the caller."""
        return self.exchange(frame, in_chat_reply, data_of(frame)) if b'"audio"' in frame else frame


def seal_text(message: str, seal: Seal, owner: str, deployment: str) -> str:
    """A text of Foundry's in which every id it names is sealed for the caller."""

    def sealed(match: re.Match[str]) -> str:
        found = match[0]
        kinds: list[Kind] = [kind for prefix, kind in _TEXT_KINDS if found.startswith(prefix)]
        return seal.seal(kinds[0] if kinds else "item", owner, deployment, found)

    return _TEXT_ID.sub(sealed, message)


def as_text(raw: msgspec.Raw | None) -> str | None:
    """The string a field holds; None if it holds none."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    return msgspec.json.decode(raw, type=str)


def _decoded(data: bytes) -> Object | None:
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        return as_object(msgspec.json.decode(data))
    except _UNREADABLE:
        return None


def _safely(read: Callable[[object], Iterator[Found]], document: Object) -> list[Found]:
    try:
        return list(read(document))
    except _UNREADABLE:
        return []


def _error_texts(document: Object) -> list[str]:
    """The texts of an error, where events and responses carry one."""
    places = (document, as_object(document.get("error")), as_object(document.get("response")))
    inner = as_object((places[2] or {}).get("error"))
    return [
        text for place in (*places[:2], inner) if place is not None and isinstance(text := place.get("message"), str)
    ]
