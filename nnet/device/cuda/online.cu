// The online natural gradient around its matrix products.  The equations are those of
// nnet/natural_gradient/online.py, where the symbols are explained.

// The squared norms of the rows of X_t and of X_hat_t, from those of one of them, (N, D), and H_t:
// ||x_n||^2 = ||x_hat_n||^2 + sum_i (2 - e_i) h_ni^2 (7), (9).  A block per row.
extern "C" __global__ void row_norms(
    const real* X, int is_X_hat, const real* H, const double* e, real* norms,
    real* hat_norms, int D, int R) {
  X += (size_t)blockIdx.x * D;
  H += (size_t)blockIdx.x * R;
  double squares = 0, difference = 0;
  FOR_EACH_IN_BLOCK(i, D) squares += X[i] * X[i];
  FOR_EACH_IN_BLOCK(i, R) difference += (2 - e[i]) * H[i] * H[i];
  squares = block_sum(squares);
  difference = block_sum(difference);
  if (threadIdx.x == 0) {
    norms[blockIdx.x] = is_X_hat ? squares + difference : squares;
    hat_norms[blockIdx.x] = is_X_hat ? squares : Max::of(squares - difference, 0.0);
  }
}

// *tr = tr(X_t X_t^T) and *gamma = gamma_t (6) from these norms.  One block.
extern "C" __global__ void norm_ratio(
    const real* norms, const real* hat_norms, int N, double* tr, real* gamma) {
  double sum = 0, hat_sum = 0;
  FOR_EACH_IN_BLOCK(n, N) {
    sum += norms[n];
    hat_sum += hat_norms[n];
  }
  sum = block_sum(sum);
  hat_sum = block_sum(hat_sum);
  if (threadIdx.x == 0) {
    *tr = sum;
    *gamma = hat_sum == 0 ? 1 : sqrt(sum / hat_sum);
  }
}

// Y_t (11) from J_t and W_t.  A block per row.
extern "C" __global__ void power_step(
    const real* J, const real* W, const double* d, const double* e, const double* rho, double* Y,
    int D, int N, double eta) {
  size_t row = (size_t)blockIdx.x * D;
  double scale = 1 / sqrt(e[blockIdx.x]);
  double of_J = scale * eta / N;
  double of_W = scale * (1 - eta) * (d[blockIdx.x] + *rho);
  FOR_EACH_IN_BLOCK(i, D) Y[row + i] = of_J * J[row + i] + of_W * W[row + i];
}

// rho, d (14) and e (2), (3) at t + 1 from the eigenvalues c of Z_t, largest first; also
// inverse_roots = diag(C_t^{-1/2}) for (13).  One block.
//
// status[0] is 1 if all is finite, else 0, and nothing is written; status[1] is 1 where Z_t
// is too ill-conditioned for (13).
extern "C" __global__ void next_estimate(
    const double* c, const double* tr, const double* d, const double* rho, double* next_d,
    double* next_e, double* next_rho, double* inverse_roots, int* status, int R, int D, int N,
    double eta, double alpha, double epsilon, double delta, double max_condition) {
  int not_finite = !isfinite(*tr);
  double sum_d = 0, sum_roots = 0, least = (1 - eta) * *rho;
  FOR_EACH_IN_BLOCK(i, R) {
    // Exact arithmetic could not give less than `least`; roundoff can, below zero even.
    double root = sqrt(Max::of(c[i], least * least));
    inverse_roots[i] = 1 / root;
    not_finite += !isfinite(c[i]);
    sum_roots += root;
    sum_d += d[i];
  }
  not_finite = block_sum(not_finite);
  sum_roots = block_sum(sum_roots);
  sum_d = block_sum(sum_d);
  if (threadIdx.x == 0) {
    status[0] = not_finite == 0;
    status[1] = not_finite == 0 && !(c[0] < max_condition * c[R - 1]);
  }
  if (not_finite != 0) return;

  double tr_T = eta / N * *tr + (1 - eta) * (D * *rho + sum_d);
  double remainder = (tr_T - sum_roots) / (D - R);
  double floor = Max::of(epsilon, delta / inverse_roots[0]);
  double sum_next = 0;
  FOR_EACH_IN_BLOCK(i, R) {
    next_d[i] = Max::of(1 / inverse_roots[i] - remainder, floor);
    sum_next += next_d[i];
  }
  sum_next = block_sum(sum_next);
  remainder = Max::of(remainder, floor);
  double beta = remainder * (1 + alpha) + alpha / D * sum_next;
  FOR_EACH_IN_BLOCK(i, R) next_e[i] = 1 / (beta / next_d[i] + 1);
  if (threadIdx.x == 0) *next_rho = remainder;
}

