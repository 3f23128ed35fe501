"""Modbus instruments, over TCP and RTU."""
