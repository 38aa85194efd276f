//! A platform for tests and laptops: the internal APIs of interop 6.3 and 6.4, from a seed file.
