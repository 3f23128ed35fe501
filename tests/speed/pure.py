"""The pure stages of the pipeline, each as the product does it, on one second of the nominal load.

What is always true here:

- A second is 10 frames of 100 walking 16-bit registers. The same input every time, so that instructions can be counted.
- `python -m speed.pure CALLS` runs each stage so often inside one C function, `functools.reduce`, which is what
  callgrind is told to count: imports and preparation are outside.
"""

import functools
import struct
import sys

from speed.registers import walk

from buffer.block import ClockQuality, compress, encode_block
from buffer.columnar import Payload, decode_payload, encode_with_cuts
from buffer.frame import Column, Frame, Layout
from buffer.keys import DeviceKey
from buffer.seal import Batch, Moment, Opening, Sealer
from drivers.modbus.decode import Field, decoder
from drivers.modbus.plan import Request, Span

DEVICES, REGISTERS = 10, 100


def layout(number: int) -> Layout:
    """Give what the service makes of one device of the nominal load."""
    columns = tuple(Column(f"r{n}", "uint16", address=f"input:{n}", order="ABCD") for n in range(REGISTERS))
    return Layout(f"link-{number}", f"device-{number}", "modbus", 10**9, columns)


class Work:
    """The inputs of the pure stages, and the calls."""

    def __init__(self) -> None:
        self.layouts = tuple(map(layout, range(DEVICES)))
        self.batch = Batch()
        for place, each in enumerate(self.layouts):
            rows = struct.unpack(f">{REGISTERS}H", walk(place)[0])
            self.batch.add_frame(each, Frame(10**15 + place * 500_000, 400_000, rows))
        frames = tuple((place, tuple(self.batch.frames[each])) for place, each in enumerate(self.layouts))
        self.payload = Payload(frames=frames)
        self.raw, self.cuts = encode_with_cuts(self.payload, self.layouts)
        self.key = DeviceKey.from_seed(bytes(range(32)))
        opening = Opening(bytes(8), "speed", bytes(32), bytes(32))
        self.moment = Moment(bytes(16), 10**15, 10**18, ClockQuality("synchronised", 10**6, "chrony"))
        self.sealer = Sealer("station-1", self.key, bytes(8), 56_000, opening)
        self.head = self.sealer.seal("main", None, self.batch, self.layouts, self.moment).head
        self.block = self.seal().blocks[0]
        request = Request("input", 0, REGISTERS)
        self.decoder = decoder(request, [Field(Span("input", n, 1), "uint16") for n in range(REGISTERS)])
        self.answer = walk(1)[0]
        self.frame = self.batch.frames[self.layouts[0]][0]
        self._gathering = Batch()

    def decode(self) -> object:
        """From the bytes of one answer to a hundred values."""
        return self.decoder(self.answer)

    def gather(self) -> None:
        """Make a frame and append it to what waits for the seal."""
        self._gathering.add_frame(self.layouts[0], Frame(*self.frame))

    def encode(self) -> object:
        """From a second's frames to columns."""
        return encode_with_cuts(self.payload, self.layouts)

    def compress(self) -> object:
        """From columns to what is stored."""
        return compress(self.raw, self.cuts)

    def sign(self) -> object:
        """One signature over a header's size."""
        return self.key.sign(self.block.envelope)

    def seal(self) -> object:
        """All of it: encode, compress, header, digest, signature."""
        return self.sealer.seal("main", self.head, self.batch, self.layouts, self.moment)

    def read(self) -> object:
        """The way back, which whoever verifies goes: from columns to a second's frames."""
        return decode_payload(self.raw, self.layouts)

    def wire(self) -> object:
        """The block as it is published."""
        return encode_block(self.block)


PURE = ("decode", "gather", "encode", "compress", "sign", "seal", "read", "wire")

if __name__ == "__main__":
    ready = Work()
    for name in PURE:
        stage = getattr(ready, name)
        functools.reduce(lambda _, __, stage=stage: stage(), range(int(sys.argv[1])), None)  # type: ignore[misc]
