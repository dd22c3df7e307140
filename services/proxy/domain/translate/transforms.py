"""The translations as changes of a reply on its way to the caller."""

from services.proxy.domain.asked import Asked
from services.proxy.domain.deployments import Translation
from services.proxy.domain.transform import Transform
from services.proxy.domain.translate.chat_reply import to_chat_reply
from services.proxy.domain.translate.chat_stream import ChatStream
from services.proxy.domain.translate.chat_tools import wants_json
from services.proxy.domain.translate.messages_reply import to_message_reply
from services.proxy.domain.translate.messages_stream import MessageStream


class _ToChat:
    """A Claude deployment's reply for a caller of chat completions."""

    def __init__(self, asked: Asked, sent: bytes, created: int) -> None:
        self._model = asked.model
        self._created = created
        self._stream = ChatStream(
            model=asked.model,
            include_usage=asked.include_usage,
            created=created,
            wants_json=asked.stream and wants_json(sent),
        )

    def whole(self, body: bytes) -> bytes:
        return to_chat_reply(body, model=self._model, created=self._created)

    def feed(self, frame: bytes) -> bytes:
        return self._stream.feed(frame)

    def end(self) -> bytes:
        return self._stream.end()

    def text(self, message: str) -> str:
        return message


class _ToMessages:
    """A chat deployment's reply for a caller of Messages."""

    def __init__(self, asked: Asked, message_id: str) -> None:
        self._model = asked.model
        self._message_id = message_id
        self._stream = MessageStream(model=asked.model, message_id=message_id)

    def whole(self, body: bytes) -> bytes:
        return to_message_reply(body, model=self._model, message_id=self._message_id)

    def feed(self, frame: bytes) -> bytes:
        return self._stream.feed(frame)

    def end(self) -> bytes:
        return self._stream.end()

    def text(self, message: str) -> str:
        return message


def translation_of(name: Translation, asked: Asked, sent: bytes, *, call_id: str, created: int) -> Transform:
    """The change that a translated call's reply goes through. `sent` is the body that Foundry gets; `created` is in
    Unix seconds."""
    if name == "chat_to_messages":
        return _ToChat(asked, sent, created)
    return _ToMessages(asked, f"msg_{call_id.replace('-', '')}")
