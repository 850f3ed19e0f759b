// Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method, in double precision.
//
// A rotation of rows and columns p and q makes a_pq zero.  Rotations of disjoint pairs do not touch
// one another, so n/2 of them are made at a time; n - 1 such steps, in the order of a round-robin
// tournament, make a sweep over all pairs.  Off-diagonal elements shrink quadratically: a matrix that
// is nearly diagonal, as is that of the online natural gradient in the basis of its last update,
// needs a few sweeps only.  As small elements are judged by the diagonal elements beside them, small
// eigenvalues are as exact as large ones (Demmel and Veselic, "Jacobi's method is more accurate than
// QR", 1992).
//
// jacobi() works on the matrix alone, one block with all of it in shared memory, and writes the
// rotations down; eigenvectors() makes them again on the rows of the unit matrix, which do not depend
// on one another, with as many blocks as one likes.

// The two players of game `game` (0 to m/2 - 1) on day `day` (0 to m - 2) of a tournament of m
// players: p < q.  The last player stays where it is, and the others walk around a table.
__device__ void players(int day, int game, int m, int* p, int* q) {
  int a = game == 0 ? m - 1 : (day + game) % (m - 1);
  int b = game == 0 ? day : (day + m - 1 - game) % (m - 1);
  *p = a < b ? a : b;
  *q = a < b ? b : a;
}

// Of a symmetric matrix (m, m), the upper triangle is kept.
__device__ double* element(double* A, int m, int i, int j) {
  return i < j ? A + i * m + j : A + j * m + i;
}

