"""The demonstration: the whole system on one machine, with an outage, a kill, a drain and a verdict.

What it claims is computed from what the instruments served and what the receiver proved, never from what the agent
believes. Only the command `trambien demo` enters.
"""
