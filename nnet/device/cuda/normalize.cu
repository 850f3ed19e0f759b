// Normalization of rows: y = f x  with  f = max(|x|^2 / D, floor)^{-1/2}.

__device__ real normalizing_factor(const real* x, int dim, real floor, bool* floored) {
  real squares = 0;
  FOR_EACH_IN_BLOCK(i, dim) squares += x[i] * x[i];
  real mean = block_sum(squares) / dim;
  *floored = mean <= floor;
  return 1 / sqrt(Max::of(mean, floor));
}

// A block per row; `y` may be `x`.
extern "C" __global__ void normalize(const real* x, real* y, int dim, double floor) {
  x += (size_t)blockIdx.x * dim;
  y += (size_t)blockIdx.x * dim;
  bool floored;
  real f = normalizing_factor(x, dim, floor, &floored);
  FOR_EACH_IN_BLOCK(i, dim) y[i] = f * x[i];
}

// dF/dx = f dF/dy - f^3/D (x^T dF/dy) x, without the second term where f is floored.  A block per
// row; `d_x` may be `d_y`.
extern "C" __global__ void normalize_backward(
    const real* x, const real* d_y, real* d_x, int dim, double floor) {
  size_t row = (size_t)blockIdx.x * dim;
  x += row, d_y += row, d_x += row;
  bool floored;
  real f = normalizing_factor(x, dim, floor, &floored);
  real dots = 0;
  FOR_EACH_IN_BLOCK(i, dim) dots += x[i] * d_y[i];
  real along_x = floored ? 0 : block_sum(dots) * (f * f * f / dim);
  FOR_EACH_IN_BLOCK(i, dim) d_x[i] = f * d_y[i] - along_x * x[i];
}
