"""The environment of a pod with workload identity, for the simulator as Entra ID and Key Vault."""

import base64
from pathlib import Path

import msgspec

CLIENT = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
FOREVER = 4_000_000_000


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def federated_token() -> str:
    """A token as a cluster projects it into a pod."""
    claims = {
        "sub": "system:serviceaccount:llm:gateway",
        "aud": ["api://AzureADTokenExchange"],
        "exp": FOREVER,
        "iss": "https://cluster.invalid",
    }
    return ".".join([_part({"alg": "RS256"}), _part(claims), "c2ln"])


def pod_environment(folder: Path, simulator: str, authority: Path) -> dict[str, str]:
    """The variables; `simulator` is its URL over TLS, `authority` what it is trusted by."""
    token = folder / "federated-token"
    token.write_text(federated_token())
    return {
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "AZURE_AUTHORITY_HOST": simulator,
        "REQUESTS_CA_BUNDLE": str(authority),
        "SSL_CERT_FILE": str(authority),
    }
