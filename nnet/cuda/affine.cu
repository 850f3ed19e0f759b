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

// The inverse: x (rows, dim) and the last column `ones` (rows,) of `extended`, times *step.
extern "C" __global__ void take_off_one(
    const real* extended, const real* step, real* x, real* ones, unsigned rows, unsigned dim) {
  FOR_EACH_ELEMENT(i, rows * (dim + 1)) {
    unsigned n = i / (dim + 1), column = i % (dim + 1);
    real value = *step * extended[i];
    if (column < dim)
      x[n * dim + column] = value;
    else
      ones[n] = value;
  }
}

// The length of the step that is made with preconditioned rows: the learning rate times the scales
// of both sides, shortened so that sum_n |step x_n| |d_n|, a bound of the change of the parameters,
// is at most max_change (0: any).  One block.
//
// report[0] counts shortened steps and report[1] is the last factor; report[2] counts changes that
// are NaN or infinite, for which the step is 0: the parameters stay as they are, and whoever reads
// the report must give up.
extern "C" __global__ void step_length(
    const double* learning_rate, const real* scale_in, const real* scale_out,
    const real* x_products, const real* d_products, int rows, double max_change,
    real* step, double* report) {
  double norms = 0;
  FOR_EACH_IN_BLOCK(n, rows) norms += sqrt(x_products[n]) * sqrt(d_products[n]);
  norms = block_sum(norms);
  if (threadIdx.x != 0) return;
  double length = *learning_rate * (double)*scale_in * (double)*scale_out;
  double change = length * norms;
  if (!isfinite(change)) {
    report[2] += 1;
    length = 0;
  } else if (max_change > 0 && change > max_change) {
    report[0] += 1;
    report[1] = max_change / change;
    length *= max_change / change;
  }
  *step = length;
}
