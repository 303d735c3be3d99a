"""Writes the golden files of this folder with CPython's audioop (Python <= 3.12),
an implementation of G.711 that shares no code with ours.

  NAME.positive  the codes of the samples 0 … 32767, one byte each
  NAME.decoded   the values of the codes 0 … 255, 16 bits little endian
Negative samples are left out: audioop negates them, G.191 complements them.
"""
import array
import audioop

positive = array.array("h", range(32768)).tobytes()
codes = bytes(range(256))
for name, encode, decode in (
    ("ulaw", audioop.lin2ulaw, audioop.ulaw2lin),
    ("alaw", audioop.lin2alaw, audioop.alaw2lin),
):
    with open(name + ".positive", "wb") as f:
        f.write(encode(positive, 2))
    with open(name + ".decoded", "wb") as f:
        f.write(decode(codes, 2))
