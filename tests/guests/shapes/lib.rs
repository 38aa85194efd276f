//! Empty: the guests are this package's examples.
