// products[n] = a_n . b_n for the rows of two matrices.  A block per row.
extern "C" __global__ void row_dots(const real* a, const real* b, real* products, int dim) {
  a += (size_t)blockIdx.x * dim;
  b += (size_t)blockIdx.x * dim;
  real sum = 0;
  FOR_EACH_IN_BLOCK(i, dim) sum += a[i] * b[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) products[blockIdx.x] = sum;
}
