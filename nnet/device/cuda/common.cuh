// What the kernels share.
//
// A kernel is right for any number of threads in a block, one included: threads share the work by
// loops with the stride blockDim.x, and meet only in block_sum(), block_max() and __syncthreads().
// So the same source also runs on a CPU (tests/cuda_on_cpu.h), which is how it is tested where there
// is no GPU.  A reduction adds in an order that depends on nothing but the size of the block: same
// input, same output.  There are no atomic operations.
//
// `real` is the precision of the data, float or double; what decides something (norms, objectives,
// statistics, everything R by R) is double.

typedef REAL real;

#ifndef DYNAMIC_SHARED_MEMORY
#define DYNAMIC_SHARED_MEMORY(name) extern __shared__ double name[]
#endif

const int MAX_THREADS = 1024;

struct Sum {
  template <typename T>
  static __device__ T of(T a, T b) { return a + b; }
};

struct Max {
  template <typename T>
  static __device__ T of(T a, T b) { return a < b ? b : a; }
};

// `value` of all threads of the block reduced to one, which all of them get.
template <typename Operation, typename T>
__device__ T block_reduce(T value) {
  __shared__ T values[MAX_THREADS];
  values[threadIdx.x] = value;
  __syncthreads();
  for (int count = blockDim.x; count > 1;) {
    int kept = (count + 1) / 2;
    if (threadIdx.x < count - kept)
      values[threadIdx.x] = Operation::of(values[threadIdx.x], values[threadIdx.x + kept]);
    __syncthreads();
    count = kept;
  }
  T result = values[0];
  __syncthreads();  // before the next reduction overwrites it
  return result;
}

template <typename T>
__device__ T block_sum(T value) { return block_reduce<Sum>(value); }

template <typename T>
__device__ T block_max(T value) { return block_reduce<Max>(value); }

// Over blocks and threads, for what is elementwise.
#define FOR_EACH_ELEMENT(i, size) \
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (size); i += gridDim.x * blockDim.x)

// Over the threads of a block, for what is done by one block.
#define FOR_EACH_IN_BLOCK(i, size) for (int i = threadIdx.x; i < (size); i += blockDim.x)
