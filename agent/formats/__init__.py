"""What an uplink makes of a block: one file a payload format."""
