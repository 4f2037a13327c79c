"""The pairs of cards that are simulated, as measured or published: what they read and write a second, and how depth slows them.

P(n, d) = n / R * (1 + (d + n/2) / Lhalf)          n new tokens behind d cached ones
D(o, d) = o / r * (1 + (d + o/2) * kv / W)         o tokens behind a prompt of d; W bytes of weights, kv bytes a token

Both are what tests/fake does with --prefill, --decode, --depth-half and --decode-half.
"""

import dataclasses

MAIN_DEPTH_HALF = 20000
WEIGHTS = {"7b": 4.7e9, "1.7b": 1.4e9}  # Q4_0, bytes
KV = {"7b": 56 * 1024, "1.7b": 112 * 1024}  # f16, bytes a token
COPY_RATE = 6e9  # bytes/s between a card and the host's memory, PCIe 3.0 x16, not pinned
HOST_CACHE = 8 << 30  # bytes: llama-server's --cache-ram, which Ollama's runner has too


@dataclasses.dataclass(frozen=True)
class Card:
    prefill: float  # tokens/s at depth 0
    decode: float
    depth_half: float  # Lhalf, tokens
    model: str  # of WEIGHTS
    num_ctx: int  # of the small card: what it takes without spilling
    load_s: float

    def options(self, host_cache):
        """Command line of tests/fake."""
        kv = KV[self.model]
        out = ["--prefill", self.prefill, "--decode", self.decode, "--depth-half", self.depth_half,
               "--decode-half", WEIGHTS[self.model] / kv]
        if host_cache:
            out += ["--host-cache-tokens", HOST_CACHE / kv, "--host-cache-rate", COPY_RATE / kv]
        return [str(x) for x in out]


def pair(main, small, small_half, small_ctx):
    return (Card(*main, MAIN_DEPTH_HALF, "7b", 0, 4), Card(*small, small_half, "1.7b", small_ctx, 2))


PAIRS = {
    "rtx2060s+gtx1050": pair((1450, 65), (350, 40), 4000, 4096),
    "power-limited": pair((800, 31), (350, 42), 4000, 15360),
    "rtx3060+gtx1650": pair((1700, 57), (380, 84), 8000, 16384),
    "rtx4090+rtx3060": pair((8000, 138), (5200, 170), 15000, 32768),
    "h100+l4": pair((8500, 148), (8000, 130), 20000, 32768),
}


def prefill_s(card, n, d=0):
    return n / card.prefill * (1 + (d + n / 2) / card.depth_half)
