// Random numbers that are a function of a key and a counter: "Philox", of Salmon, Moraes, Dror, Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (2011), as numpy.random.Philox has it.

typedef unsigned long long word;

// Four words from the counter (low, high, 0, 0), in ten rounds.
__device__ void philox(word low, word high, word key_0, word key_1, word* result) {
  word a = low, b = high, c = 0, d = 0;
  for (int round = 0; round < 10; ++round) {
    const word M_0 = 0xD2E7470EE14C6C93, M_1 = 0xCA5A826395121157;
    word next_a = __umul64hi(M_1, c) ^ b ^ key_0, next_c = __umul64hi(M_0, a) ^ d ^ key_1;
    b = M_1 * c;
    d = M_0 * a;
    a = next_a;
    c = next_c;
    key_0 += 0x9E3779B97F4A7C15;
    key_1 += 0xBB67AE8584CAA73B;
  }
  result[0] = a;
  result[1] = b;
  result[2] = c;
  result[3] = d;
}

// x: random numbers from [0, 1).  state: the key, and the high word of the counter.
extern "C" __global__ void draw_uniform(const word* state, float* x, unsigned size) {
  FOR_EACH_ELEMENT(block, (size + 7) / 8) {
    word words[4];
    philox(block + 1, state[2], state[0], state[1], words);
    for (unsigned i = 0; i < 8 && 8 * block + i < size; ++i) {
      unsigned bits = (unsigned)(words[i / 2] >> 32 * (i % 2));
      x[8 * block + i] = (bits >> 8) * (1.0f / (1 << 24));
    }
  }
}
