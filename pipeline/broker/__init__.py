"""The broker: a state machine without sockets. A message and the time go in, messages to send come out.

machine    the interface: receive, tick, drain
state      what a run is at a moment
admission  who takes part: hello, refusals, deaths
intake     what each message of a stage does
dispatch   what can be sent now: work, deliveries, credits, the end
report     what the parent is told

ledger keeps the account of each source's frames, scheduler chooses the next frame, batcher gathers crops,
patience tells slow from hung.
"""

from pipeline.broker.broker import Broker
from pipeline.broker.state import BrokerRules, Outgoing

__all__ = ["Broker", "BrokerRules", "Outgoing"]
