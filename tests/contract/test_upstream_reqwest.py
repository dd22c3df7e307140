"""The default adapter keeps the contract."""

from services.proxy.upstream import Upstream
from services.proxy.upstream.reqwest import ReqwestUpstream
from tests.contract.upstream_suite import UpstreamContract


class TestReqwest(UpstreamContract):
    def make(self, *, total_s: float = 30, idle_s: float = 30) -> Upstream:
        return ReqwestUpstream(total_s=total_s, idle_s=idle_s)
