"""The fallback adapter keeps the contract."""

from services.proxy.upstream import Upstream
from services.proxy.upstream.pure import HttpxUpstream
from tests.contract.upstream_suite import UpstreamContract


class TestHttpx(UpstreamContract):
    def make(self, *, total_s: float = 30, idle_s: float = 30) -> Upstream:
        return HttpxUpstream(total_s=total_s, idle_s=idle_s)
