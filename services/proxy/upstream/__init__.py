"""The only way out to Foundry: a small port, and two adapters that pass one contract suite."""

from services.proxy.upstream.port import Reply, Upstream, UpstreamError, UpstreamRequest

__all__ = ["Reply", "Upstream", "UpstreamError", "UpstreamRequest"]
