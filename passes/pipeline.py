"""The pipeline from traced volta to linalg: one list."""

#: Names of passes in order; upstream passes are nested where they run on functions.
PIPELINE = (
    "volta-autodiff",
    "volta-vmap",
    "volta-inline",
    "volta-unroll",
    "cse",
    "volta-layout",
    "volta-simplify",
    "cse",
    "volta-align",
    "cse",
    "volta-remat",
    "volta-fuse",
    "volta-alias",
    "volta-outline",
    "convert-volta-to-linalg",
)
