// The softmax, and the objective that is computed from it.
//
// Labels are given row by row: those of row n are starts[n] to starts[n + 1] of `pdfs` and `weights`.

// y_i = e^{x_i} / sum_j e^{x_j}, floored.  A block per row; `y` may be `x`.
extern "C" __global__ void softmax(const real* x, real* y, int dim, double floor) {
  x += (size_t)blockIdx.x * dim;
  y += (size_t)blockIdx.x * dim;
  real largest = x[0];
  FOR_EACH_IN_BLOCK(i, dim) largest = Max::of(largest, x[i]);
  largest = block_max(largest);
  real sum = 0;
  FOR_EACH_IN_BLOCK(i, dim) {
    real power = exp(x[i] - largest);
    y[i] = power;
    sum += power;
  }
  real scale = 1 / block_sum(sum);
  FOR_EACH_IN_BLOCK(i, dim) y[i] = Max::of(y[i] * scale, (real)floor);
}

// dF/dx_i = y_i (dF/dy_i - sum_j y_j dF/dy_j).  A block per row; `d_x` may be `d_y`.
extern "C" __global__ void softmax_backward(const real* y, const real* d_y, real* d_x, int dim) {
  size_t row = (size_t)blockIdx.x * dim;
  y += row, d_y += row, d_x += row;
  real sum = 0;
  FOR_EACH_IN_BLOCK(i, dim) sum += y[i] * d_y[i];
  real mean = block_sum(sum);
  FOR_EACH_IN_BLOCK(i, dim) d_x[i] = y[i] * (d_y[i] - mean);
}

// For F = sum_k w_k log y[row_k, pdf_k]: dF/dx = w - (sum w) y.  A block per row; `d_x` may be `y`.
extern "C" __global__ void softmax_log_backward(
    const real* y, const int* starts, const int* pdfs, const real* weights, real* d_x, int dim) {
  y += (size_t)blockIdx.x * dim;
  d_x += (size_t)blockIdx.x * dim;
  int begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  real weight = 0;
  for (int k = begin; k < end; ++k) weight += weights[k];
  FOR_EACH_IN_BLOCK(i, dim) d_x[i] = -weight * y[i];
  __syncthreads();
  if (threadIdx.x == 0)
    for (int k = begin; k < end; ++k) d_x[pdfs[k]] += weights[k];
}

// For the same F: dF/dy = w / max(y, floor) where there are labels, 0 elsewhere.  A block per row.
extern "C" __global__ void log_prob_backward(
    const real* y, const int* starts, const int* pdfs, const real* weights, double floor, real* d_y,
    int dim) {
  y += (size_t)blockIdx.x * dim;
  d_y += (size_t)blockIdx.x * dim;
  FOR_EACH_IN_BLOCK(i, dim) d_y[i] = 0;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int k = starts[blockIdx.x]; k < starts[blockIdx.x + 1]; ++k)
      d_y[pdfs[k]] += weights[k] / Max::of(y[pdfs[k]], (real)floor);
}

// Add sum_k w_k log max(y[row_k, pdf_k], floor) to *total.  One block.
extern "C" __global__ void add_log_prob(
    const real* y, const int* starts, const int* pdfs, const real* weights, int rows, int dim,
    double floor, double* total) {
  double log_prob = 0;
  FOR_EACH_IN_BLOCK(n, rows)
    for (int k = starts[n]; k < starts[n + 1]; ++k)
      log_prob += weights[k] * log((double)Max::of(y[(size_t)n * dim + pdfs[k]], (real)floor));
  log_prob = block_sum(log_prob);
  if (threadIdx.x == 0) *total += log_prob;
}
