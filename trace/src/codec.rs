//! A trace as bytes.
