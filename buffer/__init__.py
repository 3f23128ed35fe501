"""The buffer: frames in, sealed blocks out, kept until they are acknowledged and proven to whoever asks.

A foundation. It imports nothing of this project; `FORMAT.md` beside this file describes every byte it writes.
"""
