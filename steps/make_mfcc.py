#!/usr/bin/env python3
"""Compute MFCC features of a data directory.

<log-dir> defaults to <data-dir>/log, and <mfcc-dir> to <data-dir>/data.
"""

from nnet.drivers.extract_features import feature_driver

main = feature_driver("mfcc", __doc__ or "")

if __name__ == "__main__":
    main()
