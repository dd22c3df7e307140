"""The models Foundry offers, by name: the beginning of a deployment's name says which one it serves."""

import re
from functools import lru_cache

MAX_REMEMBERED = 4_096
DATED_PATTERN = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})\Z")

NAMES: tuple[str, ...] = (
    "ada", "azure-stt", "azure-tts", "azure-tts-hd", "chat-latest", "claude-fable-5", "claude-fable-5-1",
    "claude-haiku-4-5", "claude-haiku-5-5", "claude-opus-4-5", "claude-opus-4-6", "claude-opus-4-7",
    "claude-opus-4-8", "claude-opus-5", "claude-opus-5-5", "claude-opus-5-5-fast", "claude-sonnet-4-5",
    "claude-sonnet-4-6", "claude-sonnet-5", "claude-sonnet-5-5", "Codestral-2501", "codex-mini", "cohere-command-a",
    "Cohere-command-a-plus-05-2026", "cohere-embed-v3", "Cohere-embed-v3-english", "Cohere-embed-v3-multilingual",
    "Cohere-Embed-V5-Fast", "Cohere-Embed-V5-Pro", "Cohere-parse-v5", "cohere-rerank-v3-english",
    "cohere-rerank-v3-multilingual", "cohere-rerank-v4.0", "cohere-rerank-v4.0-fast", "cohere-rerank-v4.0-pro",
    "command-r-plus", "computer-use-preview", "dall-e-2", "dall-e-3", "deepseek-r1", "deepseek-v3",
    "deepseek-v3-0324", "deepseek-v3.1", "deepseek-v3.2", "deepseek-v3.2-speciale", "deepseek-v4-flash",
    "DeepSeek-V4-Flash-0731", "deepseek-v4-pro", "deepseek-v4.1-flash", "embed-v-4-0", "FLUX-1.1-pro",
    "FLUX.1-Kontext-pro", "FLUX.2-flex", "flux.2-pro", "FW-DeepSeek-V3.2", "FW-DeepSeek-V4-Flash",
    "FW-DeepSeek-V4-Pro", "FW-DeepSeek-V4.1-Flash", "FW-GLM-5", "FW-GLM-5.1", "FW-GLM-5.2", "FW-GLM-5.2-Fast",
    "FW-GLM-5.3", "FW-GLM-5.3-Flash", "FW-GPT-OSS-120B", "FW-Inkling", "FW-Kimi-K2.5", "FW-Kimi-K2.6",
    "FW-Kimi-K2.7-Code", "FW-Kimi-K3", "FW-MiniMax-M2.5", "FW-MiniMax-M3", "FW-Nemotron-3-Ultra-NVFP4",
    "FW-Nemotron-Lightning-3.5-30B-A3B", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct-0914", "gpt-35-turbo",
    "gpt-35-turbo-16k", "gpt-35-turbo-16k-0613", "gpt-35-turbo-instruct", "gpt-35-turbo-instruct-0914", "gpt-4",
    "gpt-4-0125-preview", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-32k", "gpt-4-32k-0613", "gpt-4-turbo",
    "gpt-4-turbo-2024-04-09", "gpt-4-turbo-vision-preview", "gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-mini",
    "gpt-4.1-mini-2025-04-14", "gpt-4.1-nano", "gpt-4.1-nano-2025-04-14", "gpt-4.5-preview", "gpt-4o",
    "gpt-4o-2024-05-13", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-audio-preview-2024-12-17", "gpt-4o-mini",
    "gpt-4o-mini-2024-07-18", "gpt-4o-mini-audio-preview-2024-12-17", "gpt-4o-mini-realtime-preview-2024-12-17",
    "gpt-4o-mini-transcribe", "gpt-4o-mini-tts", "gpt-4o-realtime-preview", "gpt-4o-realtime-preview-2024-10-01",
    "gpt-4o-realtime-preview-2024-12-17", "gpt-4o-transcribe", "gpt-4o-transcribe-diarize", "gpt-5",
    "gpt-5-2025-08-07", "gpt-5-chat", "gpt-5-codex", "gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-nano",
    "gpt-5-nano-2025-08-07", "gpt-5-pro", "gpt-5.1", "gpt-5.1-2025-11-13", "gpt-5.1-chat", "gpt-5.1-codex",
    "gpt-5.1-codex-2025-11-13", "gpt-5.1-codex-max", "gpt-5.1-codex-mini", "gpt-5.1-codex-mini-2025-11-13", "gpt-5.2",
    "gpt-5.2-2025-12-11", "gpt-5.2-chat", "gpt-5.2-codex", "gpt-5.2-pro", "gpt-5.2-pro-2025-12-11", "gpt-5.3-chat",
    "gpt-5.3-codex", "gpt-5.4", "gpt-5.4-2026-03-05", "gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "gpt-5.4-nano",
    "gpt-5.4-nano-2026-03-17", "gpt-5.4-pro", "gpt-5.4-pro-2026-03-05", "gpt-5.5", "gpt-5.5-2026-04-23",
    "gpt-5.5-2026-04-24", "gpt-5.5-pro", "gpt-5.5-pro-2026-04-23", "gpt-5.6", "gpt-5.6-luna",
    "gpt-5.6-luna-2026-07-09", "gpt-5.6-sol", "gpt-5.6-sol-2026-07-09", "gpt-5.6-terra", "gpt-5.6-terra-2026-07-09",
    "gpt-6-astra", "gpt-6-astra-2026-09-03", "gpt-6-luna", "gpt-6-luna-2026-09-22", "gpt-6-sol",
    "gpt-6-sol-2026-09-22", "gpt-6.1-sol", "gpt-6.1-sol-2026-09-29", "gpt-6.1-terra", "gpt-audio", "gpt-audio-1.5",
    "gpt-audio-1.5-2026-02-23", "gpt-audio-2025-08-28", "gpt-audio-mini", "gpt-audio-mini-2025-10-06",
    "gpt-chat-latest", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-1.5-2025-12-16", "gpt-image-2",
    "gpt-image-2-2026-04-21", "gpt-image-2.5-flare", "gpt-image-2.5-sunburst", "gpt-live-1", "gpt-live-transcribe",
    "gpt-oss-120b", "gpt-realtime", "gpt-realtime-1.5", "gpt-realtime-1.5-2026-02-23", "gpt-realtime-2",
    "gpt-realtime-2.1", "gpt-realtime-2.1-mini", "gpt-realtime-2025-08-28", "gpt-realtime-mini",
    "gpt-realtime-mini-2025-10-06", "gpt-realtime-translate", "gpt-realtime-whisper", "gpt-transcribe", "grok-3",
    "grok-3-mini", "grok-4", "grok-4-1-fast-non-reasoning", "grok-4-1-fast-reasoning", "grok-4-20-non-reasoning",
    "grok-4-20-reasoning", "grok-4-fast-non-reasoning", "grok-4-fast-reasoning", "grok-4.3", "grok-4.6", "grok-4.7",
    "grok-code-fast-1", "jais-30b-chat", "jamba-instruct", "kimi-k2-thinking", "kimi-k2.5", "kimi-k2.6",
    "kimi-k2.7-code", "Llama-3.3-70B-Instruct", "Llama-4-Maverick-17B-128E-Instruct-FP8",
    "Llama-4-Scout-17B-16E-Instruct", "MAI-Code-1.1-Flash", "MAI-Cyber-1-Flash", "MAI-DS-R1", "MAI-Image-2.5",
    "MAI-Image-2.5-Flash", "MAI-Image-2.5-Pro", "MAI-Image-2.6", "MAI-Image-2.6-Flash", "MAI-Thinking-1",
    "Meta-Llama-3-70B-Instruct", "Meta-Llama-3.1-70B-Instruct", "Microsoft-Decision-1", "ministral-3b",
    "mistral-document-ai-2505", "mistral-document-ai-2512", "mistral-large", "mistral-large-2402",
    "mistral-large-2407", "mistral-large-3", "mistral-large-latest", "mistral-medium-2505", "mistral-medium-3-5",
    "mistral-nemo", "mistral-ocr-2505", "mistral-ocr-2512", "mistral-ocr-4-0", "mistral-small", "mistral-small-2503",
    "model-router", "model_router", "o1", "o1-2024-12-17", "o1-mini", "o1-mini-2024-09-12", "o1-preview", "o3",
    "o3-2025-04-16", "o3-deep-research", "o3-mini", "o3-mini-2025-01-31", "o3-pro", "o3-pro-2025-06-10", "o4-mini",
    "o4-mini-2025-04-16", "Phi-3-medium-128k-instruct", "Phi-3-medium-4k-instruct", "Phi-3-mini-128k-instruct",
    "Phi-3-mini-4k-instruct", "Phi-3-small-128k-instruct", "Phi-3-small-8k-instruct", "Phi-3.5-mini-instruct",
    "Phi-3.5-MoE-instruct", "Phi-3.5-vision-instruct", "Phi-4", "Phi-4-mini-instruct", "Phi-4-mini-reasoning",
    "Phi-4-multimodal-instruct", "Phi-4-reasoning", "prebuilt-document", "prebuilt-layout", "prebuilt-read", "sora-2",
    "sora-2-pro", "sora-2-pro-high-res", "text-embedding-3-large", "text-embedding-3-small", "text-embedding-ada-002",
    "tts-1", "tts-1-hd", "whisper", "whisper-1",
)  # fmt: skip
"""Model names of the catalogue."""

