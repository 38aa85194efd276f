//! Clients of the platform's internal APIs (interop 6.3 and 6.4).
