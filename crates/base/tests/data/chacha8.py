"""Prints the numbers that src/random.rs must give, from ChaCha8 written anew (Bernstein, "ChaCha, a variant of Salsa20")."""

import hashlib
import struct

MASK = 0xFFFFFFFF


def quarter_round(x, a, b, c, d):
    for first, other, target, shift in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
        x[first] = (x[first] + x[other]) & MASK
        x[target] ^= x[first]
        x[target] = ((x[target] << shift) | (x[target] >> (32 - shift))) & MASK


def block(key, counter, stream):
    start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key)]
    start += [counter & MASK, counter >> 32, stream & MASK, stream >> 32]
    x = list(start)
    for _ in range(4):
        for a, b, c, d in [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]:
            quarter_round(x, a, b, c, d)
        for a, b, c, d in [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]:
            quarter_round(x, a, b, c, d)
    return [(a + b) & MASK for a, b in zip(x, start)]


def bits(seed, domain, thing, stream, place):
    words = block(struct.pack("<QQQQ", seed, domain, *thing), place // 8, stream)
    return words[place % 8 * 2] | words[place % 8 * 2 + 1] << 32


def named(seed, name, place):
    key = hashlib.sha256(struct.pack("<Q", seed) + name.encode()).digest()
    words = block(key, place // 8, 0)
    return words[place % 8 * 2] | words[place % 8 * 2 + 1] << 32


def pattern(epoch, sample):
    return epoch | sample << 32


DECODING = int.from_bytes(b"decoding", "little")

print("training")
print(bits(0, 1, (0, 0), 0, 0))
print(bits(42, 1, (3, pattern(1, 2)), 17, 4))
print(bits(2**64 - 1, 5, (2**64 - 1, 2**64 - 1), 2**64 - 1, 5))
print(bits(1, 1, (2, pattern(3, 4)), 5, 11))
print("tasks, two numbers of an item")
print(bits(9, 0, (0, 0), 4, 0))
print(bits(9, 0, (0, 0), 4, 1))
print("statistics, the ninth number of a draw")
print(bits(7, 6, (0, 0), 1999, 8))
print("decoding, a head and the token")
print(bits(11, DECODING, (3, 20), 2, 0))
print(bits(11, DECODING, (3, 20), 2**32 - 1, 0))
print("named, two numbers")
print(named(7, "judge pairs", 0))
print(named(7, "judge pairs", 1))
