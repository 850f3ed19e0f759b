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
struct Pair {
  unsigned short p, q;
};

__device__ Pair players(int day, int game, int m) {
  int a = day + game, b = day - game;
  if (a >= m - 1) a -= m - 1;
  if (b < 0) b += m - 1;
  if (game == 0) a = m - 1;
  return {(unsigned short)(a < b ? a : b), (unsigned short)(a < b ? b : a)};
}

// Of a symmetric matrix the upper triangle is kept.  The stride of its rows is odd, so that neither
// neighbours in a row nor those in a column are in the same bank of shared memory.
__device__ double* element(double* A, int stride, int i, int j) {
  return i < j ? A + i * stride + j : A + j * stride + i;
}

// The rotation that makes a_pq zero, by the smaller of two angles; the diagonal elements become what
// it makes of them.  No element is larger than 1, and a_pq not so small that its square vanishes.
__device__ void rotation(double* a_pp, double* a_qq, double a_pq, double* cosine, double* sine) {
  double half = 0.5 * (*a_qq - *a_pp);
  double scale = rsqrt(half * half + a_pq * a_pq);
  double squared = 0.5 + 0.5 * fabs(half) * scale;  // cosine^2 = (1 + cos(2 angle)) / 2
  double inverse = rsqrt(squared);
  *cosine = squared * inverse;
  *sine = (half < 0 ? -0.5 : 0.5) * a_pq * scale * inverse;
  double change = *sine * inverse * a_pq;
  *a_pp -= change;
  *a_qq += change;
}

// Eigenvalues c, largest first, of Z (n, n), whose upper triangle is read; order[i] is the place in c
// of what has become the i-th diagonal element; rotations (max_sweeps (m - 1), m / 2, 2) are cosines
// and sines, of which *num_steps rows are written.  m is n, or n + 1 if n is odd: a row of zeros is
// rotated with nothing.
//
// One block, with shared memory for m^2 + 2 m numbers and m (m + 2) / 8 pairs, or with that much of
// other memory, `workspace`.  A matrix that is not finite has NaN as its eigenvalues.
extern "C" __global__ void jacobi(
    const double* Z, double* workspace, int n, int max_sweeps,
    double* c, int* order, double* rotations, int* num_steps) {
  DYNAMIC_SHARED_MEMORY(shared);
  int m = n + n % 2, games = m / 2, stride = m + 1;
  double* cosines = workspace ? workspace : shared;
  double* sines = cosines + games;
  double* A = sines + games;
  Pair* of_day = (Pair*)(A + m * stride);
  Pair* meetings = of_day + games;  // of two games: a rotation of rows with one of columns
  int num_meetings = games * (games - 1) / 2;
  double largest = 0, not_finite = 0;
  FOR_EACH_IN_BLOCK(k, m * m) {
    int i = k / m, j = k % m;
    double z = i < n && j < n ? Z[(i < j ? i : j) * n + (i < j ? j : i)] : 0;
    A[i * stride + j] = z;
    largest = Max::of(largest, fabs(z));
    if (!isfinite(z)) not_finite = 1;
  }
  FOR_EACH_IN_BLOCK(row, games)
    for (int column = row + 1; column < games; ++column)
      meetings[row * (2 * games - row - 1) / 2 + column - row - 1] = {
          (unsigned short)row, (unsigned short)column};
  largest = block_max(largest);
  bool is_finite = block_max(not_finite) == 0;
  int exponent = 0;
  if (is_finite) frexp(largest, &exponent);
  FOR_EACH_IN_BLOCK(k, m * stride) A[k] = ldexp(A[k], -exponent);
  __syncthreads();

  // Elements are relative to the diagonal elements beside them.  After a sweep in which all were
  // small, what is left is of the order of SMALL^2.
  const double SMALL = 1e-6, NEGLIGIBLE = 1e-12, VANISHING = 1e-30;
  int steps = 0;
  for (int sweep = 0; sweep < max_sweeps && is_finite; ++sweep) {
    double is_large = 0;
    for (int day = 0; day < m - 1; ++day, ++steps) {
      double* written = rotations + (size_t)steps * m;
      FOR_EACH_IN_BLOCK(game, games) {
        Pair pair = players(day, game, m);
        double *a_pp = A + pair.p * (stride + 1), *a_qq = A + pair.q * (stride + 1);
        double* a_pq = A + pair.p * stride + pair.q;
        double squared = *a_pq * *a_pq, beside = fabs(*a_pp * *a_qq);
        double cosine = 1, sine = 0;
        if (squared > Max::of(VANISHING * VANISHING, NEGLIGIBLE * NEGLIGIBLE * beside)) {
          if (squared > SMALL * SMALL * beside) is_large = 1;
          rotation(a_pp, a_qq, *a_pq, &cosine, &sine);
          *a_pq = 0;
        }
        of_day[game] = pair;
        written[2 * game] = cosines[game] = cosine;
        written[2 * game + 1] = sines[game] = sine;
      }
      __syncthreads();
      // Rows and columns at once: the four elements where two pairs meet depend on no others.
      FOR_EACH_IN_BLOCK(k, num_meetings) {
        Pair meeting = meetings[k];
        double c_row = cosines[meeting.p], s_row = sines[meeting.p];
        double c_column = cosines[meeting.q], s_column = sines[meeting.q];
        if (s_row == 0 && s_column == 0) continue;
        Pair row = of_day[meeting.p], column = of_day[meeting.q];
        double* pu = element(A, stride, row.p, column.p);
        double* pv = element(A, stride, row.p, column.q);
        double* qu = element(A, stride, row.q, column.p);
        double* qv = element(A, stride, row.q, column.q);
        double p_u = c_row * *pu - s_row * *qu, q_u = s_row * *pu + c_row * *qu;
        double p_v = c_row * *pv - s_row * *qv, q_v = s_row * *pv + c_row * *qv;
        *pu = c_column * p_u - s_column * p_v;
        *pv = s_column * p_u + c_column * p_v;
        *qu = c_column * q_u - s_column * q_v;
        *qv = s_column * q_u + c_column * q_v;
      }
      __syncthreads();
    }
    if (block_max(is_large) == 0) break;
  }

  FOR_EACH_IN_BLOCK(i, n) {
    double c_i = A[i * (stride + 1)];
    int larger = 0;
    for (int j = 0; j < n; ++j) {
      double c_j = A[j * (stride + 1)];
      larger += c_j > c_i || (c_j == c_i && j < i);
    }
    order[i] = is_finite ? larger : i;
    c[order[i]] = is_finite ? ldexp(c_i, exponent) : nan("");
  }
  if (threadIdx.x == 0) *num_steps = steps;
}

