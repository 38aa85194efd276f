//! Key-value storage of an install: one seam, two backends.
