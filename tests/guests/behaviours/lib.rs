//! Empty: the guests are this package's examples, each a `cdylib` of its own (see `README.md` one folder up).
