// CUDA C++ on a CPU, for tests: blocks run one after the other, and the threads of a block are fibers.
//
// A fiber runs until it comes to __syncthreads() or its end, then the next one does.  The order in
// which the fibers of a block take their turns is chosen by the test; where it changes the result,
// a barrier is missing.  That all of them come to the same number of barriers is checked.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <ucontext.h>

using std::isfinite, std::isnan;

static double rsqrt(double x) { return 1 / std::sqrt(x); }

// Operations that are not joined with others: see -ffp-contract in kernels.py.
static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }
static double __dadd_rn(double a, double b) { return a + b; }
static double __dmul_rn(double a, double b) { return a * b; }

static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}

#define __global__
#define __device__
#define __shared__ static
#define DYNAMIC_SHARED_MEMORY(name) double* name = dynamic_shared_memory.data()

struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;
static std::vector<double> dynamic_shared_memory;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool ended;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> body;

static void run_fiber() {
  body();
  fibers[threadIdx.x].ended = true;
}

static void __syncthreads() {
  if (blockDim.x == 1) return;
  unsigned me = threadIdx.x;
  swapcontext(&fibers[me].context, &scheduler);
}

enum Order { FORWARD, BACKWARD, RANDOM };

static void run_block(unsigned threads, int order) {
  const size_t STACK_SIZE = 1 << 16;
  std::vector<unsigned> turns(threads);
  for (unsigned i = 0; i < threads; ++i) turns[i] = order == BACKWARD ? threads - 1 - i : i;
  std::minstd_rand random(blockIdx.x + 1);
  fibers.resize(threads);
  for (Fiber& fiber : fibers) {
    if (!fiber.stack) fiber.stack.reset(new char[STACK_SIZE]);
    fiber.ended = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_SIZE;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_fiber, 0);
  }
  for (unsigned num_ended = 0; num_ended == 0;) {
    if (order == RANDOM) std::shuffle(turns.begin(), turns.end(), random);
    for (unsigned turn : turns) {
      threadIdx.x = turn;
      swapcontext(&scheduler, &fibers[turn].context);
      num_ended += fibers[turn].ended;
    }
    if (num_ended != 0 && num_ended != threads) {
      fprintf(stderr, "%u of %u threads came to a barrier\n", threads - num_ended, threads);
      abort();
    }
  }
}

static void run_grid(
    unsigned blocks, unsigned threads, unsigned shared_bytes, int order,
    const std::function<void()>& kernel) {
  body = kernel;
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    dynamic_shared_memory.assign(shared_bytes / sizeof(double), NAN);
    threadIdx.x = 0;
    if (threads == 1)
      body();
    else
      run_block(threads, order);
  }
}
