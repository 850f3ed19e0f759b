// What surrounds the matrix products of an affine function and its training.

// Every row of y (rows, dim) is the bias.
extern "C" __global__ void broadcast_rows(const real* bias, real* y, unsigned size, unsigned dim) {
  FOR_EACH_ELEMENT(i, size) y[i] = bias[i % dim];
}

// extended (rows, dim + 1) is x (rows, dim) with a column of ones.
extern "C" __global__ void append_one(const real* x, real* extended, unsigned rows, unsigned dim) {
  FOR_EACH_ELEMENT(i, rows * (dim + 1)) {
    unsigned n = i / (dim + 1), column = i % (dim + 1);
    extended[i] = column < dim ? x[n * dim + column] : 1;
  }
}

// x (rows, dim) and the last column, ones (rows,), of `extended` (rows, dim + 1), times the length of
// the step that is made with preconditioned rows: the learning rate times the scales of both sides,
// shortened so that sum_n |step x_n| |d_n|, a bound of the change of the parameters, is at most
// max_change (0: any).  norms (2, N) are |x_n|^2 and |d_n|^2.  Every block computes the length.
//
// limits[0] counts shortened steps, limits[1] is the smallest factor.
extern "C" __global__ void scale_step(
    const real* extended, const real* norms, const real* scale_in, const real* scale_out, int N,
    double learning_rate, double max_change, unsigned rows, unsigned dim, real* x, real* ones,
    double* limits) {
  double bound = 0;
  FOR_EACH_IN_BLOCK(n, N) bound += sqrt((double)norms[n] * norms[N + n]);
  bound = block_sum(bound);
  double length = learning_rate * *scale_in * *scale_out;
  double change = length * bound;
  if (max_change > 0 && change > max_change) {
    double factor = max_change / change;
    length *= factor;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      limits[0] += 1;
      limits[1] = factor < limits[1] ? factor : limits[1];
    }
  }
  real step = length;
  FOR_EACH_ELEMENT(i, rows * (dim + 1)) {
    unsigned n = i / (dim + 1), column = i % (dim + 1);
    real value = step * extended[i];
    if (column < dim)
      x[n * dim + column] = value;
    else
      ones[n] = value;
  }
}
