"""The one home of `azure.identity`: tokens of the identity that this process runs under."""

from shared.azure.identity import AzureIdentity, IdentityError

__all__ = ("AzureIdentity", "IdentityError")
