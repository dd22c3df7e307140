"""A faithful simulator of Azure AI Foundry: tests, the demo and the benchmarks run against it.

A plain ASGI application. Surfaces (`chat`, `embeddings`) turn a request into an `Answer`; `faults` and
`delivery` bend or break what is sent; `served` remembers every call that Foundry would bill, with its exact
usage.
"""

from deploy.simulator.app import Simulator
from deploy.simulator.options import Options

__all__ = ["Options", "Simulator"]