// Eigenvalues c, largest first, of Z (n, n), whose upper triangle is read; order[i] is the place in c of what has become the i-th
// diagonal element; rotations (max_sweeps (m - 1), m / 2, 2) are cosines and sines, of which
// *num_steps rows are written.  m is n, or n + 1 if n is odd: a row of zeros is rotated with nothing.
//
// One block, with shared memory for m + m^2 numbers, or m numbers when there is a `workspace` (m, m).
// A matrix that is not finite has NaN as its eigenvalues.
extern "C" __global__ void jacobi(
    const double* Z, double* workspace, int n, int max_sweeps,
    double* c, int* order, double* rotations, int* num_steps) {
  DYNAMIC_SHARED_MEMORY(memory);
  int m = n + n % 2, games = m / 2;
  double* cosines = memory;
  double* sines = memory + games;
  double* A = workspace ? workspace : memory + m;
  double trace = 0, not_finite = 0;
  FOR_EACH_IN_BLOCK(k, m * m) {
    int i = k / m, j = k % m;
    double z = i < n && j < n ? Z[(i < j ? i : j) * n + (i < j ? j : i)] : 0;
    A[k] = z;
    not_finite += !isfinite(z);
    if (i == j) trace += fabs(z);
  }
  trace = block_sum(trace);
  not_finite = block_sum(not_finite);

  // Elements are relative to the diagonal elements beside them.  After a sweep in which all were
  // small, what is left is of the order of SMALL^2.
  const double SMALL = 1e-6, NEGLIGIBLE = 1e-12;
  double vanishing = 1e-30 * trace;
  int steps = 0;
  for (int sweep = 0; sweep < max_sweeps && not_finite == 0; ++sweep) {
    int num_large = 0;
    for (int day = 0; day < m - 1; ++day, ++steps) {
      double* written = rotations + (size_t)steps * m;
      FOR_EACH_IN_BLOCK(game, games) {
        int p, q;
        players(day, game, m, &p, &q);
        double a_pp = A[p * m + p], a_qq = A[q * m + q], a_pq = A[p * m + q];
        double cosine = 1, sine = 0;
        double beside = sqrt(fabs(a_pp * a_qq));
        if (fabs(a_pq) > Max::of(vanishing, NEGLIGIBLE * beside)) {
          // The smaller of the two angles for which the new a_pq is zero, by its tangent.
          double cotangent = (a_qq - a_pp) / (2 * a_pq);  // of twice the angle
          double tangent = 1 / (fabs(cotangent) + sqrt(1 + cotangent * cotangent));
          if (cotangent < 0) tangent = -tangent;
          cosine = 1 / sqrt(1 + tangent * tangent);
          sine = tangent * cosine;
          num_large += fabs(a_pq) > SMALL * beside;
        }
        written[2 * game] = cosines[game] = cosine;
        written[2 * game + 1] = sines[game] = sine;
      }
      __syncthreads();
      // Rows and columns at once: the four elements where two pairs meet depend on no others.
      FOR_EACH_IN_BLOCK(k, games * games) {
        int row = k / games, column = k % games;
        if (row > column) continue;
        int p, q, u, v;
        players(day, row, m, &p, &q);
        players(day, column, m, &u, &v);
        double c_row = cosines[row], s_row = sines[row];
        double c_column = cosines[column], s_column = sines[column];
        if (s_row == 0 && s_column == 0) continue;
        if (row == column) {
          double tangent_a_pq = s_row / c_row * A[p * m + q];
          A[p * m + p] -= tangent_a_pq;
          A[q * m + q] += tangent_a_pq;
          A[p * m + q] = 0;
        } else {
          double *pu = element(A, m, p, u), *pv = element(A, m, p, v);
          double *qu = element(A, m, q, u), *qv = element(A, m, q, v);
          double p_u = c_row * *pu - s_row * *qu, q_u = s_row * *pu + c_row * *qu;
          double p_v = c_row * *pv - s_row * *qv, q_v = s_row * *pv + c_row * *qv;
          *pu = c_column * p_u - s_column * p_v;
          *pv = s_column * p_u + c_column * p_v;
          *qu = c_column * q_u - s_column * q_v;
          *qv = s_column * q_u + c_column * q_v;
        }
      }
      __syncthreads();
    }
    if (block_sum(num_large) == 0) break;
  }

  FOR_EACH_IN_BLOCK(i, n) {
    double c_i = A[i * m + i];
    int larger = 0;
    for (int j = 0; j < n; ++j) {
      double c_j = A[j * m + j];
      larger += c_j > c_i || (c_j == c_i && j < i);
    }
    order[i] = not_finite == 0 ? larger : i;
    c[order[i]] = not_finite == 0 ? c_i : nan("");
  }
  if (threadIdx.x == 0) *num_steps = steps;
}

// Eigenvectors as the rows of `vectors` (n, n), row i times scales[i], in the order of jacobi().
// A block computes `count` columns, in shared memory for count m numbers.
extern "C" __global__ void eigenvectors(
    const int* order, const double* rotations, const int* num_steps, const double* scales,
    int n, int count, double* vectors) {
  DYNAMIC_SHARED_MEMORY(V);  // (count, m): rows of the product of the rotations
  int m = n + n % 2, games = m / 2, first = blockIdx.x * count;
  FOR_EACH_IN_BLOCK(k, count * m) V[k] = k % m == first + k / m;
  __syncthreads();
  for (int step = 0; step < *num_steps; ++step) {
    const double* written = rotations + (size_t)step * m;
    FOR_EACH_IN_BLOCK(k, count * games) {
      int game = k % games, p, q;
      double cosine = written[2 * game], sine = written[2 * game + 1];
      if (sine == 0) continue;
      players(step % (m - 1), game, m, &p, &q);
      double* row = V + k / games * m;
      double row_p = row[p], row_q = row[q];
      row[p] = cosine * row_p - sine * row_q;
      row[q] = sine * row_p + cosine * row_q;
    }
    __syncthreads();
  }
  FOR_EACH_IN_BLOCK(k, count * n) {
    int column = first + k / n, i = k % n;
    if (column < n) vectors[(size_t)order[i] * n + column] = scales[order[i]] * V[k / n * m + i];
  }
}
