//! Traces as bytes and where they are kept: packing and proof ([`pack`], [`unpack`]), the streams by tenant in Redis with their index, and the
//! self-contained file of `longshore export`. What stands in a trace is `longshore_proto::trace`.

mod codec;
