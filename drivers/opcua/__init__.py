"""OPC UA servers, polled and subscribed."""