SERVED_MODELS = {
    **{name.lower(): name for name in NAMES},
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-chat": "gpt-5-chat",
    "gpt-5-codex": "gpt-5-codex",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5-pro": "gpt-5-pro",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-24",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o3-pro": "o3-pro-2025-06-10",
    "o4-mini": "o4-mini-2025-04-16",
    "phi-4": "Phi-4",
    "phi-4-mini": "Phi-4-mini-instruct",
    "phi-4-multimodal": "Phi-4-multimodal-instruct",
    "phi-4-reasoning": "Phi-4-reasoning",
    "llama-3.3-70b": "Llama-3.3-70B-Instruct",
    "llama-4-maverick": "Llama-4-Maverick-17B-128E-Instruct-FP8",
    "llama-4-scout": "Llama-4-Scout-17B-16E-Instruct",
    "mistral-large-3": "mistral-large-3",
    "model-router": "gpt-4.1-mini-2025-04-14",
    "model_router": "gpt-4.1-mini-2025-04-14",
}
"""Beginning of a deployment's name → model it serves; the longest one that ends at a separator counts."""
ROUTERS = ("model-router", "model_router")

CLAUDE_IDS = {
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
}
"""The ids by which Claude's own answers call some models."""

DIMENSIONS = {
    "text-embedding-3-large": 3072,
    "text-embedding-3-small": 1536,
    "text-embedding-ada-002": 1536,
    "cohere-embed-v3": 1024,
    "embed-v-4-0": 1536,
    "cohere-embed-v5": 1536,
}
DEFAULT_DIMENSIONS = 1536
FIXED_DIMENSIONS = "text-embedding-ada-002"

REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6", "codex-mini", "computer-use")
NOT_REASONING = ("gpt-5-chat",)
EMBEDDING = ("text-embedding-", "embed-v", "cohere-embed")
CHAT = (
    "gpt-", "o1", "o3", "o4", "phi-", "llama-", "meta-llama-", "mistral-", "ministral-", "codestral", "deepseek-",
    "grok-", "claude-", "kimi-", "fw-", "mai-", "cohere-command", "jais-", "jamba-", "model-router",
)  # fmt: skip
RESPONSES_ONLY = re.compile(r"codex-mini|computer-use-preview|o3-(pro|deep-research)|gpt-5(\.\d)?-(pro|codex)")
NO_CHAT = re.compile(
    r"gpt-image|chatgpt-image|dall-e|flux|mai-image|whisper|tts-|gpt-4o(-mini)?-(transcribe|tts)|gpt-transcribe|"
    r"gpt-live|gpt-realtime|gpt-4o(-mini)?-realtime|sora|cohere-rerank|cohere-parse|mistral-(ocr|document)|azure-|"
    r"prebuilt-|gpt-35-turbo-instruct|gpt-3\.5-turbo-instruct"
)
COMPLETIONS = re.compile(r"gpt-35-turbo-instruct|gpt-3\.5-turbo-instruct|davinci|babbage|codestral")
NO_RESPONSES = ("phi-", "cohere-", "jais-", "jamba-", "meta-llama-3-", "codestral")
GROK = ("grok-",)


@lru_cache(maxsize=MAX_REMEMBERED)
def served_model(name: str) -> str:
    """The model-version name that a deployment serves by the built-in table; else the name itself."""
    lowered = name.lower()
    fitting = [known for known in SERVED_MODELS if _begins(lowered, known)]
    if not fitting:
        return name
    longest = max(fitting, key=len)
    return name if DATED_PATTERN.search(lowered) and longest != lowered else SERVED_MODELS[longest]


def _begins(name: str, known: str) -> bool:
    return name.startswith(known) and (len(name) == len(known) or name[len(known)] in "-_")