// Eigenvectors as the rows of `vectors` (n, n), row i times scales[i], in the order of jacobi().
// A block computes `count` columns.  Rotations are read `days` at a time, as waiting for each would
// take longer than making it; shared memory is for (count + days) m numbers.
extern "C" __global__ void eigenvectors(
    const int* order, const double* rotations, const int* num_steps, const double* scales,
    int n, int count, int days, double* vectors) {
  DYNAMIC_SHARED_MEMORY(V);  // (count, m): rows of the product of the rotations
  int m = n + n % 2, games = m / 2, first = blockIdx.x * count;
  double* read = V + count * m;
  FOR_EACH_IN_BLOCK(k, count * m) V[k] = k % m == first + k / m;
  for (int begin = 0, day = 0; begin < *num_steps; begin += days) {
    int here = *num_steps - begin < days ? *num_steps - begin : days;
    FOR_EACH_IN_BLOCK(k, here * m) read[k] = rotations[(size_t)begin * m + k];
    __syncthreads();
    for (int step = 0; step < here; ++step) {
      FOR_EACH_IN_BLOCK(k, count * games) {
        int game = k % games;
        double cosine = read[step * m + 2 * game], sine = read[step * m + 2 * game + 1];
        if (sine == 0) continue;
        Pair pair = players(day, game, m);
        double* row = V + k / games * m;
        double row_p = row[pair.p], row_q = row[pair.q];
        row[pair.p] = cosine * row_p - sine * row_q;
        row[pair.q] = sine * row_p + cosine * row_q;
      }
      day = day + 1 < m - 1 ? day + 1 : 0;
      __syncthreads();
    }
  }
  __syncthreads();
  FOR_EACH_IN_BLOCK(k, count * n) {
    int column = first + k / n, i = k % n;
    if (column < n) vectors[(size_t)order[i] * n + column] = scales[order[i]] * V[k / n * m + i];
  }
}
