//! The one place that tells wasmtime to run machine code from a file. `unsafe` means here: nobody but this program
//! wrote these bytes. The artifact store has checked their keyed hash; it calls nothing else.
#![expect(
    unsafe_code,
    reason = "loading compiled artifacts is unsafe in wasmtime: whoever writes them can run any code"
)]

use std::fs::File;
use std::os::fd::AsRawFd;

use wasmtime::component::Component;

/// Maps an authenticated artifact. The descriptor is the one over which the hash was computed: the path given to
/// wasmtime names that descriptor (wasmtime 48 takes no open file for a component), so a file that was meanwhile
/// renamed into its place is never looked at. Where `/proc` is not mounted, `None`: read the bytes instead.
pub(super) fn map(engine: &wasmtime::Engine, checked: &File) -> Option<wasmtime::Result<Component>> {
    let path = format!("/proc/self/fd/{}", checked.as_raw_fd());
    if !std::path::Path::new(&path).exists() {
        return None;
    }
    // SAFETY: the contents were produced by `Engine::precompile_component` of this program: their BLAKE3 hash with
    // the cache's secret key was verified over this descriptor. Files are never written in place (rename only), and
    // the folder is writable for this program's user alone, so the mapping does not change underneath.
    Some(unsafe { Component::deserialize_file(engine, path) })
}

/// Takes over an artifact that is in memory: just compiled, or read and authenticated.
pub(super) fn load(engine: &wasmtime::Engine, checked: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from `Engine::precompile_component` in this process, or their keyed hash was verified.
    unsafe { Component::deserialize(engine, checked) }
}
