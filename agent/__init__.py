"""The agent: runs it. Composition, supervision, uplinks and the tools."""
