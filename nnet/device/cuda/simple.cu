// The simple natural gradient around its matrix products.  The equations are those of
// nnet/natural_gradient/simple.py, where the symbols are explained.

// A = I + mu scatter, of which the upper triangle is read, and *mu = factor / tr(X X^T), from the squared
// norms (N,) of the rows of X.  A block per row, each of which adds up the norms.
extern "C" __global__ void smooth(
    const real* scatter, const real* norms, int N, int n, double factor, double* A, double* mu) {
  double tr = 0;
  FOR_EACH_IN_BLOCK(k, N) tr += norms[k];
  tr = block_sum(tr);
  double of_all = factor / (tr > 0 ? tr : 1);
  int i = blockIdx.x;
  FOR_EACH_IN_BLOCK(j, n) {
    size_t upper = i < j ? (size_t)i * n + j : (size_t)j * n + i;
    A[(size_t)i * n + j] = of_all * scatter[upper] + (i == j);
  }
  if (i == 0 && threadIdx.x == 0) *mu = of_all;
}

// The inversion of A (n, n), positive definite, in place, by Gauss and Jordan's method on blocks of rows.
// In y = A x it exchanges the roles of x_k and y_k for one block k of variables after the other:
//
//     A_kk <- P, the inverse of A_kk     A_kj <- P A_kj     A_ik <- -A_ik P
//     A_ij <- A_ij - A_ik P A_kj
//
// P A_kj is not computed as a product with P, which would lose twice as many digits, and -A_ik P
// is its transpose for blocks that have had their turn, and minus its transpose for others.

const int SIZE = 32;  // of a block, at most

// For the block of `size` rows at A[begin, begin]: P (size, size), and the factors of the last line,
// `column` (n, size), A_ik, and `row` (size, n), -P A_kj, which are zero in the block itself.
// A block per SIZE rows and columns; each eliminates in the diagonal block, and does to the rows of
// its own columns the same.
extern "C" __global__ void eliminate(
    const double* A, int n, int begin, int size, double* P, double* column, double* row) {
  __shared__ double rows[SIZE][2 * SIZE + 1], factors[SIZE];
  int first = blockIdx.x * SIZE, count = n - first < SIZE ? n - first : SIZE;
  int width = size + count;
  bool is_block = first == begin;
  const double* A_k = A + (size_t)begin * n;
  FOR_EACH_IN_BLOCK(k, size * width) {
    int i = k / width, j = k % width;
    const double* A_ki = A_k + (size_t)i * n;
    rows[i][j] = j < size ? A_ki[begin + j] : is_block ? i == j - size : A_ki[first + j - size];
  }
  __syncthreads();
  for (int pivot = 0; pivot < size; ++pivot) {
    FOR_EACH_IN_BLOCK(i, size) factors[i] = rows[i][pivot];
    __syncthreads();
    FOR_EACH_IN_BLOCK(j, width) {
      double scaled = rows[pivot][j] / factors[pivot];
      for (int i = 0; i < size; ++i) rows[i][j] = i == pivot ? scaled : rows[i][j] - factors[i] * scaled;
    }
    __syncthreads();
  }
  FOR_EACH_IN_BLOCK(k, size * count) {
    int i = k / count, j = k % count;
    double value = rows[i][size + j];
    row[(size_t)i * n + first + j] = is_block ? 0 : -value;
    column[(size_t)(first + j) * size + i] = is_block ? 0 : A[(size_t)(first + j) * n + begin + i];
    if (is_block) P[i * size + j] = value;
  }
}

// The first line, from what eliminate() left.  A block per row of the block.
extern "C" __global__ void exchange(
    double* A, int n, int begin, int size, const double* P, const double* row) {
  int i = blockIdx.x;
  FOR_EACH_IN_BLOCK(j, n) {
    size_t along = (size_t)(begin + i) * n + j, across = (size_t)j * n + begin + i;
    double value = row[(size_t)i * n + j];
    if (j < begin || j >= begin + size) {
      A[along] = -value;
      A[across] = j < begin ? -value : value;
    } else {
      A[along] = P[i * size + j - begin];
    }
  }
}

// T = diag(S)^{-1} S (5) and the squared norms (6) of rows of X_hat.  A block per row.
extern "C" __global__ void leave_one_out(
    const double* S, const double* mu, int n, real* T, real* squared_norms) {
  S += (size_t)blockIdx.x * n;
  T += (size_t)blockIdx.x * n;
  double s = S[blockIdx.x], squares = 0;
  FOR_EACH_IN_BLOCK(j, n) {
    squares += S[j] * S[j];
    T[j] = S[j] / s;
  }
  squares = block_sum(squares);
  if (threadIdx.x == 0) squared_norms[blockIdx.x] = Max::of(s - squares, 0.0) / (*mu * s * s);
}

// X, overwritten by (4), from Q (3), and the squared norms of its new rows.  A block per row.
extern "C" __global__ void leave_rows_out(
    real* X, const real* Q, const double* mu, int D, real* squared_norms) {
  X += (size_t)blockIdx.x * D;
  Q += (size_t)blockIdx.x * D;
  double dot = 0;
  FOR_EACH_IN_BLOCK(i, D) dot += X[i] * Q[i];
  double scale = 1 / (1 - *mu * block_sum(dot)), squares = 0;
  FOR_EACH_IN_BLOCK(i, D) {
    X[i] = scale * Q[i];
    squares += X[i] * X[i];
  }
  squares = block_sum(squares);
  if (threadIdx.x == 0) squared_norms[blockIdx.x] = squares;
}
