// products[n] = a_n . b_n for the rows of two matrices.  A block per row.
extern "C" __global__ void row_dots(const real* a, const real* b, real* products, int dim) {
  a += (size_t)blockIdx.x * dim;
  b += (size_t)blockIdx.x * dim;
  real sum = 0;
  FOR_EACH_IN_BLOCK(i, dim) sum += a[i] * b[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) products[blockIdx.x] = sum;
}

// y (rows, out_dim): sums over ranges of columns of x (rows, in_dim), which begin at `starts` and end
// where the next begins, or where the row ends.
extern "C" __global__ void sum_ranges(
    const real* x, const long long* starts, real* y, unsigned size, int in_dim, int out_dim) {
  FOR_EACH_ELEMENT(i, size) {
    int j = i % out_dim, end = j + 1 < out_dim ? starts[j + 1] : in_dim;
    const real* row = x + (size_t)(i / out_dim) * in_dim;
    real sum = 0;
    for (int k = starts[j]; k < end; ++k) sum += row[k];
    y[i] = sum;
  }
}
