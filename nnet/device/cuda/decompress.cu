// Frames of input out of the compressed matrices of examples, equal to the last bit to what
// nnet.io.matrices gives: each step is rounded by itself, so that none is joined with the next.

enum Format { CM, CM2, CM3 };

// A number of an archive, which may stand at any address.
template <typename T>
__device__ T number_at(const unsigned char* place) {
  T value;
  memcpy(&value, place, sizeof(T));
  return value;
}

// An element of the layout CM, whose code lies between two of the four quantiles of its column.
__device__ float between_quantiles(const unsigned char* header, float low, float range, int code) {
  int segment = (code > 64) + (code > 192);
  float unit = __fmul_rn(range, 1.52590218966964e-05f);
  float begin = __fadd_rn(low, __fmul_rn(unit, number_at<unsigned short>(header + 2 * segment)));
  float end = __fadd_rn(low, __fmul_rn(unit, number_at<unsigned short>(header + 2 * segment + 2)));
  float rise = end - begin;
  if (segment == 0) return __fadd_rn(begin, __fmul_rn(code, rise * (1.0f / 64)));
  if (segment == 1) return __fadd_rn(begin, __fmul_rn(code - 64, rise * (1.0f / 128)));
  return (float)__dadd_rn(begin, __dmul_rn(__fmul_rn(code - 192, rise), 1.0 / 63));
}

// An element of the layouts CM2 and CM3, in which codes of 0 to `most` divide the range evenly.
__device__ float in_range(float low, float range, int code, double most) {
  return __fadd_rn(low, __fmul_rn(code, (float)__dmul_rn(range, 1.0 / most)));
}

// frames (blocks, num_rows, dim): a block for each example.  data (blocks, size) and places (blocks, 7)
// are as in nnet/io/compressed_frames.py.
extern "C" __global__ void decompress(
    const unsigned char* data, const int* places, int size, int num_rows, int dim, float* frames) {
  const unsigned char* example = data + (size_t)blockIdx.x * size;
  const int* place = places + 7 * blockIdx.x;
  int format = place[0], rows = place[1], cols = place[2], first_row = place[3];
  const unsigned char *scale = example + place[4], *codes = example + place[5];
  const unsigned char *headers = codes - 8 * cols, *spk_info = example + place[6];
  float low = number_at<float>(scale), range = number_at<float>(scale + 4);
  frames += (size_t)blockIdx.x * num_rows * dim;
  FOR_EACH_IN_BLOCK(i, num_rows * dim) {
    int row = first_row + i / dim, col = i % dim;
    if (col >= cols)
      frames[i] = number_at<float>(spk_info + 4 * (col - cols));
    else if (format == CM)
      frames[i] = between_quantiles(headers + 8 * col, low, range, codes[col * rows + row]);
    else if (format == CM2)
      frames[i] = in_range(
          low, range, number_at<unsigned short>(codes + 2 * (row * cols + col)), 65535);
    else
      frames[i] = in_range(low, range, codes[row * cols + col], 255);
  }
}
