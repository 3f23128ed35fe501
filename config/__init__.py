"""The configuration: says what to measure. Reads the technician's file and names every fault in it.

A foundation. It imports nothing of this project, except that `push` may use `buffer.cose`.
"""
