"""Modbus instruments, over TCP, RTU and ASCII, on lines, connections and inside TLS."""