// W_{t+1} = E_{t+1}^{1/2} R_{t+1}, unless something was not finite.  A block per row.
extern "C" __global__ void next_W(
    const double* R_next, const double* e, const int* status, real* W, int D) {
  if (status[0] == 0) return;
  size_t row = (size_t)blockIdx.x * D;
  double root = sqrt(e[blockIdx.x]);
  FOR_EACH_IN_BLOCK(i, D) W[row + i] = root * R_next[row + i];
}

// Where Z_t was too ill-conditioned for (13), orthonormalise the rows of A (R, D), first to last.
// One block, which seldom has anything to do.
//
// Gram and Schmidt's method, repeated for a row of which little was left, because that is mostly
// roundoff ("twice is enough").  A row of which nothing is left becomes the unit vector that is
// farthest from the rows before it.  A thread sees its own columns only; `dots` (R,) is scratch memory
// for what it must know of the others.
extern "C" __global__ void orthonormalise(
    double* A, double* dots, const int* status, int R, int D) {
  const int MAX_TRIALS = 8;
  const double ENOUGH = 0.5;
  if (status[1] == 0) return;
  for (int r = 0; r < R; ++r) {
    double* a = A + (size_t)r * D;
    double left = 0;
    for (int trial = 0; trial < MAX_TRIALS && !(left > ENOUGH); ++trial) {
      double largest = 0;
      FOR_EACH_IN_BLOCK(i, D) largest = Max::of(largest, fabs(a[i]));
      largest = block_max(largest);
      if (largest > 0) {
        double squares = 0;
        FOR_EACH_IN_BLOCK(i, D) squares += (a[i] / largest) * (a[i] / largest);
        double norm = sqrt(block_sum(squares));
        FOR_EACH_IN_BLOCK(i, D) a[i] = a[i] / largest / norm;
      } else {
        double most = 0;  // of what the rows before leave of a unit vector, 1 - sum_k A_ki^2
        FOR_EACH_IN_BLOCK(i, D) {
          a[i] = 1;
          for (int k = 0; k < r; ++k) a[i] -= A[(size_t)k * D + i] * A[(size_t)k * D + i];
          most = Max::of(most, a[i]);
        }
        most = block_max(most);
        int farthest = -1;
        FOR_EACH_IN_BLOCK(i, D) if (a[i] == most) farthest = i;
        farthest = block_max(farthest);
        FOR_EACH_IN_BLOCK(i, D) a[i] = i == farthest;
      }
      for (int k = 0; k < r; ++k) {
        double dot = 0;
        FOR_EACH_IN_BLOCK(i, D) dot += A[(size_t)k * D + i] * a[i];
        dot = block_sum(dot);
        if (threadIdx.x == 0) dots[k] = dot;
      }
      __syncthreads();
      double squares = 0;
      FOR_EACH_IN_BLOCK(i, D) {
        for (int k = 0; k < r; ++k) a[i] -= dots[k] * A[(size_t)k * D + i];
        squares += a[i] * a[i];
      }
      left = sqrt(block_sum(squares));
    }
    FOR_EACH_IN_BLOCK(i, D) a[i] /= left;
  }
}
