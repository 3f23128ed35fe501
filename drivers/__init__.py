"""The drivers: fill frames. One folder a protocol, each behind the contract in `api`."""
