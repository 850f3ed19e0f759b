// The p-norm for p = 2 over groups of `group` neighbours: y_j = (sum_{i in group j} x_i^2)^{1/2}.

// `size` is the number of outputs, over all rows.
extern "C" __global__ void pnorm2(const real* x, real* y, unsigned size, unsigned group) {
  FOR_EACH_ELEMENT(j, size) {
    const real* members = x + (size_t)j * group;
    real squares = 0;
    for (unsigned i = 0; i < group; ++i) squares += members[i] * members[i];
    y[j] = sqrt(squares);
  }
}

// dF/dx_i = x_i / y_j dF/dy_j, and zero where y_j is.  `size` is the number of inputs, over all rows.
extern "C" __global__ void pnorm2_backward(
    const real* x, const real* y, const real* d_y, real* d_x, unsigned size, unsigned group, double tiny) {
  FOR_EACH_ELEMENT(i, size) {
    unsigned j = i / group;
    d_x[i] = x[i] * (d_y[j] / Max::of(y[j], (real)tiny));
  }
}
