"""One model name in two dialects: chat completions for Claude deployments, Messages for chat deployments.

Pure: bytes in, bytes out. Requests raise BadRequest, replies and streams raise Untranslatable.
"""

from services.proxy.domain.translate.chat_reply import to_chat_reply
from services.proxy.domain.translate.chat_request import to_messages
from services.proxy.domain.translate.chat_stream import ChatStream
from services.proxy.domain.translate.messages_reply import to_message_reply
from services.proxy.domain.translate.messages_request import to_chat
from services.proxy.domain.translate.messages_stream import MessageStream
from services.proxy.domain.translate.wire import Untranslatable

__all__ = [
    "ChatStream",
    "MessageStream",
    "Untranslatable",
    "to_chat",
    "to_chat_reply",
    "to_message_reply",
    "to_messages",
]
