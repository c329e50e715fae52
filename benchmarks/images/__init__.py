"""Image benchmarks: held-out digit, one class, outliers of other kinds, a user's own images.

    python -m benchmarks.images heldout-digit --cases 4 5 7 --seeds 0 1 2
    python -m benchmarks.images one-class --cases fashion-mnist:0 cifar-10:3
    python -m benchmarks.images out-of-manifold --cases mnist --methods EBGAN control
    python -m benchmarks.images folder pictures --size 64 64
    python -m benchmarks.images heldout-digit --development --methods EBGAN no-replay
    python -m benchmarks.images report --out benchmarks/results/images.md

Every run is one JSON file under ``benchmarks/results``; a run that has its file is not
repeated, so that a benchmark can be stopped, taken up again, and filled by several machines.
With ``--keep FOLDER`` the trained detectors are kept as well, for `ebgan_detect.load`.
Nothing but normal training images reaches `fit`; labels are used to score, after it.
"""
