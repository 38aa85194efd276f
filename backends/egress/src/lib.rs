//! Outbound requests of guests: what they may reach, and the connections that carry them.
