#!/usr/bin/env python3
"""Compute FBANK features of a data directory.

<log-dir> defaults to <data-dir>/log, and <fbank-dir> to <data-dir>/data.
"""

from nnet.drivers.extract_features import feature_driver

main = feature_driver("fbank", __doc__ or "")

if __name__ == "__main__":
    main()
