// Elementwise nonlinearities, whose derivative follows from the output, and statistics of them.

enum Function { IDENTITY, SIGMOID, TANH, RECTIFIER, SOFT_HINGE };

__device__ real value_at(int function, real x) {
  switch (function) {
    case SIGMOID: return 1 / (1 + exp(-x));
    case TANH: return tanh(x);
    case RECTIFIER: return x > 0 || isnan(x) ? x : 0;
    case SOFT_HINGE: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    default: return x;
  }
}

// The derivative where the function is y.
__device__ real slope_at(int function, real y) {
  switch (function) {
    case SIGMOID: return y * (1 - y);
    case TANH: return 1 - y * y;
    case RECTIFIER: return y > 0;
    case SOFT_HINGE: return -expm1(-y);
    default: return 1;
  }
}

// `y` may be `x`.
extern "C" __global__ void nonlinear(int function, const real* x, real* y, unsigned size) {
  FOR_EACH_ELEMENT(i, size) y[i] = value_at(function, x[i]);
}

// `d_x` may be `d_y`.
extern "C" __global__ void nonlinear_backward(
    int function, const real* y, const real* d_y, real* d_x, unsigned size) {
  FOR_EACH_ELEMENT(i, size) d_x[i] = d_y[i] * slope_at(function, y[i]);
}

// Add to value_sum (dim,) the sums over rows of y (rows, dim), and to slope_sum, unless it is null,
// those of the derivatives.  A block per COLUMNS columns; neighbouring threads read neighbouring
// columns, and groups of threads take rows in turn; a block smaller than that is one group, which
// goes over the columns in pieces.
extern "C" __global__ void add_column_sums(
    int function, const real* y, double* value_sum, double* slope_sum, int rows, int dim) {
  const int COLUMNS = 32;
  __shared__ double values[MAX_THREADS], slopes[MAX_THREADS];
  int width = blockDim.x < COLUMNS ? blockDim.x : COLUMNS;
  int groups = blockDim.x / width, group = threadIdx.x / width, lane = threadIdx.x % width;
  for (int first = 0; first < COLUMNS; first += width) {
    int column = blockIdx.x * COLUMNS + first + lane;
    double value = 0, slope = 0;
    if (group < groups && first + lane < COLUMNS && column < dim)
      for (int n = group; n < rows; n += groups) {
        real y_n = y[(size_t)n * dim + column];
        value += y_n;
        slope += slope_at(function, y_n);
      }
    values[threadIdx.x] = value;
    slopes[threadIdx.x] = slope;
    __syncthreads();
    if (group == 0 && first + lane < COLUMNS && column < dim) {
      for (int g = 1; g < groups; ++g) {
        value += values[g * width + lane];
        slope += slopes[g * width + lane];
      }
      value_sum[column] += value;
      if (slope_sum) slope_sum[column] += slope;
    }
  }
}
