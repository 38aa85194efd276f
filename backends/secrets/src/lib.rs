//! Secrets of an install: sealing, opening, handing out, and keeping them out of every output.
