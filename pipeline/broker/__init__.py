"""The broker: a state machine without sockets. A message and the time go in, messages to send come out.

broker      the interface: receive, tick, drain
state       what a run is at a moment
membership  who takes part: hello, refusals, deaths
handlers    what each message of a stage does
dispatch    what can be sent now: work, deliveries, credits, the end
report      the status for the supervisor
main        the process round it, which moves bytes

ledger keeps the account of each source's frames, queues choose the next frame and gather crops, and liveness
tells hung stages from slow ones.
"""
