"""Files that are never half-written, HDF5 that holds plain data only, weights, and the run folder."""
